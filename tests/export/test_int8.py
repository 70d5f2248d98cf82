"""INT8: each target gets the Q/DQ nodes that its runtime takes, and no others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from irdet.engines.probe import as_batch, probe_frame
from irdet.export import int8
from irdet.export.calibration import Range, observe
from irdet.export.fp16 import rounded, to_half
from irdet.export.int8 import HALF_SCALE, convolutions, quantise
from irdet.models import LoadedModel
from irdet.models.cost import flop

FRAMES = [as_batch(probe_frame(48, 64, seed)[None]) for seed in range(4)]


@pytest.fixture(scope="module")
def ranges(graph: Any) -> dict[str, Range]:
    return observe(graph, FRAMES)


def run(model: Any, frame: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    given = np.rint(frame * 255).astype(np.uint8) if port.type == "tensor(uint8)" else frame
    return np.asarray(session.run(None, {port.name: given})[0])


def constants(model: Any) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_convolutions_are_counted(graph: Any, edge: LoadedModel) -> None:
    layers = convolutions(graph, 64, 96)
    assert [layer.name for layer in layers] == [n.name for n in graph.graph.node if n.op_type == "Conv"]
    assert 2 * sum(layer.macs for layer in layers) == flop(edge.module, 64, 96)


def test_tensorrt_gets_symmetric_convolutions_and_no_more(graph: Any, ranges: dict[str, Range]) -> None:
    last = convolutions(graph, 64, 64)[-1].name
    model = quantise(graph, ranges, "tensorrt", [last])
    onnx.checker.check_model(model, full_check=True)
    values, makers = constants(model), {out: node for node in model.graph.node for out in node.output}
    takers = {name: [n for n in model.graph.node if name in n.input] for name in makers}
    quantised = 0
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = values[node.input[2]]
            assert zero.dtype == np.int8 and not zero.any()  # an int32 bias or a zero point would be refused
        if node.op_type == "DequantizeLinear":
            assert "Conv" in {taker.op_type for taker in takers[node.output[0]]}  # a sum may take the same tensor
            assert makers[node.input[0]].op_type == "QuantizeLinear"
        if node.op_type == "Conv":
            sources = [makers[name].op_type if name in makers else "constant" for name in node.input]
            if node.name == last:
                assert sources == ["Relu", "constant", "constant"]
                continue
            quantised += 1
            assert sources == ["DequantizeLinear", "DequantizeLinear", "constant"]
            weights = makers[node.input[1]]
            assert values[weights.input[1]].shape == values[makers[weights.input[0]].input[0]].shape[:1]  # per channel
            assert values[makers[node.input[0]].input[1]].shape == ()
    assert quantised == 40
    assert np.abs(run(model, FRAMES[0]) - run(graph, FRAMES[0])).mean() < 0.02


def test_a_cpu_gets_all_that_it_can_fuse(graph: Any, ranges: dict[str, Range], tmp_path: Path) -> None:
    model = quantise(graph, ranges, "cpu")
    onnx.checker.check_model(model, full_check=True)
    values = constants(model)
    activations = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert {values[node.input[2]].dtype for node in activations} == {np.dtype(np.uint8)}
    weights = [v for v in values.values() if v.dtype == np.int8 and v.ndim == 4]
    assert all(len(w) % 16 == 0 for w in weights)  # the fast kernel's packs
    # Two products of a byte and a 7-bit weight stay within 16 bits, which AVX2 without VNNI adds them in.
    assert len(weights) == 41 and max(int(np.abs(w.astype(int)).max()) for w in weights) == 64
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    assert kinds["QLinearConv"] == 41 and kinds["QLinearAdd"] == 8 and kinds["QLinearConcat"] == 3
    assert kinds["SpaceToDepth"] == 1 and kinds["Slice"] == 1
    # One behind the frame, one before the logits, and the rows of the pixel shuffle between them.
    assert kinds["DepthToSpace"] == 1 and kinds["Transpose"] == 3
    assert not kinds["Conv"] and not kinds["FusedConv"]
    assert kinds["Relu"] == 1, "that of the hysteresis, behind the logits"
    assert np.abs(run(model, FRAMES[0]) - run(graph, FRAMES[0])).mean() < 0.02


@pytest.mark.parametrize("seen", [0.5, 1.0])
def test_a_cpu_takes_counts_however_bright_the_frames_were(graph: Any, ranges: dict[str, Range], seen: float) -> None:
    port = graph.graph.input[0].name
    model = quantise(graph, {**ranges, port: Range(0.0, seen)}, "cpu")
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    (first,) = (node for node in model.graph.node if port in node.input)
    scale, zero = (constants(model)[name] for name in first.input[1:])
    assert first.op_type == "DequantizeLinear" and scale == pytest.approx(1 / 255) and zero == 0


def test_with_its_first_layer_in_float_it_takes_floats(graph: Any, ranges: dict[str, Range]) -> None:
    bare = onnx.ModelProto()
    bare.CopyFrom(graph)
    (shuffle,) = (node for node in bare.graph.node if node.op_type == "SpaceToDepth")
    shuffle.op_type = "Identity"  # nothing that is quantised
    model = quantise(bare, ranges, "cpu")
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_a_cpus_pixel_shuffle_is_the_same_in_rows(
    graph: Any, ranges: dict[str, Range], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = quantise(graph, ranges, "cpu")
    monkeypatch.setattr(int8, "_rows_first", lambda onnx, source, ranges: ranges)
    bytewise = quantise(graph, ranges, "cpu")
    shuffles = [Counter(node.op_type for node in model.graph.node)["DepthToSpace"] for model in (rows, bytewise)]
    assert shuffles == [1, 2]
    for height, width in ((48, 64), (64, 32)):
        frame = as_batch(probe_frame(height, width)[None])
        assert np.array_equal(run(rows, frame), run(bytewise, frame))


def test_what_is_concatenated_shares_a_range(graph: Any, ranges: dict[str, Range]) -> None:
    (first, *_, last) = (node for node in graph.graph.node if node.op_type == "Concat")
    even = {**ranges, **dict.fromkeys([*first.input, *last.input], Range(0, 4)), last.input[0]: Range(0, 17)}
    model = quantise(graph, {**even, first.output[0]: Range(0, 4), last.output[0]: Range(0, 17)}, "cpu")
    values, makers = constants(model), {out: node for node in model.graph.node for out in node.output}
    scales = {
        node.name: [255 * float(values[makers[name].input[1]]) for name in node.input]
        for node in model.graph.node
        if node.op_type == "Concat"
    }
    assert scales[first.name] == pytest.approx([4, 4, 4])
    assert scales[last.name] == pytest.approx([17, 4, 4])  # a quarter of it would cost more than two bits


def test_sizes_are_concatenated_as_they_are() -> None:
    """A graph that was not simplified puts the sizes that it computes together by the same operator."""
    make, number = helper.make_node, numpy_helper.from_array
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1, None, None]) for name in ("x", "y")]
    nodes = [
        make("Conv", ["x", "w"], ["t"], "conv", pads=[1, 1, 1, 1]),
        make("Concat", ["t", "border"], ["wide"], "wide", axis=0),
        make("Shape", ["wide"], ["sides"], "shape"),
        make("Slice", ["sides", "zero", "two"], ["first"], "first"),
        make("Slice", ["sides", "two", "four"], ["last"], "last"),
        make("Concat", ["first", "last"], ["size"], "size", axis=0),
        make("Reshape", ["wide", "size"], ["y"], "reshape"),
    ]
    constants = [
        number(np.full((1, 1, 3, 3), 1 / 9, np.float32), "w"),
        number(np.full((1, 1, 48, 64), 0.5, np.float32), "border"),
        *(number(np.array([value], np.int64), name) for name, value in (("zero", 0), ("two", 2), ("four", 4))),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "sizes", port[:1], port[1:], constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    quantised = quantise(model, observe(model, FRAMES), "cpu")
    onnx.checker.check_model(quantised, full_check=True)
    assert np.abs(run(quantised, FRAMES[0]) - run(model, FRAMES[0])).max() < 0.02


@pytest.mark.parametrize("target", ["tensorrt", "cpu"])
def test_layers_kept_in_float(graph: Any, ranges: dict[str, Range], target: Any) -> None:
    names = [layer.name for layer in convolutions(graph, 64, 64)][3:6]
    model = quantise(graph, ranges, target, names)
    values = constants(model)
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert (node.input[1] in values) == (node.name in names), node.name


def test_scales_in_half_never_vanish(graph: Any, ranges: dict[str, Range]) -> None:
    dying = onnx.ModelProto()
    dying.CopyFrom(graph)
    weight = next(t for t in dying.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values[0] *= 1e-8  # a channel that training let die
    values[1] = 0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    half = to_half(quantise(dying, ranges, "tensorrt", half=True))
    onnx.checker.check_model(half, full_check=True)
    scales = [
        numpy_helper.to_array(t)
        for t in half.graph.initializer
        if t.data_type == TensorProto.FLOAT16 and t.name.endswith("_scale")
    ]
    assert len(scales) > 70 and min(float(s.min()) for s in scales) >= HALF_SCALE
    result = run(rounded(half), FRAMES[0])
    assert np.isfinite(result).all()
    assert np.abs(result - run(graph, FRAMES[0])).mean() < 0.02


def test_the_source_stays_as_it_is(graph: Any, ranges: dict[str, Range]) -> None:
    before = graph.SerializeToString(deterministic=True)
    quantise(graph, ranges, "cpu")
    to_half(graph)
    assert graph.SerializeToString(deterministic=True) == before
