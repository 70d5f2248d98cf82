"""The graph lint beside the parser and builder that it stands for: the table of docs/lint.md.

    python benchmarks/lint.py [--model mlcl-edge] [--output docs/lint.md] [--json FILE]

A graph that irdet exports is changed in one way at a time. The lint judges each for every TensorRT, and TensorRT-RTX,
whose parser and builder run without a GPU, parses it and builds a plan for one GPU. Needs `tensorrt_rtx`.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.engines.probe import as_batch, probe_frame
from irdet.engines.tensorrt.build import PROFILE, _network_flags
from irdet.engines.tensorrt.library import find_library, last_line
from irdet.export import fp16
from irdet.export import int8 as quantiser
from irdet.export.calibration import observe
from irdet.export.limits import LIMITS
from irdet.export.lint import lint_model
from irdet.export.onnx import OnnxOptions, export_onnx, label
from irdet.export.precision import fixed
from irdet.models import LoadedModel, load_model

Model = onnx.ModelProto

#: Height and width of the graphs that are changed, where they are fixed.
SIZE = (64, 96)


@dataclass(frozen=True)
class Mutation:
    """One change of a graph.

    Attributes:
        name: What is changed.
        base: Precision of the graph that is changed.
        change: Does it, in place.
        rule: The finding that the lint must have, "" for none.
        target: The TensorRT that it must have it for.
        opset: Of the graph that is changed.
        free: The graph's size is free.
        profile: The builder gets a profile where the graph's size is free.
    """

    name: str
    base: str
    change: Callable[[Model], None]
    rule: str = ""
    target: str = "rtx"
    opset: int = 19
    free: bool = False
    profile: bool = True


def nodes(m: Model, kind: str) -> list[Any]:
    return [node for node in m.graph.node if node.op_type == kind]


def put(m: Model, name: str, values: Any, kind: int | None = None) -> str:
    """Sets a constant."""
    tensor = numpy_helper.from_array(np.asarray(values), name)
    if kind is not None:
        tensor = helper.make_tensor(name, kind, np.shape(values), np.ravel(values))
    for old in m.graph.initializer:
        if old.name == name:
            old.CopyFrom(tensor)
            return name
    m.graph.initializer.append(tensor)
    return name


def get(m: Model, name: str) -> Any:
    return next(numpy_helper.to_array(t) for t in m.graph.initializer if t.name == name)


def after(m: Model, name: str, *made: Any) -> None:
    """Puts nodes behind a tensor; the last one's output takes its place."""
    last = made[-1].output[0]
    for node in m.graph.node:
        for index, given in enumerate(node.input):
            if given == name:
                node.input[index] = last
    at = next(i for i, node in enumerate(m.graph.node) if name in node.output)
    rest = list(m.graph.node)
    del m.graph.node[:]
    m.graph.node.extend([*rest[: at + 1], *made, *rest[at + 1 :]])


def before(m: Model, node: Any, *made: Any) -> None:
    at = next(i for i, other in enumerate(m.graph.node) if other is node or other == node)
    rest = list(m.graph.node)
    del m.graph.node[:]
    m.graph.node.extend([*rest[:at], *made, *rest[at:]])


def attribute(node: Any, **values: Any) -> None:
    for key, value in values.items():
        for old in [a for a in node.attribute if a.name == key]:
            node.attribute.remove(old)
        node.attribute.append(helper.make_attribute(key, value))


def feature(m: Model) -> str:
    """A tensor in the middle of the network, float32 [N, C, H, W]."""
    return str(nodes(m, "Relu")[2].output[0])


def insert(kind: str, *extra: Any, domain: str = "", outputs: int = 1, **attributes: Any) -> Callable[[Model], None]:
    """Puts one node behind a tensor in the middle; `extra` are its constants."""

    def change(m: Model) -> None:
        name = feature(m)
        inputs = [put(m, f"extra_{i}", value) if value is not None else "" for i, value in enumerate(extra)]
        names = ["changed", *(f"changed_{i}" for i in range(1, outputs))]
        after(m, name, helper.make_node(kind, [name, *inputs], names, "changed", domain=domain, **attributes))

    return change


def cast_around(kind: int, operator: str = "Relu") -> Callable[[Model], None]:
    """Computes one node in another type."""

    def change(m: Model) -> None:
        name = feature(m)
        after(
            m,
            name,
            helper.make_node("Cast", [name], ["narrow"], "to_narrow", to=kind),
            helper.make_node(operator, ["narrow"], ["computed"], "computes"),
            helper.make_node("Cast", ["computed"], ["wide"], "to_wide", to=TensorProto.FLOAT),
        )

    return change


# Q/DQ


def pair(m: Model, weight: bool = False, index: int = 1) -> tuple[Any, Any]:
    """Returns Q and DQ of an activation or of a weight."""
    constants = {t.name for t in m.graph.initializer}
    quantise = [n for n in nodes(m, "QuantizeLinear") if (n.input[0] in constants) == weight][index]
    return quantise, next(n for n in nodes(m, "DequantizeLinear") if n.input[0] == quantise.output[0])


def zero_point(values: Any, weight: bool = False) -> Callable[[Model], None]:
    def change(m: Model) -> None:
        for node in pair(m, weight):
            shape = np.shape(get(m, node.input[1]))
            node.input[2] = put(m, f"{node.name}_zero", np.broadcast_to(values, shape).copy())

    return change


