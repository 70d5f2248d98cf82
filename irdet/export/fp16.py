"""FP16: a half-precision graph with float32 in and out, and what must be known before a GPU computes it.

ONNX Runtime's CPU provider computes a half graph in float32, so that it runs there says nothing. Two things do: the
range of every tensor on real frames, and the same graph with each of its values rounded to half (`rounded`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from irdet.core.extras import require
from irdet.export.calibration import Range

#: Largest magnitude that a tensor may have on the frames looked at: an eighth of half's 65504, for frames not seen.
LIMIT = 8000.0

#: Half's largest number, and its smallest that is not 0 (2^-24).
HALF_MAX, HALF_TINY = 65504.0, 2.0**-24


@dataclass(frozen=True)
class HalfPlan:
    """Which nodes compute in half, and what was seen.

    Attributes:
        kept: Nodes that stay in float32, by name.
        peak: Largest magnitude of any tensor on the frames.
        peak_tensor: Its name.
        tiny_weights: Weights other than 0 that half has no number for; they become 0.
        weights: All weights.
    """

    kept: tuple[str, ...]
    peak: float
    peak_tensor: str
    tiny_weights: int
    weights: int


def plan_half(graph: Any, ranges: Mapping[str, Range]) -> HalfPlan:
    """Finds the nodes that must stay in float32: those that give or take a tensor, or hold a weight, out of range.

    Args:
        graph: An fp32 ONNX model.
        ranges: The range of each of its tensors on real frames.
    """
    numpy_helper = require("onnx.numpy_helper", "export", "converting to FP16")
    constants = _constants(graph)
    wide = {name for name, found in ranges.items() if found.peak > LIMIT}
    tiny: dict[str, int] = {}
    total = 0
    for name, tensor in constants.items():
        if tensor.data_type != 1:
            continue
        values = np.abs(numpy_helper.to_array(tensor))
        total += values.size
        tiny[name] = int(np.count_nonzero((values > 0) & (values < HALF_TINY / 2)))
        if values.size and float(values.max()) > HALF_MAX:
            wide.add(name)
    for node in graph.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] in wide:
            wide.update(node.output)
    kept = [node.name for node in graph.graph.node if wide & {*node.input, *node.output}]
    peak_tensor = max(ranges, key=lambda name: ranges[name].peak)
    halved = {name for node in graph.graph.node if node.name not in kept for name in node.input}
    lost = sum(count for name, count in tiny.items() if name in halved)
    return HalfPlan(tuple(kept), ranges[peak_tensor].peak, peak_tensor, lost, total)


def to_half(graph: Any, kept: tuple[str, ...] = ()) -> Any:
    """Returns the graph in half precision, float32 in and out.

    Args:
        graph: An fp32 ONNX model; it may hold Q/DQ nodes, whose scales become half too (opset 19 and later).
        kept: Nodes that stay in float32, by name.
    """
    onnx = require("onnx", "export", "converting to FP16")
    float16 = require("onnxconverter_common.float16", "export", "converting to FP16")
    source = onnx.ModelProto()
    source.CopyFrom(graph)
    _constants_to_initializers(onnx, source)
    del source.graph.value_info[:]  # the converter infers them anew; those of constants would stand in its way
    half = float16.convert_float_to_float16(
        source,
        min_positive_val=0.0,  # numbers too small for half become 0, not the smallest one
        max_finite_val=HALF_MAX,
        keep_io_types=True,
        op_block_list=[],
        node_block_list=list(kept),
    )
    _widen_resize_scales(onnx, half)
    return half


def rounded(half: Any) -> Any:
    """Returns an fp32 graph that computes what a half graph computes where sums are kept in float32.

    Weights have half's values; every tensor that is half is rounded to half where it is computed, and what half cannot
    hold becomes infinite. Tensor cores and cuDNN sum in float32 as well, and round what they store.

    Args:
        half: An ONNX model from `to_half`.
    """
    onnx = require("onnx", "export", "checking FP16")
    half = onnx.shape_inference.infer_shapes(half)
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*half.graph.value_info, *half.graph.output)}
    nodes = []
    for node in half.graph.node:
        after = []
        for index, name in enumerate(node.output):
            if kinds.get(name) == onnx.TensorProto.FLOAT16:
                wide, narrow = f"{name}_wide", f"{name}_half"
                node.output[index] = wide
                after.append(onnx.helper.make_node("Cast", [wide], [narrow], to=onnx.TensorProto.FLOAT16))
                after.append(onnx.helper.make_node("Cast", [narrow], [name], to=onnx.TensorProto.FLOAT))
        nodes += [node, *after]
    result = onnx.ModelProto()
    result.CopyFrom(half)
    del result.graph.node[:], result.graph.value_info[:], result.graph.initializer[:]
    result.graph.node.extend(nodes)
    for tensor in half.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            result.graph.initializer.append(onnx.numpy_helper.from_array(values, tensor.name))
        else:
            result.graph.initializer.append(tensor)
    return result


def _constants(graph: Any) -> dict[str, Any]:
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                constants[node.output[0]] = attribute.t
    return constants


def _constants_to_initializers(onnx: Any, graph: Any) -> None:
    """The converter tells a constant's type from its node, so a scale that must stay float32 cannot be a node."""
    kept = []
    for node in graph.graph.node:
        value = next((a.t for a in node.attribute if node.op_type == "Constant" and a.name == "value"), None)
        if value is None:
            kept.append(node)
            continue
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        graph.graph.initializer.append(tensor)
    del graph.graph.node[:]
    graph.graph.node.extend(kept)


def _widen_resize_scales(onnx: Any, graph: Any) -> None:
    """Resize takes its scales as float32, whatever it resizes (ONNX operator specification)."""
    scales = {node.input[2] for node in graph.graph.node if node.op_type == "Resize" and len(node.input) > 2}
    for tensor in graph.graph.initializer:
        if tensor.name in scales and tensor.data_type == onnx.TensorProto.FLOAT16:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
