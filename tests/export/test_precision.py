"""Reduced exports from end to end: what is written replays, carries its record, and passed the gate."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from irdet.core.errors import DataError, IrdetError, UsageError
from irdet.core.frame import Preprocessor
from irdet.core.images import read_image
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.engines import open_engine
from irdet.engines.golden import read_golden, replay
from irdet.export import gate, int8
from irdet.export import precision as exporting
from irdet.export.onnx import OnnxOptions
from irdet.export.precision import MAX_DROP, PrecisionOptions, export_reduced
from irdet.models import LoadedModel

SIZE = OnnxOptions(size=(96, 64), simplify=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    ("half", "target", "options"),
    [
        (True, None, SIZE),
        (False, "tensorrt", replace(SIZE, size=None)),
        (False, "cpu", SIZE),
        (True, "tensorrt", replace(SIZE, opset=19, batch=2)),
    ],
    ids=["fp16", "int8-tensorrt", "int8-cpu", "int8+fp16"],
)
def test_round_trip(
    edge: LoadedModel, made: Path, cache: Path, tmp_path: Path, half: bool, target: Any, options: OnnxOptions
) -> None:
    told: list[str] = []

    def stage(what: str, total: int) -> Any:
        told.append(what)
        return exporting._silent(what, total)

    asked = PrecisionOptions(half, target, made if target else None, 18, 0.1, cache)
    result, report = export_reduced(
        edge, tmp_path / "m.onnx", options, asked, data=None if target else made, stage=stage
    )
    assert {file.name for file in tmp_path.iterdir()} == {"m.onnx", "m.golden.npz"}
    (entry,) = onnx.load(result.path).metadata_props
    info = ModelInfo.from_json(entry.value)
    assert entry.key == METADATA_KEY and info == result.info
    assert (info.precision, info.target, info.opset) == (asked.name, target, options.opset)
    assert (info.width, info.height) == (options.size or (None, None))
    assert info.weights_sha256 == edge.info.weights_sha256
    assert info.calibration == (report.calibration.digest if report.calibration else None)
    assert (report.half is not None, report.calibration is not None) == (half, target is not None)

    verdict = report.verdict
    assert verdict is not None and verdict.drop <= 0.1 and verdict.before.images == 9
    assert verdict.before.iou > 0.3 and verdict.share > 0.98 and verdict.max_difference > 0
    assert info.metrics["gate"]["fp32"]["iou"] == pytest.approx(verdict.before.iou)
    assert [what for what in told if what.startswith("measuring")] == ["measuring fp32", f"measuring {asked.name}"]

    graph = onnx.load(result.path)
    ports = (*graph.graph.input, *graph.graph.output)
    kinds = [port.type.tensor_type.elem_type for port in ports]
    assert kinds == [TensorProto.UINT8 if target == "cpu" else TensorProto.FLOAT, TensorProto.FLOAT]
    if options.size:
        sides = [[d.dim_value for d in port.type.tensor_type.shape.dim] for port in ports]
        assert sides == [[options.batch, 1, 64, 96]] * 2
    halves = [t for t in graph.graph.initializer if t.data_type == TensorProto.FLOAT16]
    assert bool(halves) == half
    with open_engine(result.path, device="cpu") as engine:
        outcome = replay(engine, read_golden(result.golden))
    assert outcome.passed and outcome.targets > 0


def test_fp16_without_data_says_what_it_did_not_check(edge: LoadedModel, tmp_path: Path) -> None:
    result, report = export_reduced(edge, tmp_path / "m.onnx", SIZE, PrecisionOptions(half=True))
    assert report.verdict is None and "made frames alone" in result.warnings[0]


def spoil(monkeypatch: pytest.MonkeyPatch, names: Callable[[tuple[str, ...]], set[str]]) -> None:
    """Lets the quantiser ruin layers unless they are kept in float."""
    real = int8.quantise

    def spoiled(graph: Any, ranges: Any, target: Any, kept: Any = (), **more: Any) -> Any:
        copy = onnx.ModelProto()
        copy.CopyFrom(graph)
        bad = names(tuple(n.name for n in graph.graph.node if n.op_type == "Conv")) - set(kept)
        biases = {node.input[2] for node in copy.graph.node if node.name in bad}
        for tensor in copy.graph.initializer:
            if tensor.name in biases:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 5, tensor.name))
        return real(copy, ranges, target, kept, **more)

    monkeypatch.setattr(int8, "quantise", spoiled)


def test_a_layer_that_spoils_masks_goes_back_to_float(
    edge: LoadedModel, made: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, lambda names: {names[0]})
    asked = PrecisionOptions(False, "tensorrt", made, 18, 0.1, cache)
    result, report = export_reduced(edge, tmp_path / "m.onnx", SIZE, asked)
    assert report.verdict is not None
    assert [name.split("/")[2] for name in report.verdict.kept] == ["head", "stem"]
    assert report.verdict.drop <= 0.1 and 0.8 < report.verdict.share < 0.99
    values = {t.name for t in onnx.load(result.path).graph.initializer}
    stem = next(n for n in onnx.load(result.path).graph.node if n.name == report.verdict.kept[1])
    assert stem.input[1] in values  # its weights have no Q/DQ


def test_what_cannot_hold_is_not_written(
    edge: LoadedModel, made: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, set)
    monkeypatch.setattr(gate, "harm", lambda reduced, samples: 1.0)
    monkeypatch.setattr(gate, "LEAST_SHARE", 1.0)
    with pytest.raises(IrdetError, match=r"accuracy gate: IoU .* more than 0\.01, and no further layer") as caught:
        export_reduced(edge, tmp_path / "m.onnx", SIZE, PrecisionOptions(False, "tensorrt", made, 18, None, cache))
    assert caught.value.exit_code == 1 and list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(edge: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from irdet.export import onnx as writing

    def full(path: Path, golden: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(writing, "write_golden", full)
    with pytest.raises(OSError, match="No space left on device"):
        export_reduced(edge, tmp_path / "m.onnx", SIZE, PrecisionOptions(half=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "neither FP16 nor INT8"),
        ({"half": True, "int8": "cpu", "calib": Path()}, "leave --fp16 out"),
        ({"int8": "tensorrt"}, "give --calib DIR"),
        ({"half": True, "calib": Path()}, "--calib is for --int8"),
    ],
)
def test_options_that_cannot_be(values: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        PrecisionOptions(**values)


def test_half_scales_need_their_opset(edge: LoadedModel, made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs opset 19 or later"):
        export_reduced(edge, tmp_path / "m.onnx", SIZE, PrecisionOptions(True, "tensorrt", made))


def test_frames_are_looked_at_before_anything_is_computed(edge: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in"):
        export_reduced(edge, tmp_path / "m.onnx", SIZE, PrecisionOptions(int8="cpu", calib=tmp_path / "empty"))


def test_defaults_are_the_issues() -> None:
    assert MAX_DROP == {"fp16": 0.002, "int8": 0.01, "int8+fp16": 0.01}
    assert PrecisionOptions(half=True).allowed_drop == 0.002
    assert PrecisionOptions(half=True, max_drop=0.5).allowed_drop == 0.5


@pytest.mark.parametrize("target", ["tensorrt", "cpu"])
def test_frames_are_mapped_as_on_the_device(
    edge: LoadedModel, made: Path, cache: Path, tmp_path: Path, target: Any
) -> None:
    """Dark targets in deep frames are calibrated and judged on as bright ones in their own range."""
    for folder in ("images", "masks"):
        (tmp_path / "dark" / folder).mkdir(parents=True)
        for file in sorted((made / folder).iterdir()):
            pixels = read_image(file)
            deep = (255 - pixels.astype(np.uint16)) * 10 + 5000 if folder == "images" else pixels
            cv2.imwrite(str(tmp_path / "dark" / folder / file.name), deep)
    asked = PrecisionOptions(False, target, made, 18, 0.1, cache)
    _, bright = export_reduced(edge, tmp_path / "a.onnx", SIZE, asked)
    mapped = replace(asked, calib=tmp_path / "dark", preprocessor=Preprocessor((5000, 7550)), polarity="black-hot")
    result, dark = export_reduced(edge, tmp_path / "b.onnx", SIZE, mapped)
    assert bright.verdict is not None and dark.verdict is not None and bright.verdict.before.matched
    assert dark.verdict.before.matched == bright.verdict.before.matched
    assert dark.verdict.after.iou == pytest.approx(bright.verdict.after.iou, abs=0.01)
    how = result.info.metrics["gate"]
    assert (how["polarity"], how["range"], how["normalise"]) == ("black-hot", [5000, 7550], "range")
