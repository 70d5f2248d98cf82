"""FP16: float32 at both ends, half in between, and what half cannot hold is found out without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from irdet.engines.probe import as_batch, probe_frame
from irdet.export.calibration import Range, observe
from irdet.export.fp16 import LIMIT, plan_half, rounded, to_half
from irdet.export.graph import deployable
from irdet.models import LoadedModel

OPSET = [helper.make_opsetid("", 17)]


def run(model: Any, frames: np.ndarray, *, optimise: bool = True) -> np.ndarray:
    options = ort.SessionOptions()
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: frames})
    return np.asarray(result)


def port(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1, None, None])


def chain(*factors: float) -> Any:
    """x times one factor after the other, each in a node and a 1x1 convolution of its own."""
    nodes, weights, last = [], [], "x"
    for index, factor in enumerate(factors):
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"t{index}"], f"conv{index}"))
        weights.append(numpy_helper.from_array(np.full((1, 1, 1, 1), factor, np.float32), f"w{index}"))
        last = f"t{index}"
    graph = helper.make_graph(nodes, "chain", [port("x")], [port(last)], weights)
    return helper.make_model(graph, opset_imports=OPSET, ir_version=8)


def test_the_graph_is_half_between_its_ends(graph: Any) -> None:
    half = to_half(graph)
    onnx.checker.check_model(half, full_check=True)
    for ours, theirs in zip(
        (*half.graph.input, *half.graph.output), (*graph.graph.input, *graph.graph.output), strict=True
    ):
        assert ours == theirs
    weights = {t.name: t.data_type for t in half.graph.initializer}
    for node in half.graph.node:
        if node.op_type == "Conv":
            assert [weights[name] for name in node.input[1:]] == [TensorProto.FLOAT16] * 2
        if node.op_type == "Resize":  # not among what the converter leaves in float32 by itself
            assert weights[node.input[2]] == TensorProto.FLOAT
    assert sum(node.op_type == "Cast" for node in half.graph.node) == 2
    assert half.ByteSize() < 0.6 * graph.ByteSize()
    assert graph.graph.initializer[0].data_type == TensorProto.FLOAT  # the source is as it was


def test_rounding_is_what_torch_computes_in_half(graph: Any, edge: LoadedModel) -> None:
    frames = as_batch(np.stack([probe_frame(48, 64, seed) for seed in range(2)]))
    ours, exact = run(rounded(to_half(graph)), frames), run(graph, frames)
    network: Any = deployable(edge).half()
    with torch.inference_mode():
        torchs = network.to(memory_format=torch.channels_last)(torch.from_numpy(frames).half()).float().numpy()
    assert exact.max() > 0.9  # there is something to get wrong
    assert np.abs(ours - torchs).max() < 5e-3
    assert 0 < np.abs(ours - exact).max() < 5e-2


@pytest.mark.parametrize("optimise", [True, False])
def test_every_value_is_rounded(optimise: bool) -> None:
    x = np.linspace(0.1, 3000, 997, dtype=np.float32).reshape(1, 1, 1, -1)
    given = run(rounded(to_half(chain(1 / 3, 7.0))), x, optimise=optimise)
    third = (x.astype(np.float16).astype(np.float32) * np.float32(np.float16(1 / 3))).astype(np.float16)
    wanted = (third.astype(np.float32) * 7).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(given, wanted)


def test_what_is_no_number_of_the_network_is_not_rounded() -> None:
    """Sizes that a graph of free size computes are cast to floats and back; half has none of them beyond 2048."""
    make, whole = helper.make_node, numpy_helper.from_array(np.float32(1), "one")
    nodes = [
        make("Conv", ["x", "w"], ["t"], "conv"),
        make("Shape", ["x"], ["sides"], "shape"),
        make("Cast", ["sides"], ["as_floats"], "there", to=TensorProto.FLOAT),
        make("Mul", ["as_floats", "one"], ["times"], "mul"),
        make("Cast", ["times"], ["again"], "back", to=TensorProto.INT64),
        make("Cast", ["again"], ["any"], "bool", to=TensorProto.BOOL),
        make("Cast", ["any"], ["counted"], "count", to=TensorProto.INT64),
        make("Mul", ["again", "counted"], ["wanted"], "each"),
        make("Reshape", ["t", "wanted"], ["y"], "reshape"),
    ]
    weight = numpy_helper.from_array(np.full((1, 1, 1, 1), 1 / 3, np.float32), "w")
    model = helper.make_model(
        helper.make_graph(nodes, "sizes", [port("x")], [port("y")], [weight, whole]), opset_imports=OPSET, ir_version=8
    )
    onnx.checker.check_model(rounded(to_half(model)), full_check=True)
    x = np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 1, 3, 4)
    third = (x.astype(np.float16).astype(np.float32) * np.float32(np.float16(1 / 3))).astype(np.float16)
    np.testing.assert_array_equal(run(rounded(to_half(model)), x), third.astype(np.float32))


def test_what_overflows_stays_in_float32() -> None:
    model, x = chain(10.0, 1e4, 1e-4, 0.1), np.full((1, 1, 2, 2), 1.5, np.float32)
    assert np.isinf(run(rounded(to_half(model)), x)).all()  # 15 * 10^4: ONNX Runtime by itself would hide it
    assert run(to_half(model), x) == pytest.approx(1.5, rel=1e-2)
    plan = plan_half(model, observe(model, [x]))
    assert plan.kept == ("conv1", "conv2")  # it gives, and it takes, what half cannot hold
    assert (plan.peak, plan.peak_tensor) == (pytest.approx(1.5e5), "t1")
    half = to_half(model, plan.kept)
    assert run(rounded(half), x) == pytest.approx(1.5, rel=2e-3)
    types = {t.name: t.data_type for t in half.graph.initializer}
    assert [types[f"w{i}"] for i in range(4)] == [TensorProto.FLOAT16, 1, 1, TensorProto.FLOAT16]


def test_the_limit_leaves_room() -> None:
    ranges = {"x": Range(0, 1), "t0": Range(-LIMIT, 0), "t1": Range(-1.01 * LIMIT, 0)}
    assert plan_half(chain(1.0, 1.0), ranges).kept == ("conv1",)


def test_weights_out_of_range() -> None:
    x = np.ones((1, 1, 1, 1), np.float32)
    plan = plan_half(chain(1e5, 1e-5), {"x": Range(0, 1e-3), "t0": Range(0, 100), "t1": Range(0, 1)})
    assert plan.kept == ("conv0",)
    small = plan_half(chain(2e-8, 0.0, 1e-7, 1.0), {"x": Range(0, 1)})
    assert (small.tiny_weights, small.weights, small.kept) == (1, 4, ())
    wide = plan_half(chain(2e-8, 0.0, 1e-7, 1.0), {"x": Range(0, 1e6)})
    assert wide.kept and wide.tiny_weights == 0, "weights of nodes that stay in float32 stay as they are"
    assert run(rounded(to_half(chain(2e-8, 1.0))), x) == 0  # and nothing else makes it up to a number
    assert run(rounded(to_half(chain(1e-7, 1.0))), x) == pytest.approx(1.19e-7, rel=1e-2)


def test_a_real_network_needs_no_float32(graph: Any) -> None:
    frames = [as_batch(probe_frame(48, 64, seed)[None]) for seed in range(3)]
    plan = plan_half(graph, observe(graph, frames))
    assert plan.kept == () and 1 < plan.peak < LIMIT
    # A weight of 3e-8 that becomes 0 is nothing beside its neighbours; many of them would be.
    assert plan.weights > 470_000 and plan.tiny_weights < 10


def test_nodes_kept_by_name(graph: Any, tmp_path: Path) -> None:
    name = next(node.name for node in graph.graph.node if node.op_type == "Conv")
    half = to_half(graph, (name,))
    onnx.checker.check_model(half, full_check=True)
    node = next(node for node in half.graph.node if node.name == name)
    types = {t.name: t.data_type for t in half.graph.initializer}
    assert types[node.input[1]] == TensorProto.FLOAT
    x = as_batch(probe_frame(48, 64, 1)[None])
    assert np.abs(run(rounded(half), x) - run(graph, x)).max() < 5e-2
