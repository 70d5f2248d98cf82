from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from irdet.core.errors import ModelError

QUICK = ("--duration", "0.02", "--warmup", "0", "--imgsz", "96x72", "--no-fresh")


@pytest.fixture
def bench(irdet_command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    return lambda *words: irdet_command("bench", *words, *QUICK)


def _data(root: Path) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    image, mask = np.full((72, 96), 40, np.uint8), np.zeros((72, 96), np.uint8)
    mask[30:33, 40:43] = 255
    image[mask > 0] = 220
    cv2.imwrite(str(root / "images/a.png"), image)
    cv2.imwrite(str(root / "masks/a.png"), mask)
    return root


def test_engines_side_by_side(bench: Callable[..., Any], tmp_path: Path) -> None:
    done = bench("tophat", "--engine", "mlcl-edge@cpu", "--export-times", "times.json")
    assert done.code == 0
    for words in (
        "Engine alone",
        "frame of 96x72 px with 3 bright spots to targets",
        "by the first's",
        "onnxruntime",
        "p99",
        "frames/s",
    ):
        assert words in done.out
    record = json.loads((tmp_path / "runs/bench/tophat/bench.json").read_text())
    assert [one["name"] for one in record["engines"]] == ["tophat", "mlcl-edge@cpu"]
    ratio, low, high = record["engines"][1]["end_to_end"]["ratio_to_first"]
    assert ratio > 1 and low <= ratio <= high
    assert set(json.loads((tmp_path / "times.json").read_text())) == {"tophat", "mlcl-edge@cpu"}
    told = "latency.png is left out" in done.err
    assert (tmp_path / "runs/bench/tophat/latency.png").is_file() != told, "matplotlib draws it, or its lack is told"


def test_json_and_a_fresh_process(irdet_command: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = irdet_command("bench", "--engine", "tophat", *QUICK[:-1], "--json", "--quiet")
    assert done.code == 0 and done.err == ""
    (one,) = json.loads(done.out)["engines"]
    assert one["fresh"]["start_to_result"] > one["fresh"]["first"] > 0
    assert one["end_to_end"]["p99_ms"] >= one["end_to_end"]["p50_ms"]


def test_gates(bench: Callable[..., Any], tmp_path: Path) -> None:
    data = _data(tmp_path / "data")
    passed = bench("tophat", "--max-p99-ms", "10000", "--data", data, "--min-iou", "0", "--views", "2")
    assert passed.code == 0 and "looked at in 2 ways round" in passed.out
    slow = bench("tophat", "--max-p99-ms", "0.0001", "--quiet")
    assert slow.code == 1 and "more than --max-p99-ms 0.0001" in slow.err and slow.err.count("\n") == 1
    bad = bench("tophat", "--data", data, "--min-iou", "1.01", "--quiet")
    assert bad.code == 1 and "less than --min-iou 1.01" in bad.err
    assert "IoU" in bad.out, "the figures are shown although the gate is missed"


def test_a_run_that_fails_leaves_no_empty_folder(
    bench: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise ModelError("the device is gone")

    monkeypatch.setattr("irdet.evaluation.bench.measure.bench", lost)
    assert bench("tophat", "--quiet").code == 1
    assert (tmp_path / "runs/bench").is_dir() and not any((tmp_path / "runs/bench").iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--min-iou", "0.5"), "add --data"),
        (("--views", "3"), "views 3: must be 1, 2 or 4"),
        (("--split", "test"), "--split is about labelled frames: add --data"),
        (("tophat", "tophat"), "named twice"),
        (("tophat", "-m", "tophat"), "named twice"),
        (("tophot",), "did you mean tophat"),
        (("mlcl-edge@tpu",), "no device is called 'tpu'"),
        (("mlcl-etch@tpu",), "no model is called"),
        (("none.onnx",), "no such file"),
        (("--batch", "0"), "--batch"),
        (("tophat@cuda",), "CPU alone"),
        (("--max-p99-ms", "nan"), "--max-p99-ms nan: give a finite number"),
        (("--max-p99-ms", "-1"), "--max-p99-ms"),
        (("--min-iou", "nan"), "--min-iou nan: give a finite number"),
        (("--idle-ms", "inf"), "--idle-ms inf: give a finite number"),
        (("tophat", "--no-fresh", "--data", "nowhere"), "nowhere"),
        (("tophat", "--export-times", "."), "is a folder, not a file"),
        (("tophat", "--no-fresh", "--name", "a/b"), "must be a folder name without path"),
    ],
)
def test_misuse_in_one_line(bench: Callable[..., Any], words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = bench(*words)
    assert done.code in (1, 2) and told in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