def scale(values: Callable[[Any], Any], weight: bool = False, only: int | None = None) -> Callable[[Model], None]:
    def change(m: Model) -> None:
        both = pair(m, weight)
        for node in both if only is None else both[only : only + 1]:
            node.input[1] = put(m, f"{node.name}_scale", values(get(m, node.input[1])))

    return change


def per_channel_activation(m: Model) -> None:
    convolution = next(n for n in nodes(m, "Relu") if n.output[0] == pair(m)[0].input[0]).input[0]
    (maker,) = (n for n in nodes(m, "Conv") if n.output[0] == convolution)
    weight = next(n for n in nodes(m, "DequantizeLinear") if n.output[0] == maker.input[1])
    channels = get(m, weight.input[1]).size
    for node in pair(m):
        node.input[1] = put(m, f"{node.name}_scale", np.full(channels, get(m, node.input[1]), np.float32))
        node.input[2] = put(m, f"{node.name}_zero", np.zeros(channels, np.int8))
        attribute(node, axis=1)


def per_tensor_weight(m: Model) -> None:
    for node in pair(m, weight=True):
        node.input[1] = put(m, f"{node.name}_scale", np.float32(0.02))
        node.input[2] = put(m, f"{node.name}_zero", np.int8(0))


def weight_axis(axis: int, fitting: bool = True) -> Callable[[Model], None]:
    def change(m: Model) -> None:
        weight = get(m, pair(m, weight=True)[0].input[0])
        for node in pair(m, weight=True):
            if fitting:
                count = weight.shape[axis]
                node.input[1] = put(m, f"{node.name}_scale", np.full(count, 0.02, np.float32))
                node.input[2] = put(m, f"{node.name}_zero", np.zeros(count, np.int8))
            attribute(node, axis=axis)

    return change


def fewer_scales(m: Model) -> None:
    for node in pair(m, weight=True):
        node.input[1] = put(m, f"{node.name}_scale", get(m, node.input[1])[:-1])
        node.input[2] = put(m, f"{node.name}_zero", get(m, node.input[2])[:-1])


def quantised_bias(m: Model) -> None:
    conv = next(n for n in nodes(m, "Conv") if n.input[1] == pair(m, weight=True)[1].output[0])
    bias = get(m, conv.input[2])
    put(m, "bias_q", np.round(bias / 1e-4).astype(np.int32))
    put(m, "bias_scale", np.full(bias.shape, 1e-4, np.float32))
    put(m, "bias_zero", np.zeros(bias.shape, np.int32))
    before(
        m,
        conv,
        helper.make_node("DequantizeLinear", ["bias_q", "bias_scale", "bias_zero"], ["bias_dq"], "bias_DQ", axis=0),
    )
    next(n for n in nodes(m, "Conv") if n.input[1] == pair(m, weight=True)[1].output[0]).input[2] = "bias_dq"


def no_zero_point(m: Model) -> None:
    for node in pair(m):
        del node.input[2:]


def runtime_scale(m: Model) -> None:
    quantise, dequantise = pair(m)
    name = quantise.input[0]
    put(m, "steps", np.float32(127))
    made = (
        helper.make_node("ReduceMax", [name], ["peak"], "peak", keepdims=0),
        helper.make_node("Div", ["peak", "steps"], ["live_scale"], "live_scale"),
    )
    quantise.input[1] = dequantise.input[1] = "live_scale"
    before(m, quantise, *made)


def bare_weight(m: Model) -> None:
    quantise, dequantise = pair(m, weight=True)
    weight, scales = get(m, quantise.input[0]), get(m, quantise.input[1])
    values = np.clip(np.round(weight / scales[:, None, None, None]), -127, 127).astype(np.int8)
    dequantise.input[0] = put(m, "weight_int8", values)
    m.graph.node.remove(quantise)


def bare_weights(m: Model) -> None:
    constants = {t.name for t in m.graph.initializer}
    for quantise in [n for n in nodes(m, "QuantizeLinear") if n.input[0] in constants]:
        dequantise = next(n for n in nodes(m, "DequantizeLinear") if n.input[0] == quantise.output[0])
        weight, scales = get(m, quantise.input[0]), get(m, quantise.input[1])
        values = np.clip(np.round(weight / scales[:, None, None, None]), -127, 127).astype(np.int8)
        dequantise.input[0] = put(m, f"{quantise.name}_int8", values)
        m.graph.node.remove(quantise)


