from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irdet.core.errors import IrdetError, UsageError
from irdet.runtime.detector import Detection
from irdet.runtime.sinks import JsonLinesSink, frame_record
from irdet.runtime.stream_sinks import DATAGRAM, CocoSink, StdoutSink, UdpSink, datagram


def test_standard_output_has_the_lines_of_the_file(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    stream = io.StringIO()
    sinks = StdoutSink(stream), JsonLinesSink(tmp_path / "t.jsonl")
    for index in range(3):
        for sink in sinks:
            sink.write(detect(index, index / 25))
    for sink in sinks:
        sink.close()
    assert stream.getvalue() == (tmp_path / "t.jsonl").read_text() and not stream.closed


def test_a_reader_that_leaves_is_told(detect: Callable[..., Detection]) -> None:
    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with pytest.raises(IrdetError, match="standard output was closed after 0 frames"):
        StdoutSink(Closed()).write(detect())


def test_a_full_disk_is_no_reader_that_leaves(detect: Callable[..., Detection]) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(IrdetError, match=r"cannot be written \(No space left on device\) after 0 frames"):
        StdoutSink(Full()).write(detect())


def test_datagrams_arrive(detect: Callable[..., Detection]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        sink = UdpSink(f"127.0.0.1:{receiver.getsockname()[1]}")
        detections = [detect(index, index / 25) for index in range(3)]
        for detection in detections:
            sink.write(detection)
        assert [json.loads(receiver.recv(65536)) for _ in detections] == [frame_record(one) for one in detections]
        sink.close()


def test_nobody_needs_to_listen(detect: Callable[..., Detection]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    sink = UdpSink(f"127.0.0.1:{port}")
    for index in range(20):
        sink.write(detect(index))
    sink.close()


@given(st.integers(0, 200), st.integers(0, 300))
def test_a_datagram_holds_the_best_that_fit(count: int, length: int) -> None:
    record = {"frame": 1, "time": None, "source": "x" * length, "targets": [{"x": i, "y": 2.5} for i in range(count)]}
    data = datagram(record)
    assert len(data) <= DATAGRAM
    told = json.loads(data)
    kept = len(told["targets"])
    assert told["targets"] == record["targets"][:kept]  # type: ignore[index]
    assert told.get("left_out", 0) == count - kept
    if kept < count:
        more = json.dumps({**told, "targets": record["targets"][: kept + 1]}, separators=(",", ":"))  # type: ignore[index]
        assert len(more) > DATAGRAM - 4  # one more would not have fitted


@pytest.mark.parametrize("address", ["", "host", ":5000", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "a:b"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UsageError, match="--udp"):
        UdpSink(address)


def test_coco_gives_the_targets_back(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    detections = [detect(index, source=f"{index}.png", targets=index) for index in range(4)]
    sink = CocoSink(tmp_path / "new" / "coco.json")
    for detection in detections:
        sink.write(detection)
    sink.close()
    sink.close()
    told: dict[str, Any] = json.loads((tmp_path / "new" / "coco.json").read_text())
    assert [(one["file_name"], one["width"], one["height"]) for one in told["images"]] == [
        (f"{index}.png", 80, 60) for index in range(4)
    ]
    assert len({one["id"] for one in told["annotations"]}) == sum(len(one.targets) for one in detections)
    for image, detection in zip(told["images"], detections, strict=True):
        mine = [one for one in told["annotations"] if one["image_id"] == image["id"]]
        assert [tuple(one["bbox"]) for one in mine] == [target.bbox for target in detection.targets]
        assert all(one["category_id"] == told["categories"][0]["id"] and 0 < one["score"] <= 1 for one in mine)


def test_coco_without_a_frame_writes_nothing(tmp_path: Path) -> None:
    CocoSink(tmp_path / "coco.json").close()
    assert not list(tmp_path.iterdir())
