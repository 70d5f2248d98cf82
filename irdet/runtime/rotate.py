"""Long runs in parts: when a part is large or old enough, its files are finished and the next part begins."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.runtime.detector import Detection
from irdet.runtime.sinks import Sink

#: Seconds between two looks at how large a part has become, and so many times what a look takes.
LOOK, PAUSE = 1.0, 50.0

_UNITS = {
    **{"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0},
    **{"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30},
}


@dataclass(frozen=True)
class Rotation:
    """When a part is over.

    Attributes:
        size: Bytes of its files; None where its age decides.
        age: Seconds since its first frame; None where its size decides.
    """

    size: int | None = None
    age: float | None = None


def parse_rotation(text: str) -> Rotation:
    """Reads a size (`500MB`, `1GiB`) or an age (`30min`, `1h`, `1d`).

    Raises:
        UsageError: It is neither.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text, re.ASCII)
    unit = match[2].lower() if match else ""
    if match is None or unit not in _UNITS or not 1 <= float(match[1]) * _UNITS[unit] < math.inf:
        raise UsageError(f"--rotate {text}: give a size or an age, for instance 500MB or 1h")
    value = float(match[1]) * _UNITS[unit]
    return Rotation(age=value) if unit in ("s", "min", "h", "d") else Rotation(size=int(value))


class RotatingSink:
    """Hands the frames to sinks of its own in `part-0001`, `part-0002` ...; each part's files are whole. See `Sink`.

    Args:
        folder: Where the parts go.
        make: Makes the sinks of a part in its folder.
        rotation: When a part is over.
        clock: Tells the time, seconds.
    """

    def __init__(
        self,
        folder: Path,
        make: Callable[[Path], Sequence[Sink]],
        rotation: Rotation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path: Path | None = folder
        self._folder = folder
        self._make = make
        self._rotation = rotation
        self._clock = clock
        self._number = 1
        self._begun: float | None = None
        self._due = clock() + LOOK
        self._sinks = list(make(self._part))

    @property
    def wants_picture(self) -> bool:
        """Whether one of its sinks needs the annotated picture."""
        return any(sink.wants_picture for sink in self._sinks)

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None) -> None:
        """Hands the frame on, in the next part where this one is over."""
        if self._is_over():
            self.close()
            self._number += 1
            self._begun = None
            self._sinks = list(self._make(self._part))
        if self._begun is None:
            self._begun = self._clock()
        for sink in self._sinks:
            sink.write(detection, picture)

    def close(self) -> None:
        """Finishes the part's files."""
        for sink in self._sinks:
            sink.close()

    @property
    def _part(self) -> Path:
        return self._folder / f"part-{self._number:04d}"

    def _is_over(self) -> bool:
        now = self._clock()
        if self._begun is None:
            return False
        if self._rotation.age is not None:
            return now - self._begun >= self._rotation.age
        if now < self._due:
            return False
        files = (path for path in self._part.rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in files)
        # Thousands of masks take a second to walk through, in which no frame is written.
        done = self._clock()
        self._due = done + max(LOOK, PAUSE * (done - now))
        return size >= (self._rotation.size or 0)