def block_quantised(m: Model) -> None:
    weight = get(m, pair(m, weight=True)[0].input[0])
    for node in pair(m, weight=True):
        shape = (weight.shape[0], weight.shape[1] // 2, *weight.shape[2:])
        node.input[1] = put(m, f"{node.name}_scale", np.full(shape, 0.02, np.float32))
        node.input[2] = put(m, f"{node.name}_zero", np.zeros(shape, np.int8))
        attribute(node, axis=1, block_size=2)


def quantised_to(kind: int) -> Callable[[Model], None]:
    def change(m: Model) -> None:
        for node in pair(m):
            node.input[2] = put(m, f"{node.name}_zero", 0, kind)

    return change


def int4_weight(m: Model) -> None:
    for node in pair(m, weight=True):
        count = get(m, node.input[1]).shape[0]
        node.input[2] = put(m, f"{node.name}_zero", [0] * count, TensorProto.INT4)


def without_dequantise(m: Model) -> None:
    quantise, dequantise = pair(m)
    for node in m.graph.node:
        for index, name in enumerate(node.input):
            if name == dequantise.output[0]:
                node.input[index] = quantise.output[0]
    m.graph.node.remove(dequantise)


def relu_between(m: Model) -> None:
    """Computes on int8 between Q and DQ."""
    quantise, _ = pair(m)
    after(m, quantise.output[0], helper.make_node("Relu", [quantise.output[0]], ["int8_relu"], "int8_relu"))


def bare_activation(m: Model) -> None:
    """Leaves the weights of a convolution quantised, and not its input."""
    quantise, dequantise = pair(m)
    for node in m.graph.node:
        for index, name in enumerate(node.input):
            if name == dequantise.output[0]:
                node.input[index] = quantise.input[0]
    for node in (quantise, dequantise):
        m.graph.node.remove(node)


def half_scales_in_float(m: Model) -> None:
    for node in pair(m):
        node.input[1] = put(m, f"{node.name}_scale", np.float16(get(m, node.input[1])))


def float_scale_in_half(m: Model) -> None:
    for node in pair(m):
        node.input[1] = put(m, f"{node.name}_scale", np.float32(get(m, node.input[1])))


def linear_convolution(m: Model) -> None:
    conv = next(n for n in nodes(m, "Conv") if n.input[1] == pair(m, weight=True)[1].output[0])
    weight = get(m, pair(m, weight=True)[0].input[0])
    constants = {
        "q_s": np.float32(0.02),
        "q_z": np.int8(0),
        "q_w": np.zeros(weight.shape, np.int8),
    }
    for name, value in constants.items():
        put(m, name, value)
    given = conv.input[0]
    quantise = helper.make_node("QuantizeLinear", [given, "q_s", "q_z"], ["q_x"], "q_x")
    linear = helper.make_node(
        "QLinearConv", ["q_x", "q_s", "q_z", "q_w", "q_s", "q_z", "q_s", "q_z"], ["q_y"], "qlinear"
    )
    linear.attribute.extend(conv.attribute)
    back = helper.make_node("DequantizeLinear", ["q_y", "q_s", "q_z"], [conv.output[0]], "q_back")
    before(m, conv, quantise, linear, back)
    m.graph.node.remove(conv)


# types


def missing_cast(m: Model) -> None:
    """Adds a float32 constant to a half tensor."""
    name = feature(m)
    put(m, "extra_0", np.float32(0.5))
    after(m, name, helper.make_node("Add", [name, "extra_0"], ["changed"], "changed"))


def half_bias(m: Model) -> None:
    conv = nodes(m, "Conv")[2]
    conv.input[2] = put(m, "half_bias", get(m, conv.input[2]).astype(np.float16))


def double_constant(m: Model) -> None:
    name = feature(m)
    put(m, "extra_0", np.float64(0.5))
    after(
        m,
        name,
        helper.make_node("Cast", ["extra_0"], ["single"], "single", to=TensorProto.FLOAT),
        helper.make_node("Add", [name, "single"], ["changed"], "changed"),
    )


def input_type(kind: int) -> Callable[[Model], None]:
    def change(m: Model) -> None:
        port = m.graph.input[0]
        port.type.tensor_type.elem_type = kind
        first = m.graph.node[next(i for i, n in enumerate(m.graph.node) if port.name in n.input)]
        before(m, first, helper.make_node("Cast", [port.name], ["as_float"], "as_float", to=TensorProto.FLOAT))
        for node in m.graph.node:
            if node.name != "as_float":
                for index, name in enumerate(node.input):
                    if name == port.name:
                        node.input[index] = "as_float"

    return change


def output_type(m: Model) -> None:
    port = m.graph.output[0]
    last = next(n for n in m.graph.node if port.name in n.output)
    last.output[0] = "as_float"
    m.graph.node.append(helper.make_node("Cast", ["as_float"], [port.name], "to_half", to=TensorProto.FLOAT16))
    port.type.tensor_type.elem_type = TensorProto.FLOAT16


def strings(m: Model) -> None:
    m.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [1], [b"irdet"]))
    m.graph.node.append(helper.make_node("Identity", ["text"], ["text_out"], "text"))


def large_integers(m: Model) -> None:
    name = feature(m)
    put(m, "large", np.array([1 << 40], np.int64))
    after(
        m,
        name,
        helper.make_node("Cast", ["large"], ["large_float"], "large_float", to=TensorProto.FLOAT),
        helper.make_node("Min", [name, "large_float"], ["changed"], "changed"),
    )


# operators and subgraphs


