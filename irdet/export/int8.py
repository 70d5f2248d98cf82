"""INT8: explicit Q/DQ in the ONNX graph, for TensorRT or for ONNX Runtime on a CPU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from irdet.core.extras import require
from irdet.export.calibration import Range

Target = Literal["tensorrt", "cpu"]

#: What is quantised beside convolutions for a CPU, so that no tensor is turned to float32 and back on its way.
_CPU_OPERATORS = (
    *("Conv", "Relu", "Add", "Concat", "MaxPool", "Resize", "Slice", "Transpose", "Reshape"),
    *("SpaceToDepth", "DepthToSpace"),
)

#: ONNX Runtime's fast kernel for 8-bit convolutions on AVX2 gives output channels in packs of so many; with others it
#: falls back to one that is three times as slow.
_PACK = 16

#: Smallest scale in half: 2^7 steps above half's smallest number, so that rounding moves it by less than 1 %. A channel
#: whose weights training has let die would have a scale that is 0 in half, and give NaN.
HALF_SCALE = 2.0**-17


@dataclass(frozen=True)
class Layer:
    """One convolution.

    Attributes:
        name: Its node's name.
        macs: Multiply-accumulates per frame of the size that was asked for.
    """

    name: str
    macs: int


def convolutions(graph: Any, height: int, width: int) -> tuple[Layer, ...]:
    """Returns the convolutions of a graph in order, with their work on one frame.

    Args:
        graph: An fp32 ONNX model.
        height: Of the frame, pixels.
        width: Of the frame, pixels.
    """
    onnx = require("onnx", "export", "counting operations")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(graph)
    for dim, value in zip(fixed.graph.input[0].type.tensor_type.shape.dim, (1, 1, height, width), strict=True):
        dim.dim_value = value
    del fixed.graph.value_info[:]
    for info in fixed.graph.output:
        info.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    weights = {tensor.name: tensor.dims for tensor in graph.graph.initializer}
    return tuple(
        Layer(node.name, math.prod(weights[node.input[1]]) * math.prod(shapes[node.output[0]][2:]))
        for node in graph.graph.node
        if node.op_type == "Conv"
    )


def quantise(
    graph: Any, ranges: Mapping[str, Range], target: Target, kept: Collection[str] = (), *, half: bool = False
) -> Any:
    """Returns the graph with Q/DQ nodes.

    For TensorRT: symmetric int8, activations per tensor, weights per channel, convolutions only, no quantised bias
    (it rejects an int32 bias and zero points). For a CPU: uint8 activations, which x86's instructions multiply with
    int8 weights, and everything between the convolutions quantised too. Its weights have 7 bits: without VNNI two
    products are added in 16 bits, and with 8-bit weights that sum saturates (it cost mlcl-edge 0.03 IoU). What is
    concatenated shares one range where it can, so that it is copied, and convolutions of a few channels are widened.
    It takes uint8, the counts of 8-bit frames as they come: nobody turns them to float32 and back.

    Args:
        graph: An fp32 ONNX model, opset 13 or later.
        ranges: The range of each of its tensors.
        target: What will run it.
        kept: Convolutions that stay in float32, by name.
        half: The scales will be half, so none may be smaller than half can tell apart.
    """
    require("onnxruntime", "cpu", "quantising")
    onnx = require("onnx", "export", "quantising")
    calibrate = require("onnxruntime.quantization.calibrate", "cpu", "quantising")
    quantizer = require("onnxruntime.quantization.qdq_quantizer", "cpu", "quantising")
    kinds = require("onnxruntime.quantization", "cpu", "quantising").QuantType
    source = onnx.ModelProto()
    source.CopyFrom(graph)
    # Frames are 0 to 1, however bright those were that were looked at: the brightest pixels are the targets.
    ranges = {**ranges, source.graph.input[0].name: Range(0.0, 1.0)}
    if target == "cpu":
        ranges = _widened(onnx, source, _rows_first(onnx, source, _alike(source, ranges)), kept)
    values = calibrate.TensorsData(
        calibrate.CalibrationMethod.MinMax,
        {name: (np.array(found.low, np.float32), np.array(found.high, np.float32)) for name, found in ranges.items()},
    )
    if target == "tensorrt":
        operators, activations = ["Conv"], kinds.QInt8
        extra: dict[str, Any] = {
            "ActivationSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,  # int8 weights without their Q are read from TensorRT 10 on only
            "OpTypesToExcludeOutputQuantization": ["Conv"],
            "QDQDisableWeightAdjustForInt32Bias": True,
        }
        if half:
            extra["MinimumRealRange"] = 254 * HALF_SCALE
    else:
        operators, activations, extra = list(_CPU_OPERATORS), kinds.QUInt8, {}
    work = quantizer.QDQQuantizer(
        source,
        True,  # weights per channel
        target == "cpu",  # 7 bits for weights
        kinds.QInt8,
        activations,
        values,
        [],
        list(kept),
        operators,
        {"WeightSymmetric": True, "DedicatedQDQPair": False, **extra},
    )
    work.quantize_model()
    work.model.topological_sort()
    if target == "cpu":
        _take_counts(onnx, work.model.model)
    return work.model.model


def _take_counts(onnx: Any, graph: Any) -> None:
    """Lets the graph take 8-bit counts, in place: what its first step makes of 0 to 1, where its scale is 1/255.

    Args:
        onnx: The package.
        graph: A quantised graph.
    """
    port = graph.graph.input[0]
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    takers = [node for node in graph.graph.node if port.name in node.input]
    if [node.op_type for node in takers] != ["QuantizeLinear"]:
        return
    scale, zero = (onnx.numpy_helper.to_array(tensors[name]) for name in takers[0].input[1:])
    if zero.dtype != np.uint8 or zero != 0 or not math.isclose(scale, 1 / 255, rel_tol=1e-6):
        return
    counts = takers[0].output[0]
    for node in graph.graph.node:
        node.input[:] = [port.name if name == counts else name for name in node.input]
    graph.graph.node.remove(takers[0])
    port.type.tensor_type.elem_type = onnx.TensorProto.UINT8


def _rows_first(onnx: Any, graph: Any, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Writes pixel shuffles of many channels as copies of rows of channels.

    ONNX Runtime keeps 8-bit tensors with the channels last, but has DepthToSpace with the channels first alone, byte by
    byte and in one thread: 5 % of mlcl-edge's time. With the channels of the convolution before it put in the order
    (row, column, channel), the channels of two neighbouring pixels lie side by side and are copied as one.

    Args:
        onnx: The package.
        graph: Changed in place.
        ranges: The range of each tensor.

    Returns:
        The ranges, with those of the new tensors.
    """
    ranges = dict(ranges)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    makers = {node.output[0]: node for node in graph.graph.node}
    uses = Counter(name for node in graph.graph.node for name in node.input)
    nodes = []
    for node in graph.graph.node:
        maker = makers.get(node.input[0]) if node.op_type == "DepthToSpace" else None
        if maker is None or maker.op_type != "Conv" or uses[node.input[0]] > 1:
            nodes.append(node)
            continue
        options = {option.name: onnx.helper.get_attribute_value(option) for option in node.attribute}
        block, square = options["blocksize"], options["blocksize"] ** 2
        channels = tensors[maker.input[1]].dims[0] // square
        if options.get("mode") != b"CRD" or channels < _PACK or any(uses[name] > 1 for name in maker.input[1:]):
            nodes.append(node)
            continue
        for name in maker.input[1:]:
            values = onnx.numpy_helper.to_array(tensors[name])
            ordered = values.reshape(channels, square, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)
            tensors[name].CopyFrom(onnx.numpy_helper.from_array(ordered, name))

        source, result, name = node.input[0], node.output[0], node.name
        constants = {
            "split": [0, 0, 0, block, block, channels],
            "times": [1, block, block, 1],
            "parts": [1, 1, 1, square],
        }
        graph.graph.initializer.extend(
            onnx.numpy_helper.from_array(np.array(values, np.int64), f"{name}/{what}")
            for what, values in constants.items()
        )

        def step(kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
            nodes.append(onnx.helper.make_node(kind, inputs, [output], output, **attributes))

        last, apart, joined, whole = (f"{name}/{part}" for part in ("last", "apart", "joined", "whole"))
        step("Transpose", [source], last, perm=[0, 2, 3, 1])
        step("Reshape", [last, f"{name}/split"], apart)
        step("Transpose", [apart], joined, perm=[0, 1, 3, 2, 4, 5])
        step("Shape", [last], f"{name}/shape")
        step("Mul", [f"{name}/shape", f"{name}/times"], f"{name}/grown")
        step("Div", [f"{name}/grown", f"{name}/parts"], f"{name}/size")
        step("Reshape", [joined, f"{name}/size"], whole)
        step("Transpose", [whole], result, perm=[0, 3, 1, 2])
        ranges |= {name: ranges[source] for name in (last, apart, joined, whole)}
    del graph.graph.node[:], graph.graph.value_info[:]
    graph.graph.node.extend(nodes)
    return ranges


def _widened(onnx: Any, graph: Any, ranges: Mapping[str, Range], kept: Collection[str]) -> dict[str, Range]:
    """Widens convolutions of fewer than `_PACK` outputs by channels of zeros, which are cut off again behind them.

    Args:
        onnx: The package.
        graph: Changed in place.
        ranges: The range of each tensor.
        kept: Convolutions that stay as they are.

    Returns:
        The ranges, with those of the new tensors.
    """
    ranges = dict(ranges)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    takers: dict[str, list[Any]] = {}
    for node in graph.graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    cuts = {}
    for node in graph.graph.node:
        if node.op_type != "Conv" or node.name in kept or tensors[node.input[1]].dims[0] >= _PACK:
            continue
        channels = tensors[node.input[1]].dims[0]
        for index, name in enumerate(node.input[1:], 1):
            values = onnx.numpy_helper.to_array(tensors[name])
            padding = [(0, _PACK - channels)] + [(0, 0)] * (values.ndim - 1)
            node.input[index] = f"{node.name}_{index}_wide"  # others may share the narrow one
            graph.graph.initializer.append(onnx.numpy_helper.from_array(np.pad(values, padding), node.input[index]))
        behind = takers[node.output[0]]
        last = (
            behind[0] if [taker.op_type for taker in behind] == ["Relu"] else node
        )  # it is fused with the convolution
        narrow, wide = last.output[0], f"{last.output[0]}_wide"
        last.output[0] = wide
        ranges[wide] = ranges[narrow]
        ends = {f"{wide}_{what}": value for what, value in (("from", 0), ("to", channels), ("axis", 1))}
        graph.graph.initializer.extend(
            onnx.numpy_helper.from_array(np.array([value], np.int64), name) for name, value in ends.items()
        )
        cuts[wide] = onnx.helper.make_node("Slice", [wide, *ends], [narrow], f"{last.name}/narrow")
    nodes = [part for node in graph.graph.node for part in (node, cuts.get(node.output[0])) if part is not None]
    used = {name for node in nodes for name in node.input}
    left = [tensor for tensor in graph.graph.initializer if tensor.name in used]
    del graph.graph.node[:], graph.graph.value_info[:], graph.graph.initializer[:]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(left)
    return ranges


def _alike(graph: Any, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Returns the ranges with those of concatenated tensors made one, where that costs none more than two bits."""
    ranges = dict(ranges)
    for node in graph.graph.node:
        # Shapes are concatenated too and have no range; nor have constants, whose values are known.
        if node.op_type == "Concat" and (whole := ranges.get(node.output[0])) is not None:
            ranges |= {name: whole for name in node.input if name in ranges and 4 * ranges[name].peak >= whole.peak}
    return ranges
