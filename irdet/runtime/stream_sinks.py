"""Where results go besides files of lines: standard output, UDP, one file in COCO's form. See `irdet.runtime.sinks`."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar, TextIO

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, UsageError
from irdet.core.files import replacing
from irdet.runtime.detector import Detection
from irdet.runtime.sinks import frame_line, frame_record

#: A datagram is no longer than this (bytes): what one Ethernet frame carries, so that none is lost in fragments.
DATAGRAM = 1400


class StdoutSink:
    """The lines of `JsonLinesSink` on standard output, each handed on at once, for the next program in a pipe."""

    wants_picture: ClassVar[bool] = False

    def __init__(self, stream: TextIO | None = None) -> None:
        self.path: Path | None = None
        self._stream = stream or sys.stdout
        self._frames = 0

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None = None) -> None:
        """Writes the frame's line."""
        try:
            self._stream.write(frame_line(detection))
            self._stream.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                # What could not be written would be tried again at the interpreter's end.
                self._stream.close()
            gone = isinstance(error, BrokenPipeError)
            why = "was closed" if gone else f"cannot be written ({error.strerror or error})"
            raise IrdetError(f"standard output {why} after {self._frames} frames; files are kept") from error
        self._frames += 1

    def close(self) -> None:
        """Does nothing."""


class UdpSink:
    """A datagram of JSON a frame, as `JsonLinesSink` writes it. See `Sink`.

    UDP promises nothing: a receiver that is not there, or too slow, misses datagrams and does not hold up the run. A
    frame with more targets than fit into one has the best ones, and `left_out` says how many are not in it.

    Args:
        address: `HOST:PORT`.

    Raises:
        UsageError: Not such an address, or no such host.
    """

    wants_picture: ClassVar[bool] = False

    def __init__(self, address: str) -> None:
        self.path: Path | None = None
        family, self._to = parse_address(address)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None = None) -> None:
        """Sends the frame's datagram."""
        with contextlib.suppress(OSError):  # nobody listens, or the buffer is full
            self._socket.sendto(datagram(frame_record(detection)), self._to)

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


def parse_address(text: str) -> tuple[socket.AddressFamily, Any]:
    """Reads `HOST:PORT` as a family and an address of sockets.

    Raises:
        UsageError: Not such an address, or no such host.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"--udp {text}: give HOST:PORT, for instance 192.168.1.20:5000")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--udp {text}: {getattr(error, 'strerror', None) or 'no name of a host'}") from error
    return found[0], found[4]


def datagram(record: dict[str, Any]) -> bytes:
    """Returns a frame's record as JSON of at most `DATAGRAM` bytes; of its targets the best ones, as many as fit."""
    targets = record["targets"]
    fit, over = 0, len(targets) + 1
    data = _packed(record, len(targets))
    if len(data) <= DATAGRAM:
        return data
    while over - fit > 1:  # how many fit
        middle = (fit + over) // 2
        if len(_packed(record, middle)) <= DATAGRAM:
            fit = middle
        else:
            over = middle
    return _packed(record, fit)


def _packed(record: dict[str, Any], count: int) -> bytes:
    targets = record["targets"]
    cut = {} if count == len(targets) else {"left_out": len(targets) - count}
    return json.dumps({**record, "targets": targets[:count], **cut}, allow_nan=False, separators=(",", ":")).encode()


class CocoSink:
    """One JSON file as COCO has it: `images`, `annotations` with `score`, one category. See `Sink`.

    It is written when the run ends; a run that is killed has its frames in the lines of `JsonLinesSink`.

    Args:
        path: The file to write.
    """

    wants_picture: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._path = path
        # On disk until the end: a long run must not grow in memory.
        self._images = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed in close
        self._annotations = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed in close
        self._frames = self._targets = 0

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None = None) -> None:
        """Takes the frame and its targets."""
        record = frame_record(detection)
        self._frames += 1
        height, width = detection.frame.shape
        image = {
            "id": self._frames,
            "file_name": record["source"],
            "width": width,
            "height": height,
            "frame": record["frame"],
            "time": record["time"],
        }
        try:
            self._images.write(json.dumps(image) + "\n")
            for target in record["targets"]:
                self._targets += 1
                known = {"id": self._targets, "image_id": self._frames, "category_id": 1, "iscrowd": 0}
                self._annotations.write(json.dumps({**known, **target}, allow_nan=False) + "\n")
        except OSError as error:
            raise IrdetError(f"cannot keep what goes into {self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Writes the file, in one step, where there was a frame."""
        if self._frames and not self._images.closed:
            with replacing(self._path) as temporary, temporary.open("w", encoding="utf-8") as file:
                file.write('{"info": {"description": "irdet"}, "categories": [{"id": 1, "name": "target"}]')
                for name, lines in (("images", self._images), ("annotations", self._annotations)):
                    lines.seek(0)
                    file.write(f',\n"{name}": [')
                    for number, line in enumerate(lines):
                        file.write((",\n" if number else "\n") + line.rstrip("\n"))
                    file.write("]")
                file.write("}\n")
        self._images.close()
        self._annotations.close()