def condition(m: Model) -> None:
    name = feature(m)
    put(m, "one", np.float32(0))
    branches = {}
    for branch, kind in (("then_branch", "Relu"), ("else_branch", "Neg")):
        out = helper.make_tensor_value_info(f"{branch}_out", TensorProto.FLOAT, None)
        branches[branch] = helper.make_graph(
            [helper.make_node(kind, [name], [f"{branch}_out"], branch)], branch, [], [out]
        )
    after(
        m,
        name,
        helper.make_node("ReduceMax", [name], ["top"], "top", keepdims=0),
        helper.make_node("Greater", ["top", "one"], ["positive"], "positive"),
        helper.make_node("If", ["positive"], ["changed"], "changed", **branches),
    )
    # what the condition and the branches read is the tensor itself
    made = {n.name: n for n in m.graph.node}
    made["top"].input[0] = name


def loop(m: Model) -> None:
    name = feature(m)
    put(m, "trips", np.int64(2))
    put(m, "go", np.bool_(True))
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go_out"], "go_on"),
            helper.make_node("Relu", ["state_in"], ["state_out"], "state"),
        ],
        "body",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, None),
        ],
    )
    after(m, name, helper.make_node("Loop", ["trips", "go", name], ["changed"], "changed", body=body))


def bad_operator_in_branch(m: Model) -> None:
    condition(m)
    branch = next(a.g for a in nodes(m, "If")[0].attribute if a.name == "else_branch")
    name = branch.node[0].input[0]
    del branch.node[:]
    branch.node.extend(
        [
            helper.make_node("Unique", [name], ["values"], "in_branch"),
            helper.make_node("Relu", [name], ["else_branch_out"], "else_relu"),
        ]
    )


def local_function(*body: Any) -> Callable[[Model], None]:
    """Puts a call of a function in the middle, whose nodes take x and give y."""

    def change(m: Model) -> None:
        m.opset_import.append(helper.make_opsetid("local", 1))
        own = helper.make_opsetid("", m.opset_import[0].version)
        m.functions.append(helper.make_function("local", "Own", ["x"], ["y"], list(body), [own]))
        insert("Own", domain="local")(m)

    return change


def resize(**values: Any) -> Callable[[Model], None]:
    def change(m: Model) -> None:
        attribute(nodes(m, "Resize")[0], **values)

    return change


def resize_by_axes(m: Model) -> None:
    node = nodes(m, "Resize")[0]
    attribute(node, axes=[2, 3])
    node.input[2] = put(m, "two_scales", np.array([2, 2], np.float32))


def pool(**values: Any) -> Callable[[Model], None]:
    def change(m: Model) -> None:
        attribute(nodes(m, "MaxPool")[0], **values)

    return change


def pool_with_indices(m: Model) -> None:
    nodes(m, "MaxPool")[0].output.append("indices")
    name = nodes(m, "MaxPool")[0].output[0]
    after(
        m,
        name,
        helper.make_node("Cast", ["indices"], ["places"], "places", to=TensorProto.FLOAT),
        helper.make_node("Add", [name, "places"], ["changed"], "changed"),
    )
    next(n for n in m.graph.node if n.name == "changed").input[0] = name


def live_weights(m: Model) -> None:
    conv = nodes(m, "Conv")[2]
    name = conv.input[1]
    put(m, "peak_of", np.float32(1))
    given = m.graph.input[0].name
    before(
        m,
        conv,
        helper.make_node("ReduceMax", [given], ["top"], "top", keepdims=0),
        helper.make_node("Mul", [name, "top"], ["live"], "live"),
    )
    nodes(m, "Conv")[2].input[1] = "live"


def training_batchnorm(m: Model) -> None:
    channels = get(m, nodes(m, "Conv")[2].input[1]).shape[1]
    name = feature(m)
    ones = [put(m, f"extra_{i}", np.ones(channels, np.float32)) for i in range(4)]
    out = ["changed", "mean", "variance"]
    after(m, name, helper.make_node("BatchNormalization", [name, *ones], out[:1], "changed", training_mode=0))
    node = nodes(m, "BatchNormalization")[0]
    attribute(node, training_mode=1)
    node.output.extend(out[1:])


def not_a_number(m: Model) -> None:
    name = nodes(m, "Conv")[2].input[1]
    values = get(m, name).copy()
    values.flat[0] = np.nan
    put(m, name, values)


def sparse_weights(m: Model) -> None:
    name = nodes(m, "Conv")[2].input[1]
    tensor = next(t for t in m.graph.initializer if t.name == name)
    dense = numpy_helper.to_array(tensor)
    values = numpy_helper.from_array(dense.ravel()[:4].copy(), name)
    indices = numpy_helper.from_array(np.arange(4, dtype=np.int64), f"{name}_indices")
    m.graph.initializer.remove(tensor)
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, list(dense.shape)))


def opset(version: int) -> Callable[[Model], None]:
    def change(m: Model) -> None:
        m.opset_import[0].version = version
        record(opset=version)(m)

    return change


# shapes


def free_channels(m: Model) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "channels"


def free_height(m: Model) -> None:
    for port in (m.graph.input[0], m.graph.output[0]):
        port.type.tensor_type.shape.dim[2].dim_param = "height"


def no_shape(m: Model) -> None:
    m.graph.input[0].type.tensor_type.ClearField("shape")
    m.graph.output[0].type.tensor_type.ClearField("shape")


def three_channels(m: Model) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    name = m.graph.input[0].name
    first = m.graph.node[0]
    before(
        m, first, helper.make_node("ReduceMean", [name, put(m, "axis_1", np.array([1]))], ["grey"], "grey", keepdims=1)
    )
    for node in m.graph.node:
        if node.name != "grey":
            for index, given in enumerate(node.input):
                if given == name:
                    node.input[index] = "grey"


