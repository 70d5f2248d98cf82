"""Exporting: what is written is what torch computes, or nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from irdet import __version__
from irdet.core.errors import IrdetError, UsageError
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.engines import open_engine
from irdet.engines.golden import read_golden, replay
from irdet.engines.probe import as_batch, probe_frame
from irdet.engines.tensorrt.build import PROFILE
from irdet.export import onnx as exporting
from irdet.export.frames import SHORTEST, check_frames
from irdet.export.onnx import Exported, OnnxOptions, export_onnx
from irdet.models import LoadedModel, save_checkpoint

FIXED = OnnxOptions(size=(96, 64), simplify=False)
FREE = OnnxOptions(size=None, simplify=False)


@pytest.fixture(scope="module")
def model(sharp_model: Callable[..., LoadedModel]) -> LoadedModel:
    tuned = sharp_model("mlcl-edge", threshold=0.3)
    metrics = {"set": {"threshold": 0.3, "iou": 0.7}, "own": {}, "iou": 0.8, "threshold": 0.3, "notes": ["any", None]}
    return LoadedModel(tuned.module, tuned.info.replace(metrics=metrics))


@pytest.fixture(scope="module")
def simplified(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_onnx(model, tmp_path_factory.mktemp("free") / "edge.onnx", OnnxOptions(size=None))


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_the_graph_is_clean(simplified: Exported) -> None:
    assert simplified.warnings == ()
    graph = onnx.load(simplified.path)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 17)]
    assert graph.ir_version <= 8
    kinds = set(operators(simplified.path))
    assert not kinds & {"BatchNormalization", "Identity", "If", "Loop", "Shape", "Gather", "Cast"}
    assert operators(simplified.path)[-1] == "Sigmoid"
    assert "SpaceToDepth" in kinds and not kinds & {"Reshape", "Transpose"}  # a pixel-unshuffle is one operator
    (taken,), (given,) = graph.graph.input, graph.graph.output
    assert (taken.name, given.name) == ("frames", "probability")
    sides = [[d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim] for port in (taken, given)]
    assert sides == [["batch", 1, "height", "width"]] * 2
    assert not any(tensor.external_data for tensor in graph.graph.initializer)


def test_the_record_travels(simplified: Exported, model: LoadedModel) -> None:
    (entry,) = onnx.load(simplified.path).metadata_props
    assert entry.key == METADATA_KEY
    info = ModelInfo.from_json(entry.value)
    assert info == simplified.info
    assert (info.variant, info.stride, info.opset, info.threshold) == ("mlcl-edge", 16, 17, 0.5)
    assert (info.height, info.width, info.precision, info.irdet_version) == (None, None, "fp32", __version__)
    assert info.weights_sha256 == model.info.weights_sha256
    assert info.parameters == model.info.parameters
    assert info.training["threshold"] == 0.3
    assert info.metrics == {
        "set": {"threshold": pytest.approx(0.5), "iou": 0.7},
        "own": {},
        "iou": 0.8,
        "threshold": pytest.approx(0.5),
        "notes": ["any", None],
    }


def test_parity_saw_targets(simplified: Exported) -> None:
    parity = simplified.parity
    assert parity.passed and parity.max_difference <= 1e-4
    assert parity.frames >= 9 and parity.targets >= 9


def test_any_size_and_batch(simplified: Exported, model: LoadedModel) -> None:
    with open_engine(simplified.path, device="cpu") as engine:
        for shape in ((1, 16, 16), (2, 64, 48), (3, 32, 208)):
            frames = np.stack([probe_frame(*shape[1:], seed) for seed in range(shape[0])])
            wanted = exporting.reference(model, frames)
            assert np.abs(engine.run(as_batch(frames))[:, 0] - wanted).max() <= 1e-4


@pytest.mark.parametrize("opset", [13, 20])
def test_opset_is_what_was_asked_for(model: LoadedModel, tmp_path: Path, opset: int) -> None:
    result = export_onnx(model, tmp_path / "m.onnx", OnnxOptions((32, 32), opset=opset, simplify=False))
    assert [entry.version for entry in onnx.load(result.path).opset_import] == [opset] == [result.info.opset]


def test_fixed_size_and_batch(model: LoadedModel, tmp_path: Path) -> None:
    result = export_onnx(model, tmp_path / "m.onnx", OnnxOptions((96, 64), batch=2, simplify=False))
    shape = onnx.load(result.path).graph.input[0].type.tensor_type.shape
    assert [side.dim_value for side in shape.dim] == [2, 1, 64, 96]
    assert (result.info.height, result.info.width) == (64, 96)
    assert result.parity.passed
    with open_engine(result.path, device="cpu") as engine:
        assert replay(engine, read_golden(result.golden)).passed


def test_golden_frames_are_torchs(simplified: Exported, model: LoadedModel) -> None:
    golden = read_golden(simplified.golden)
    assert golden.weights_sha256 == model.info.weights_sha256
    assert (golden.precision, golden.target) == ("fp32", simplified.info.target)
    assert len({item.frames.shape[1:] for item in golden.sets}) == 3
    for item in golden.sets:
        np.testing.assert_allclose(item.probability, exporting.reference(model, item.frames), atol=1e-5)
    assert simplified.golden.stat().st_size < 1 << 20


@pytest.mark.parametrize("options", [FIXED, FREE], ids=["fixed", "free"])
def test_a_graph_that_computes_something_else_is_not_let_out(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: OnnxOptions
) -> None:
    real = exporting.trace

    def spoiled(network: Any, path: Path, *rest: Any) -> None:
        real(network, path, *rest)
        graph = onnx.load(path)
        last = next(t for t in graph.graph.initializer if t.name.endswith("head.2.bias"))
        last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last) + np.float32(0.01), last.name))
        onnx.save(graph, path)

    monkeypatch.setattr(exporting, "trace", spoiled)
    with pytest.raises(IrdetError, match="does not agree with torch") as caught:
        export_onnx(model, tmp_path / "m.onnx", options)
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_another_opset_than_asked_for_is_not_let_out(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.trace
    monkeypatch.setattr(
        exporting, "trace", lambda net, path, _, size: real(net, path, OnnxOptions((96, 64), opset=18), size)
    )
    with pytest.raises(IrdetError, match=r"wrote opset \[18\] where 17"):
        export_onnx(model, tmp_path / "m.onnx", FIXED)
    assert list(tmp_path.iterdir()) == []


def test_onnxsim_that_fails_costs_a_warning(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "simplify", lambda source, destination: "onnxsim crashed (signal 11)")
    result = export_onnx(model, tmp_path / "m.onnx", OnnxOptions(size=(96, 64)))
    assert result.warnings == ("the graph is not simplified: onnxsim crashed (signal 11)",)
    assert result.parity.passed and result.path.is_file()


def test_real_frames_are_used(model: LoadedModel, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    for index, shape in enumerate([(40, 50), (90, 120), (300, 280)]):
        cv2.imwrite(str(data / "images" / f"{index}.png"), probe_frame(*shape, seed=index))
        mask = np.zeros(shape, np.uint8)
        mask[-8:-5, -8:-5] = 255
        cv2.imwrite(str(data / "masks" / f"{index}.png"), mask)
    real, made = check_frames((64, 96), 8, data)
    assert real.shape == (3, 64, 96) and made.shape[1:] == (64, 96)
    assert np.array_equal(real[0, :40, :50], probe_frame(40, 50, seed=0))  # a smaller frame is filled up
    assert np.array_equal(real[2], probe_frame(300, 280, seed=2)[-64:, -96:])  # a larger one cut at its target
    result = export_onnx(model, tmp_path / "m.onnx", FIXED, data=data)
    assert result.parity.frames == 3 + len(made)


def test_a_network_that_finds_nothing_is_told(sharp_model: Callable[..., LoadedModel], tmp_path: Path) -> None:
    import copy

    import torch

    module = copy.deepcopy(sharp_model("mlcl-edge").module)
    with torch.no_grad():
        module.head[-1].bias -= 100  # type: ignore[index, union-attr]
    info = save_checkpoint(tmp_path / "blind.pt", module, ModelInfo("mlcl-edge"))
    result = export_onnx(LoadedModel(module, info), tmp_path / "m.onnx", FIXED)
    assert "finds no target" in result.warnings[0]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"size": (100, 64)}, "100x64: mlcl-edge takes multiples of 16"),
        ({"opset": 12}, "opset 12"),
        ({"opset": 30}, "opset 30"),
        ({"batch": 0}, "batch 0"),
        ({"size": None, "batch": 2}, "any batch"),
    ],
)
def test_options_that_cannot_be(model: LoadedModel, tmp_path: Path, values: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        export_onnx(model, tmp_path / "m.onnx", OnnxOptions(**values))
    assert list(tmp_path.iterdir()) == []


def test_unwritable_destination(model: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IrdetError, match="cannot write"):
        export_onnx(model, tmp_path / "file" / "m.onnx", FIXED)


def test_golden_frames_are_the_clearest_with_targets() -> None:
    frames = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    wanted = np.full((4, 8, 8), 0.01, np.float32)
    wanted[0, 2, 2], wanted[1, 2, 2], wanted[3, 2, 2] = 0.505, 0.9, 0.7  # frame 2 holds no target
    golden = exporting.record(ModelInfo("mlcl-edge"), (frames,), [wanted])
    assert golden.sets[0].frames[:, 0, 0].tolist() == [1, 3]


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32, 64])
def test_frames_of_a_free_graph_fit_its_engine(stride: int) -> None:
    """The default profile of a TensorRT engine holds them, and no size is a power of two alone."""
    sizes = [group.shape[1:] for group in check_frames(None, stride)]
    low, _, high = ((h, w) for _, h, w in PROFILE)
    assert min(low) == SHORTEST
    for size in sizes:
        assert all(side % stride == 0 for side in size)
        assert all(a <= b for a, b in zip(low, size, strict=True))
        assert stride > 32 or all(a <= b for a, b in zip(size, high, strict=True))
    assert {side // stride % 2 for size in sizes for side in size} == {0, 1}