def second_input(m: Model) -> None:
    port = helper.make_tensor_value_info("bias_in", TensorProto.FLOAT, [1])
    m.graph.input.append(port)
    name = feature(m)
    after(m, name, helper.make_node("Add", [name, "bias_in"], ["changed"], "changed"))


def second_output(m: Model) -> None:
    m.graph.output.append(helper.make_tensor_value_info(feature(m), TensorProto.FLOAT, ["n", "c", "h", "w"]))


# the file


def no_record(m: Model) -> None:
    del m.metadata_props[:]


def record(**changes: Any) -> Callable[[Model], None]:
    def change(m: Model) -> None:
        entry = next(e for e in m.metadata_props if e.key == METADATA_KEY)
        entry.value = ModelInfo.from_json(entry.value).replace(**changes).to_json()

    return change


def damaged_record(m: Model) -> None:
    next(e for e in m.metadata_props if e.key == METADATA_KEY).value = "{"


def external_data(m: Model) -> None:
    tensor = max(m.graph.initializer, key=lambda t: len(t.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def unsorted(m: Model) -> None:
    turned = list(m.graph.node)[::-1]
    del m.graph.node[:]
    m.graph.node.extend(turned)


def missing_tensor(m: Model) -> None:
    nodes(m, "Conv")[3].input[0] = "nowhere"


def twice_written(m: Model) -> None:
    relu = nodes(m, "Relu")
    relu[3].output[0] = relu[2].output[0]


def shapes_that_do_not_fit(m: Model) -> None:
    conv = nodes(m, "Conv")[3]
    conv.input[1] = put(m, "odd_weight", np.zeros((8, 5, 3, 3), np.float32))


def nothing(m: Model) -> None:
    return


def dead_channel(s: Any) -> Any:
    return s * (np.arange(s.size) > 0).astype(s.dtype)


MUTATIONS = (
    # Q/DQ
    Mutation("bias quantised to int32", "int8", quantised_bias, "qdq-bias"),
    Mutation("zero point 3 of an activation", "int8", zero_point(np.int8(3)), "qdq-zero-point"),
    Mutation("zero point 3 of weights", "int8", zero_point(np.int8(3), weight=True), "qdq-zero-point"),
    Mutation("activation in uint8, zero point 0", "int8", zero_point(np.uint8(0)), "qdq-unsigned"),
    Mutation("activation in uint8, zero point 128", "int8", zero_point(np.uint8(128)), "qdq-zero-point"),
    Mutation("weights in uint8, zero point 128", "int8", zero_point(np.uint8(128), weight=True), "qdq-zero-point"),
    Mutation("no zero point, so uint8", "int8", no_zero_point, "qdq-unsigned"),
    Mutation("activation with a scale per channel", "int8", per_channel_activation, "qdq-activation-axis"),
    Mutation("weights with one scale", "int8", per_tensor_weight),
    Mutation("weights with scales along axis 1", "int8", weight_axis(1), "qdq-axis"),
    Mutation("weights with scales along axis 9", "int8", weight_axis(9, fitting=False), "qdq-axis"),
    Mutation("one scale too few", "int8", fewer_scales, "qdq-axis"),
    Mutation("scale 0", "int8", scale(lambda s: s * 0), "qdq-scale"),
    Mutation("scale below 0", "int8", scale(lambda s: -s), "qdq-scale"),
    Mutation("scale infinite", "int8", scale(lambda s: s * np.float32(np.inf)), "qdq-scale"),
    Mutation("scale 0 of one channel", "int8", scale(dead_channel, weight=True), "qdq-scale"),
    Mutation("scale computed from the frame", "int8", runtime_scale, "qdq-scale"),
    Mutation("Q and DQ with different scales", "int8", scale(lambda s: s * 2, only=1), "qdq-pair"),
    Mutation("only the weights quantised", "int8", bare_activation, "qdq-conv"),
    Mutation("weights of one layer as int8 with DQ alone", "int8", bare_weight, "qdq-int8-weights", "tensorrt-8.6", 17),
    Mutation("all weights as int8 with DQ alone", "int8", bare_weights, "qdq-int8-weights", "tensorrt-8.6", 17),
    Mutation("weights in blocks", "int8", block_quantised, "qdq-block", opset=21),
    Mutation("activation in int16", "int8", quantised_to(TensorProto.INT16), "qdq-type", opset=21),
    Mutation("activation in uint16", "int8", quantised_to(TensorProto.UINT16), "qdq-type", opset=21),
    Mutation("activation in float8", "int8", quantised_to(TensorProto.FLOAT8E4M3FN), "qdq-type"),
    Mutation("weights in int4", "int8", int4_weight, "qdq-type", opset=21),
    Mutation("Q without DQ", "int8", without_dequantise, "qdq-pair"),
    Mutation("Relu between Q and DQ", "int8", relu_between, "qdq-pair"),
    Mutation("half scales in a float32 graph", "int8", half_scales_in_float, "mixed-types"),
    Mutation("float32 scales in a half graph", "int8+fp16", float_scale_in_half, "mixed-types"),
    Mutation("half scales at opset 17", "int8+fp16", opset(17), "half-scales"),
    Mutation("half scales", "int8+fp16", nothing, "half-scales", "tensorrt-8.6"),
    Mutation("QLinearConv", "int8", linear_convolution, "operator"),
    Mutation("DynamicQuantizeLinear", "fp32", insert("DynamicQuantizeLinear", outputs=3), "operator"),
    # types
    Mutation("bfloat16 inside", "fp32", cast_around(TensorProto.BFLOAT16), "type", "tensorrt-8.6", 17),
    Mutation("double inside", "fp32", cast_around(TensorProto.DOUBLE), "type"),
    Mutation("double constant", "fp32", double_constant, "type"),
    Mutation("uint8 inside", "fp32", cast_around(TensorProto.UINT8, "Identity"), "type"),
    Mutation("int16 inside", "fp32", cast_around(TensorProto.INT16, "Identity"), "type"),
    Mutation("uint32 inside", "fp32", cast_around(TensorProto.UINT32, "Identity"), "type"),
    Mutation("int64 inside", "fp32", cast_around(TensorProto.INT64, "Identity"), "", "tensorrt-8.6", 17),
    Mutation("int64 beyond 32 bits", "fp32", large_integers, "int64", "tensorrt-8.6", 17),
    Mutation("int8 without Q/DQ", "fp32", cast_around(TensorProto.INT8, "Identity"), "type"),
    Mutation("strings", "fp32", strings, "type"),
    Mutation("sparse weights", "fp32", sparse_weights, "type"),
    Mutation("half and float32 added", "fp16", missing_cast, "mixed-types"),
    Mutation("half bias of a float32 convolution", "fp32", half_bias, "mixed-types"),
    Mutation("input in half", "fp32", input_type(TensorProto.FLOAT16), "port"),
    Mutation("input in uint8", "fp32", input_type(TensorProto.UINT8), "port"),
    Mutation("input in int8", "fp32", input_type(TensorProto.INT8), "port"),
    Mutation("output in half", "fp32", output_type, "port"),
    # opsets and operators
    Mutation("opset 19", "fp32", nothing, "opset", "tensorrt-8.6"),
    Mutation("opset 21", "fp32", opset(21), "opset", "tensorrt-10"),
    Mutation("opset 24", "fp32", opset(24), "opset", "tensorrt-10"),
    Mutation("opset 25", "fp32", opset(25), "opset"),
    Mutation("opset 8", "fp32", opset(8), "opset"),
    Mutation("an operator of no TensorRT (Det)", "fp32", insert("Det"), "operator"),
    Mutation("an operator of no TensorRT (Unique)", "fp32", insert("Unique"), "operator"),
    Mutation("an operator that 8.6 lacks (Gelu)", "fp32", insert("Gelu"), "operator", "tensorrt-8.6", 20),
    Mutation("an operator that ONNX lacks", "fp32", insert("Cnov"), "operator"),
    Mutation("an operator of ONNX Runtime", "fp32", insert("QuickGelu", domain="com.microsoft"), "domain"),
    Mutation("NonZero", "fp32", insert("NonZero"), "operator"),
    Mutation(
        "ScatterND with a reduction",
        "fp32",
        insert("ScatterND", np.zeros((1, 4), np.int64), np.ones(1, np.float32), reduction="add"),
        "scatter",
    ),
    Mutation(
        "a function in the file",
        "fp32",
        local_function(helper.make_node("Add", ["x", "x"], ["y"], "twice")),
        "domain",
        "tensorrt-8.6",
        17,
    ),
    Mutation(
        "a function with Unique in it",
        "fp32",
        local_function(helper.make_node("Unique", ["x"], ["y"], "unique")),
        "operator",
    ),
    Mutation("If", "fp32", condition, "subgraph"),
    Mutation("If with Unique in a branch", "fp32", bad_operator_in_branch, "operator"),
    Mutation("Loop", "fp32", loop, "subgraph"),
    Mutation("Resize, cubic", "fp32", resize(mode="cubic"), "resize"),
    Mutation("Resize, antialias", "fp32", resize(antialias=1), "resize"),
    Mutation("Resize, crop", "fp32", resize(coordinate_transformation_mode="tf_crop_and_resize"), "resize"),
    Mutation(
        "Resize, half_pixel_symmetric",
        "fp32",
        resize(coordinate_transformation_mode="half_pixel_symmetric"),
        "resize",
    ),
    Mutation("Resize, aspect ratio kept", "fp32", resize(keep_aspect_ratio_policy="not_larger"), "resize"),
    Mutation("Resize of two axes", "fp32", resize_by_axes, "resize"),
    Mutation("MaxPool with dilation", "fp32", pool(dilations=[2, 2], pads=[0, 0, 1, 1]), "pool"),
    Mutation("MaxPool with indices", "fp32", pool_with_indices, "pool"),
    Mutation("BatchNormalization in training", "fp32", training_batchnorm, "training"),
    Mutation("weights computed from the frame", "fp32", live_weights, "weights", "tensorrt-8.6", 17),
    Mutation("a weight that is not a number", "fp32", not_a_number, "weights"),
    Mutation("weights that do not fit", "fp32", shapes_that_do_not_fit, "weights"),
    # shapes
    Mutation("free size", "fp32", nothing, free=True),
    Mutation("free size, no record, no profile", "fp32", no_record, "dynamic", free=True, profile=False),
    Mutation("free height alone", "fp32", free_height, "dynamic"),
    Mutation("free channels", "fp32", free_channels, "port"),
    Mutation("input of unknown rank", "fp32", no_shape, "port"),
    Mutation("three channels", "fp32", three_channels, "port"),
    Mutation("a second input", "fp32", second_input, "port"),
    Mutation("a second output", "fp32", second_output, "port"),
    # the file
    Mutation("no record of irdet's", "fp32", no_record, "record"),
    Mutation("damaged record", "fp32", damaged_record, "record"),
    Mutation("record says FP16", "fp32", record(precision="fp16"), "record"),
    Mutation("record says INT8 for CPUs", "int8", record(target="cpu"), "record"),
    Mutation("record says another size", "fp32", record(height=128, width=128), "record"),
    Mutation("weights in a file that is gone", "fp32", external_data, "external-data"),
    Mutation("nodes out of order", "fp32", unsorted, "invalid"),
    Mutation("a tensor that nothing computes", "fp32", missing_tensor, "invalid"),
    Mutation("a tensor computed twice", "fp32", twice_written, "invalid"),
)

#: Rule -> why the lint has an error where TensorRT-RTX builds a plan.
STRICTER = {
    "qdq-unsigned": "TensorRT-RTX warns of it in its log at most, and computes with int8: what ONNX has between 128 "
    "and 255 is cut to 127. The plan is built, and computes something else.",
    "qdq-axis": "NVIDIA documents scales of a convolution's weights along its outputs alone. TensorRT-RTX builds a "
    "plan; whether the layer is int8 in it cannot be seen without a GPU.",
    "qdq-activation-axis": "NVIDIA documents one scale for a convolution's input. TensorRT-RTX builds a plan; whether "
    "the layer is int8 in it cannot be seen without a GPU.",
    "qdq-scale": "The parser looks whether scales are positive, and infinity is.",
    "qdq-pair": "TensorRT-RTX computes some operators on int8; NVIDIA documents int8 between Q and DQ alone, and "
    "TensorRT 8.6 and 10 cannot be asked here.",
    "half-scales": "The parser does not look at the opset of Q/DQ. The file is not valid ONNX: ONNX Runtime, with "
    "which exports are measured, refuses it.",
    "opset": "The parser does not look at the opset. NVIDIA documents 9 to 24, and operators of the graph have newer "
    "definitions, which may mean something else than what it reads.",
    "weights": "TensorRT-RTX does not look at the weights' values; what is computed from them is not a number.",
    "port": "TensorRT takes other ports; irdet's runtime feeds one float32 [N, 1, H, W] and takes one back.",
    "record": "TensorRT does not read irdet's record; irdet's builder and runtime go by it, and refuse, or would "
    "believe what is wrong.",
    "invalid": "TensorRT's parser sorts nodes itself, and so does ONNX Runtime; ONNX demands that they are sorted, and "
    "its own checker refuses the file.",
}


@dataclass(frozen=True)
class Verdict:
    """What TensorRT-RTX does with a file.

    Attributes:
        stage: `"built"`, or what failed: `"parser"`, `"builder"`; `"crash"`.
        said: What it said.
    """

    stage: str
    said: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table; `findings` are target -> (severity, rule)."""

    name: str
    base: str
    rule: str
    findings: dict[str, list[tuple[str, str]]]
    verdict: Verdict

    @property
    def refused(self) -> bool:
        """Whether the lint has an error for TensorRT-RTX."""
        return any(severity == "error" for severity, _ in self.findings["rtx"])

    @property
    def agree(self) -> bool:
        return self.refused == (self.verdict.stage != "built")


def make_bases(model: LoadedModel, folder: Path) -> Callable[[Mutation], Model]:
    """Returns what gives the graph that a mutation changes: exported as `irdet export` does, without the gate."""

    @functools.cache
    def exported(opset: int) -> tuple[Model, ModelInfo, Any]:
        made = export_onnx(model, folder / f"{opset}.onnx", OnnxOptions(size=None, opset=opset))
        graph = onnx.load(str(made.path))
        return graph, made.info, observe(graph, [as_batch(probe_frame(*SIZE)[None])])

    @functools.cache
    def graph(precision: str, opset: int, free: bool) -> Path:
        source, info, ranges = exported(opset)
        half = "fp16" in precision
        if int8 := "int8" in precision:
            last = quantiser.convolutions(source, *SIZE)[-1].name
            source = quantiser.quantise(source, ranges, "tensorrt", [last], half=half)
        if half:
            source = fp16.to_half(source, fp16.plan_half(source, ranges).kept)
        size = None if free else SIZE
        path = folder / f"{precision}-{opset}-{'free' if free else 'fixed'}.onnx"
        onnx.save(fixed(source, size, 1), str(path))
        height, width = size or (None, None)
        target = "tensorrt" if int8 else None
        label(path, path, info.replace(precision=precision, target=target, height=height, width=width))
        return path

    def base(mutation: Mutation) -> Model:
        return onnx.load(str(graph(mutation.base, 17 if mutation.opset == 17 else 19, mutation.free)))

    return base


def mutate(mutation: Mutation, base: Callable[[Mutation], Model], path: Path) -> Path:
    """Writes the changed graph."""
    model = base(mutation)
    del model.graph.value_info[:]  # it tells of the graph as it was
    opset(mutation.opset)(model)
    mutation.change(model)
    path.write_bytes(model.SerializeToString())
    return path


def judge(path: Path, profile: bool) -> Verdict:
    """Parses and builds a file with TensorRT-RTX, in a process of its own: some files crash it."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(judged(path, profile)))
    process.start()
    process.join()
    return Verdict("crash", f"signal {-(process.exitcode or 0)}") if process.exitcode else receiver.recv()


def judged(path: Path, profile: bool) -> Verdict:
    library = find_library("tensorrt_rtx")
    trt: Any = library.module
    log = library.logger()
    builder = library.create("Builder", log)
    network = builder.create_network(_network_flags(library))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(path.read_bytes(), str(path)):
        error = parser.get_error(0)
        return Verdict("parser", f"{error.node_name()}: {error.desc()}".lstrip(": "))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    port = network.get_input(0)
    if profile and any(size < 0 for size in port.shape):
        shapes = builder.create_optimization_profile()
        shapes.set_shape(port.name, *((n, 1, h, w) for n, h, w in PROFILE))
        config.add_optimization_profile(shapes)
    if builder.build_serialized_network(network, config) is None:
        return Verdict("builder", last_line(log.errors))
    return Verdict("built", last_line(log.warnings))


def compare(model: LoadedModel, folder: Path) -> Iterator[Row]:
    base = make_bases(model, folder)
    for mutation in MUTATIONS:
        path = mutate(mutation, base, folder / "changed.onnx")
        findings = {
            target: [(finding.severity, finding.rule) for finding in lint_model(path, target)] for target in LIMITS
        }
        yield Row(mutation.name, mutation.base, mutation.rule, findings, judge(path, mutation.profile))


def markdown(rows: list[Row], model: str, library: str) -> str:
    agreed = sum(row.agree for row in rows)
    refused = sum(row.verdict.stage != "built" for row in rows)
    missed = [row for row in rows if not row.agree and not row.refused]
    strict = [row for row in rows if not row.agree and row.refused]
    assert {row.rule for row in strict} <= STRICTER.keys(), "each disagreement is explained"
    lines = [
        "# Graph lint",
        "",
        f"`irdet check FILE --for TARGET` beside {library}, whose parser and builder run without a GPU. Graphs of "
        f"`{model}` for {SIZE[1]}x{SIZE[0]} px were changed in one way at a time; the lint judged each for four "
        "targets, and TensorRT-RTX parsed it and built a plan for compute capability 8.6. TensorRT 8.6, 10 and 11 "
        "cannot be asked without a GPU: their columns are what NVIDIA documents of them.",
        "",
        f"{len(rows)} changes: TensorRT-RTX refuses {refused} "
        f"({sum(row.verdict.stage == 'crash' for row in rows)} of them by crashing) and builds {len(rows) - refused}. "
        f"The lint for RTX agrees on {agreed}; it is stricter on {len(strict)}, and misses {len(missed)}. A warning "
        "counts as letting through.",
        "",
        "| change | graph | 8.6 | 10 | 11 | RTX | TensorRT-RTX itself |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [_cell(row.findings[target]) for target in LIMITS]
        mark = "" if row.agree else " (!)"
        lines.append(f"| {row.name} | {row.base} | {' | '.join(cells)} | {_verdict(row.verdict)}{mark} |")
    lines += [
        "",
        "(!) marks what the lint for RTX and TensorRT-RTX disagree on.",
        "",
        "## Where the lint is stricter",
        "",
    ]
    for rule, why in STRICTER.items():
        if names := [row.name for row in strict if row.rule == rule]:
            lines.append(f"- `{rule}` ({'; '.join(names)}): {why}")
    lines += ["", "## What the lint misses", ""]
    lines += [f"- {row.name}: {row.verdict.said}" for row in missed] or ["Nothing of the above."]
    return "\n".join([*lines, "", f"Made by `python benchmarks/lint.py --model {model}`.", ""])


def _cell(findings: list[tuple[str, str]]) -> str:
    unique = dict.fromkeys(f"{rule}" if severity == "error" else f"({rule})" for severity, rule in findings)
    return ", ".join(unique) or "-"


def _verdict(verdict: Verdict) -> str:
    said = " ".join(verdict.said.split()).replace("|", "\\|")
    said = re.sub(r"^.*?(Assertion failed: |Error Code \d+: )", "", said)
    return verdict.stage if verdict.stage == "built" else f"{verdict.stage}: {said[:110]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mlcl-edge")
    parser.add_argument("--output", type=Path, default=Path("docs/lint.md"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for row in compare(load_model(arguments.model), Path(folder)):
            rows.append(row)
            print(
                f"{'same' if row.agree else 'DIFFERENT'}: {row.name}: {row.findings['rtx']}, {row.verdict}", flush=True
            )
    library = str(find_library("tensorrt_rtx"))
    arguments.output.write_text(markdown(rows, arguments.model, library), encoding="utf-8")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
