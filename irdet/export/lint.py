"""Graph lint: what a TensorRT would refuse, misread or slow down, found before the file is on the device.

TensorRT's own parser says as much only where it is installed, stops at the first fault, and takes some graphs for what
they are not. `irdet.export.limits` holds what differs between its versions; docs/lint.md sets this lint beside the
real parser and builder of TensorRT-RTX.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, ModelError, unknown_name
from irdet.core.extras import require
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.engines.external import check_external
from irdet.engines.tensorrt.build import PROFILE
from irdet.export.limits import HALF_SCALE_OPSET, LIMITS, OLDEST_OPSET, Limits

Severity = Literal["error", "warning"]

_PURPOSE = "checking an ONNX file"
_EXPORT = "export the network again with irdet export"
_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
_CONVOLUTIONS = ("Conv", "ConvTranspose")

#: Operators with at least two inputs that the rules look at.
_BINARY = (_QUANTISE, _DEQUANTISE, *_CONVOLUTIONS)

#: Rules whose faults are those of valid ONNX.
_VALID = ("record", "port", "dynamic", "opset")

#: How the parser resizes.
_RESIZE_COORDINATES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
_RESIZE_MODES = ("nearest", "linear")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a graph.

    Attributes:
        rule: Short name of what was broken, for instance `"qdq-zero-point"`.
        severity: `"error"`: it is refused, or computes something else than ONNX says. `"warning"`: it works, and the
            user should know.
        node: The node (its operator and output where it has no name), tensor or port; "" for the file.
        message: What is wrong.
        remedy: What to do.
    """

    rule: str
    severity: Severity
    node: str
    message: str
    remedy: str

    def __str__(self) -> str:
        at = f" {self.node}" if self.node else ""
        return f"{self.severity} [{self.rule}]{at}: {self.message}; {self.remedy}"


def lint_model(path: str | Path, target: str) -> tuple[Finding, ...]:
    """Judges an ONNX file for a TensorRT.

    Args:
        path: The file.
        target: A key of `LIMITS`: `"tensorrt-8.6"`, `"tensorrt-10"`, `"tensorrt-11"` or `"rtx"`.

    Returns:
        Errors first; what befalls many nodes alike is one finding that names the first of them.

    Raises:
        ModelError: There is no such file, or it is not an ONNX model.
        UsageError: There is no such target.
        MissingDependency: onnx is not installed.
    """
    if target not in LIMITS:
        raise unknown_name("target", target, LIMITS)
    onnx = require("onnx", "export", _PURPOSE)
    path = Path(path)
    graph = _Graph(onnx, _read(onnx, path), path)
    if unsound := _unsound(graph):
        return unsound  # the rules take it that nodes have what their operators need
    found = _merged(finding for rule in RULES for finding in rule(graph, LIMITS[target]))
    if not any(finding.severity == "error" and finding.rule not in _VALID for finding in found):
        found += _invalid(graph)  # it would say less clearly what a rule has said
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def lint_own(path: Path, info: ModelInfo) -> tuple[str, ...]:
    """Judges a graph that irdet has just made, for every TensorRT that reads its opset; one for CPUs is not judged.

    Args:
        path: The file.
        info: The record inside it.

    Returns:
        The warnings, as lines.

    Raises:
        IrdetError: There is an error in it, which is a fault of irdet's.
    """
    if info.target == "cpu" or info.opset is None:
        return ()
    notes = []
    for target, limits in LIMITS.items():
        if info.opset > limits.opset or (info.precision == "int8+fp16" and not limits.half_scales):
            continue
        for finding in lint_model(path, target):
            if finding.severity == "error":
                raise IrdetError(
                    f"irdet made a graph that {limits.name} does not take, a fault of irdet's own: {finding}"
                )
            notes.append(f"for {limits.name}: {finding}")
    return tuple(notes)


def _read(onnx: Any, path: Path) -> Any:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # protobuf's own, whichever protobuf it is
        raise ModelError(f"{path}: not an ONNX model, or one that is cut off") from error
    texts = (text for n in model.graph.node for text in (n.op_type, n.domain, n.name, *n.input, *n.output))
    # Text that is no UTF-8 comes as bytes.
    if not model.graph.node or not model.opset_import or not all(isinstance(text, str) for text in texts):
        raise ModelError(f"{path}: not an ONNX model, or one that is cut off")
    return model


def _unsound(graph: _Graph) -> tuple[Finding, ...]:
    """Nodes without an output, or without the inputs that every form of their operators has."""
    for node in graph.nodes:
        if not any(node.output) or (node.op_type in _BINARY and not all([*node.input, "", ""][:2])):
            message = f"this {node.op_type} lacks inputs or outputs"
            return (Finding("invalid", "error", node.name or node.op_type, message, _EXPORT),)
    return ()


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    groups: dict[Finding, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(replace(finding, node=""), []).append(finding)
    return [
        replace(same[0], message=f"{same[0].message} (and {len(same) - 1} more)" if same[1:] else same[0].message)
        for same in groups.values()
    ]


def _invalid(graph: _Graph) -> list[Finding]:
    onnx, checked = graph.onnx, str(graph.path)
    try:
        # The checker wants outputs with a shape. TensorRT and ONNX Runtime take them without, and infer it.
        if any(not port.type.tensor_type.HasField("shape") for port in graph.model.graph.output):
            checked = onnx.load(str(graph.path))
            for port in checked.graph.output:
                if (shape := graph.shape(port.name)) is not None:
                    kind = port.type.tensor_type.elem_type
                    port.type.CopyFrom(onnx.helper.make_tensor_type_proto(kind, [size or None for size in shape]))
        onnx.checker.check_model(checked, full_check=True)
    except Exception as error:  # the checker's and shape inference's, which share no base but Exception
        said = " ".join(str(error).split())
        said = said if len(said) <= 240 else f"{said[:240]} ..."
        return [Finding("invalid", "error", "", f"ONNX's own checker refuses the file: {said}", _EXPORT)]
    return []


class _Graph:
    """A model, looked at from its tensors; sub-graphs are part of it, and functions stand in their places."""

    def __init__(self, onnx: Any, model: Any, path: Path) -> None:
        self.own = {(function.domain, function.name) for function in model.functions}
        self.calls = [node for node in _walk(model.graph) if (node.domain, node.op_type) in self.own]
        self.onnx, self.model, self.path = onnx, _inlined(onnx, model) if self.own else model, path
        model = self.model
        self.opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        self.nodes = list(_walk(model.graph))
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            for inner in _subgraphs(node):
                self.constants.update((tensor.name, tensor) for tensor in inner.initializer)
            if node.op_type == "Constant" and node.output and (tensor := self._constant(node)) is not None:
                self.constants[node.output[0]] = tensor
        self.inputs = [port for port in model.graph.input if port.name not in self.constants]
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.takers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)
        self.kinds, self.shapes = self._infer()
        self.record, self.record_fault = self._record()

    def name(self, node: Any) -> str:
        """What a node is called."""
        return node.name or f"{node.op_type} of {node.output[0]}"

    def kind(self, tensor: str) -> str:
        """A tensor's type by ONNX's name; "" where unknown."""
        if (constant := self.constants.get(tensor)) is not None:
            return str(self.onnx.TensorProto.DataType.Name(constant.data_type))
        return self.kinds.get(tensor, "")

    def values(self, tensor: str) -> NDArray[Any] | None:
        """A constant's values; None where it is computed, or lies in another file."""
        constant = self.constants.get(tensor)
        if constant is None or constant.data_location == self.onnx.TensorProto.EXTERNAL:
            return None
        try:
            return self.onnx.numpy_helper.to_array(constant)
        except (ValueError, TypeError):  # fewer bytes than its shape needs: the checker says so
            return None

    def shape(self, tensor: str) -> list[int] | None:
        """A tensor's shape, 0 where a size is not known; None where the rank is not."""
        constant = self.constants.get(tensor)
        return list(constant.dims) if constant is not None else self.shapes.get(tensor)

    def attribute(self, node: Any, name: str, default: Any) -> Any:
        """An attribute's value; text as str."""
        for found in node.attribute:
            if found.name == name:
                value = self.onnx.helper.get_attribute_value(found)
                value = value.decode(errors="replace") if isinstance(value, bytes) else value
                return default if value is None else value
        return default

    def is_weight(self, tensor: str) -> bool:
        """Whether a tensor is a constant, quantised or not."""
        seen: set[str] = set()  # a damaged graph may run in a circle
        while (maker := self.makers.get(tensor)) is not None and maker.op_type in (_QUANTISE, _DEQUANTISE):
            if tensor in seen:
                break
            seen.add(tensor)
            tensor = maker.input[0]
        return tensor in self.constants

    def _constant(self, node: Any) -> Any:
        kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
        for found in node.attribute:
            if found.name == "value":
                return found.t
            if found.name in kinds:
                values = np.array(self.onnx.helper.get_attribute_value(found), kinds[found.name])
                return self.onnx.numpy_helper.from_array(values, node.output[0])
        return None

    def _infer(self) -> tuple[dict[str, str], dict[str, list[int]]]:
        try:
            graph = self.onnx.shape_inference.infer_shapes(self.model).graph
        except Exception:  # an unsound graph: what it declares is all there is, and the checker says what is wrong
            graph = self.model.graph
        kinds, shapes = {}, {}
        for port in (*graph.input, *graph.value_info, *graph.output):
            form = port.type.tensor_type
            if form.elem_type:
                kinds[port.name] = str(self.onnx.TensorProto.DataType.Name(form.elem_type))
            if form.HasField("shape"):
                shapes[port.name] = [dim.dim_value for dim in form.shape.dim]
        return kinds, shapes

    def _record(self) -> tuple[ModelInfo | None, str]:
        for entry in self.model.metadata_props:
            if entry.key == METADATA_KEY:
                try:
                    return ModelInfo.from_json(entry.value), ""
                except ModelError as error:
                    return None, str(error)
        return None, ""


def _inlined(onnx: Any, model: Any) -> Any:
    """Returns the model with what its own functions are made of in their places; itself where that fails."""
    import onnx.inliner as inliner

    try:
        return inliner.inline_local_functions(model, convert_version=True)
    except Exception:  # an unsound file: the checker says what is wrong
        return model


def _walk(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for inner in _subgraphs(node):
            yield from _walk(inner)


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


# The file and its ports.


def _records(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    """The record is what irdet's builder and runtime go by."""
    info = graph.record
    if info is None:
        if graph.record_fault:
            yield Finding("record", "error", "", graph.record_fault, _EXPORT)
        else:
            remedy = "irdet builds engines from files that irdet export wrote; trtexec takes others"
            yield Finding("record", "warning", "", "no record of irdet's in the file", remedy)
        return

    def fault(message: str, remedy: str = _EXPORT) -> Finding:
        return Finding("record", "error", "", message, remedy)

    if info.target == "cpu":
        yield fault("this INT8 graph is for CPUs", "export one for TensorRT: irdet export --int8 --calib DIR")
        return
    if info.opset is not None and info.opset != graph.opset:
        yield fault(f"its record says opset {info.opset}, the file opset {graph.opset}")
    half = any(graph.kind(name) == "FLOAT16" for node in graph.nodes for name in node.output)
    int8 = any(node.op_type == _QUANTISE for node in graph.nodes)
    found = "+".join(["int8"] * int8 + ["fp16"] * half) or "fp32"
    if found != info.precision:
        yield fault(f"its record says {info.precision}, the graph is {found}")
    if graph.inputs and len(size := graph.shape(graph.inputs[0].name) or []) == 4:
        told = [info.height or 0, info.width or 0]
        if told != size[2:]:
            yield fault(f"its record says {_size(told)}, the graph {_size(size[2:])}")


def _size(size: list[int]) -> str:
    return f"input {size[1] or '?'}x{size[0] or '?'}" if any(size) else "input of any size"


def _ports(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    """An engine of irdet's takes and gives one float32 [N, 1, H, W]."""
    severity: Severity = "error" if graph.record else "warning"
    for what, ports in (("input", graph.inputs), ("output", list(graph.model.graph.output))):
        if len(ports) != 1:
            message = f"{len(ports)} {what}s, where irdet's runtime has one"
            yield Finding("port", severity, ", ".join(p.name for p in ports), message, f"keep one {what} alone")
            continue
        name = ports[0].name
        kind, shape = graph.kind(name), graph.shape(name)
        if kind and kind != "FLOAT":
            remedy = "keep float32 at both ends and cast inside (irdet export --fp16 does)"
            yield Finding("port", severity, name, f"{what} in {kind.lower()}", remedy)
        if shape is None or len(shape) != 4:
            message = f"{what} of {'unknown rank' if shape is None else f'rank {len(shape)}'}"
            yield Finding("port", "error", name, message, "irdet's networks have float32 [N, 1, H, W] at both ends")
        elif shape[1] != 1:
            message = f"{what} with {shape[1] or 'any number of'} channels, where irdet's runtime has one"
            yield Finding("port", severity, name, message, "fold the channels into the graph; irdet export does")


def _dynamic(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    """Free sizes need an optimisation profile; irdet's builder has one that fits graphs of free height and width."""
    for port in graph.inputs:
        shape = graph.shape(port.name)
        if not shape or all(shape):
            continue
        if graph.record is None:
            remedy = f"fix the size, or give trtexec --minShapes, --optShapes and --maxShapes for {port.name}"
            message = "its size is free, and TensorRT builds that with an optimisation profile alone"
            yield Finding("dynamic", "error", port.name, message, remedy)
            continue
        fitting = len(shape) == 4 and all(
            not size or all(wanted[place] == size for wanted in PROFILE)
            for place, size in enumerate((shape[0], *shape[2:]))
        )
        if not fitting:
            told = " x ".join(str(size or "?") for size in shape)
            message = f"only some of its sizes are free ({told}), which irdet's own profile does not fit"
            remedy = "build it with irdet export --profile, or export with --dynamic or --imgsz"
            yield Finding("dynamic", "error", port.name, message, remedy)


def _external(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    remedy = "onnx.save writes them inside unless told otherwise"
    try:
        check_external(graph.path)
    except ModelError as error:
        yield Finding("external-data", "error", "", str(error), remedy)
        return
    for name, tensor in graph.constants.items():
        if tensor.data_location != graph.onnx.TensorProto.EXTERNAL:
            continue
        file = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        message = f"its values are in {file!r}, which must travel with the file"
        yield Finding("external-data", "warning", name, message, remedy)


# Opset, operators, types.


def _opsets(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    remedy = f"export with --opset {min(17, limits.opset)}"
    if graph.opset < OLDEST_OPSET:
        yield Finding(
            "opset", "error", "", f"opset {graph.opset}; {limits.name} reads {OLDEST_OPSET} and later", remedy
        )
    if graph.opset <= limits.opset:
        return
    changed = [node for node in graph.nodes if _since(graph, node) > limits.opset]
    told = f"opset {graph.opset}, where {limits.name} is documented to read up to {limits.opset}"
    for node in changed:
        yield Finding("opset", "error", graph.name(node), f"{told}, and this operator has changed since", remedy)
    if not changed:
        yield Finding("opset", "warning", "", f"{told}; no operator here has changed since", remedy)


def _since(graph: _Graph, node: Any) -> int:
    """The opset that an operator's definition is of; the file's own where ONNX here does not know it."""
    schema = _schema(graph, node)
    return graph.opset if schema is None else int(schema.since_version)


def _schema(graph: _Graph, node: Any) -> Any:
    if node.domain not in ("", "ai.onnx"):
        return None
    try:
        return graph.onnx.defs.get_schema(node.op_type, graph.opset, "")
    except graph.onnx.defs.SchemaError:
        return None


def _operators(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    for call in () if limits.functions else graph.calls:
        message = f"{limits.name} reads no functions of the file's own ({call.op_type})"
        remedy = "put their nodes in their places (onnx.inliner.inline_local_functions)"
        yield Finding("domain", "error", graph.name(call), message, remedy)
    for node in graph.nodes:
        if (node.domain, node.op_type) in graph.own:
            continue  # one that could not be inlined
        if node.domain not in ("", "ai.onnx"):
            message = f"{node.op_type} of {node.domain} is no operator of ONNX"
            yield Finding("domain", "error", graph.name(node), message, f"{_EXPORT}, or bring a plugin for it")
        elif node.op_type not in limits.operators:
            known = graph.onnx.defs.has(node.op_type)
            message = f"{limits.name} has no {node.op_type}" if known else f"ONNX has no operator {node.op_type}"
            remedy = "write it with other operators" if known else _EXPORT
            yield Finding("operator", "error", graph.name(node), message, remedy)
        if node.op_type in ("If", "Loop", "Scan"):
            message = f"{node.op_type}: branches and loops keep TensorRT from fusing what is around them"
            yield Finding("subgraph", "warning", graph.name(node), message, "export with constants in their place")


def _attributes(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    """Forms of operators that the parser refuses."""
    for node in graph.nodes:
        name = graph.name(node)
        if node.op_type == "Resize":
            mode = graph.attribute(node, "mode", "nearest")
            coordinates = graph.attribute(node, "coordinate_transformation_mode", "half_pixel")
            remedy = "resize with nearest or linear, as PyTorch's interpolate does"
            if mode not in _RESIZE_MODES:
                yield Finding("resize", "warning", name, f"mode {mode} is not in the parser's documentation", remedy)
            if coordinates not in _RESIZE_COORDINATES:
                yield Finding("resize", "error", name, f"no TensorRT has coordinate mode {coordinates}", remedy)
            if graph.attribute(node, "antialias", 0):
                yield Finding("resize", "error", name, "no TensorRT resizes with antialiasing", remedy)
            if (policy := graph.attribute(node, "keep_aspect_ratio_policy", "stretch")) != "stretch":
                yield Finding("resize", "error", name, f"no TensorRT has aspect ratio policy {policy}", remedy)
            if graph.attribute(node, "axes", None) is not None:
                message = "scales of some axes alone are not in the parser's documentation"
                yield Finding("resize", "warning", name, message, "give a scale for every axis, and no axes")
        elif node.op_type in ("MaxPool", "AveragePool", "LpPool"):
            if any(step != 1 for step in graph.attribute(node, "dilations", ())):
                yield Finding("pool", "error", name, f"no TensorRT has {node.op_type} with dilation", "pool without it")
            if len([out for out in node.output if out]) > 1:
                yield Finding("pool", "error", name, "no TensorRT gives the places of maxima", "use the values alone")
        elif node.op_type == "ScatterND" and (reduction := graph.attribute(node, "reduction", "none")) != "none":
            severity: Severity = "error" if limits is LIMITS["rtx"] else "warning"  # its parser was asked
            message = f"reduction {reduction}, which the parser of TensorRT-RTX refuses"
            yield Finding("scatter", severity, name, message, "write it with other operators")
        elif node.op_type == "BatchNormalization" and graph.attribute(node, "training_mode", 0):
            yield Finding("training", "error", name, "it is in training mode", "export the network in evaluation mode")


def _types(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    """Types of computed tensors and of constants; those of Q/DQ and of ports have rules of their own."""
    ports = {port.name for port in (*graph.inputs, *graph.model.graph.output)}
    quantised = {node.output[0] for node in graph.nodes if node.op_type == _QUANTISE}
    quantised |= {name for node in graph.nodes if node.op_type in (_QUANTISE, _DEQUANTISE) for name in node.input}
    computed = [(out, graph.name(node)) for node in graph.nodes if node.op_type != "Constant" for out in node.output]
    for name, where in [*computed, *((constant, constant) for constant in graph.constants)]:
        kind = graph.kind(name)
        if not kind or kind in limits.types or name in ports or name in quantised:
            continue
        if kind == "DOUBLE":
            message = "double is computed as float32"
            yield Finding("type", "warning", where, message, "export the network in float32")
        elif kind == "INT8":
            if name in graph.constants and name not in graph.takers:
                continue
            message = "int8 that does not come from Q"
            yield Finding("type", "warning", where, message, "quantise with QuantizeLinear and DequantizeLinear")
        else:
            message = f"{limits.name} computes nothing in {kind.lower()}"
            yield Finding("type", "error", where, message, "compute in float32, float16, int32 or bool")
    for tensor in graph.model.graph.sparse_initializer:
        message = "sparse weights are not read"
        yield Finding("type", "error", tensor.values.name, message, "store them as ordinary ones")


def _mixed(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    """Inputs that ONNX wants of one type; a strongly typed network casts nothing by itself."""
    for node in graph.nodes:
        schema = _schema(graph, node)
        if schema is None:
            continue
        seen: dict[str, str] = {}
        formal = list(schema.inputs)
        for place, name in enumerate(node.input):
            if not (kind := graph.kind(name)) or (place >= len(formal) and not _variadic(graph, schema)):
                continue
            parameter = formal[min(place, len(formal) - 1)]
            if parameter.type_str.startswith("tensor("):
                first = parameter.type_str[7:-1].upper()
            elif parameter.is_homogeneous:
                first = seen.setdefault(parameter.type_str, kind)
            else:
                continue
            if kind != first and not (node.op_type in (_QUANTISE, _DEQUANTISE) and graph.opset < HALF_SCALE_OPSET):
                message = f"{first.lower()} and {kind.lower()} meet in one {node.op_type}"
                remedy = "put a Cast before one of them; irdet export --fp16 does"
                yield Finding("mixed-types", "error", graph.name(node), message, remedy)
                break


def _variadic(graph: _Graph, schema: Any) -> bool:
    options = graph.onnx.defs.OpSchema.FormalParameterOption
    return bool(schema.inputs) and schema.inputs[-1].option == options.Variadic


def _integers(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    if limits.int64:
        return
    for name, tensor in graph.constants.items():
        if tensor.data_type != graph.onnx.TensorProto.INT64:
            continue
        # "To the end" is written as the largest number there is, and means the same when it is cut.
        if all(node.op_type == "Slice" for node in graph.takers.get(name, ())):
            continue
        values = graph.values(name)
        if values is not None and values.size and np.abs(values.astype(np.float64)).max() > 2**31 - 1:
            message = f"{limits.name} cuts int64 to 32 bits, and here are values beyond"
            yield Finding("int64", "error", name, message, "compute with smaller numbers, or in float32")


def _weights(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    """Weights must be there, be numbers, and fit."""
    for name in graph.constants:
        values = graph.values(name)
        scale = any(n.op_type in (_QUANTISE, _DEQUANTISE) and name == n.input[1] for n in graph.takers.get(name, ()))
        if values is not None and values.dtype.kind == "f" and not scale and not np.isfinite(values).all():
            message = "it holds values that are not finite"
            yield Finding("weights", "error", name, message, "the training has gone astray: choose another checkpoint")
    for node in graph.nodes:
        if node.op_type not in _CONVOLUTIONS:
            continue
        if not limits.live_weights and not graph.is_weight(node.input[1]):
            message = f"its weights are computed, where {limits.name} wants constants"
            yield Finding("weights", "error", graph.name(node), message, "store them in the file")
        if node.op_type != "Conv":
            continue
        weight, given = graph.shape(node.input[1]), graph.shape(node.input[0])
        bias = graph.shape(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        groups = graph.attribute(node, "group", 1)
        wrong = bool(weight and bias and weight[0] != bias[0]) or bool(
            weight and given and min(len(weight), len(given)) > 1 and given[1] and given[1] != weight[1] * groups
        )
        if wrong:
            message = f"its weights {weight} do not fit its input {given} or bias {bias}"
            yield Finding("weights", "error", graph.name(node), message, _EXPORT)


# Q/DQ.


def _quantisation(graph: _Graph, limits: Limits) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.op_type in (_QUANTISE, _DEQUANTISE):
            yield from _zero_points(graph, node)
            yield from _scales(graph, limits, node)
            yield from _axes(graph, node)
        if node.op_type == _QUANTISE:
            yield from _pairs(graph, node)
        if node.op_type == _DEQUANTISE:
            yield from _stored(graph, limits, node)
        if node.op_type in _CONVOLUTIONS:
            sides = [getattr(graph.makers.get(name), "op_type", "") == _DEQUANTISE for name in node.input[:2]]
            if any(sides) and not all(sides):
                half = "input is" if sides[0] else "weights are"
                message = f"only its {half} quantised, so it is computed in float"
                remedy = "quantise both, or neither"
                yield Finding("qdq-conv", "warning", graph.name(node), message, remedy)


def _quantised_kind(graph: _Graph, node: Any) -> str:
    """What a Q gives, or a DQ takes."""
    if node.op_type == _DEQUANTISE:
        return graph.kind(node.input[0])
    if len(node.input) > 2 and node.input[2]:
        return graph.kind(node.input[2])
    chosen = graph.attribute(node, "output_dtype", 0)
    return str(graph.onnx.TensorProto.DataType.Name(chosen)) if chosen else "UINT8"


def _zero_points(graph: _Graph, node: Any) -> Iterator[Finding]:
    name, kind = graph.name(node), _quantised_kind(graph, node)
    remedy = "quantise symmetrically to int8: irdet export --int8 --int8-target tensorrt"
    if len(node.input) > 2 and node.input[2]:
        zero = graph.values(node.input[2])
        if zero is None and graph.constants.get(node.input[2]) is None:
            yield Finding("qdq-zero-point", "error", name, "its zero point is computed", remedy)
        elif zero is not None and np.any(zero.astype(np.float32) != 0):
            yield Finding("qdq-zero-point", "error", name, "its zero point is not 0", remedy)
            return
    if kind == "UINT8":
        message = "unsigned 8 bits, which TensorRT takes for int8: values above 127 are lost"
        yield Finding("qdq-unsigned", "error", name, message, remedy)
    elif kind == "INT32":
        message = "a bias quantised to int32, which TensorRT refuses"
        yield Finding("qdq-bias", "error", name, message, "leave the bias in float (QuantizeBias=False)")
    elif kind and kind != "INT8":
        yield Finding("qdq-type", "error", name, f"quantised to {kind.lower()}; irdet's engines are int8", remedy)


def _scales(graph: _Graph, limits: Limits, node: Any) -> Iterator[Finding]:
    name, scale = graph.name(node), graph.values(node.input[1])
    if node.input[1] not in graph.constants:
        message = "its scale is computed, which TensorRT does not take"
        yield Finding("qdq-scale", "error", name, message, "calibrate, and store the scales")
    elif scale is not None and not (np.isfinite(scale).all() and (scale > 0).all()):
        message = "a scale that is not a positive number"
        yield Finding("qdq-scale", "error", name, message, "calibrate on frames that are not empty")
    if graph.kind(node.input[1]) == "FLOAT16":
        if not limits.half_scales:
            message = f"{limits.name} reads no half scales"
            yield Finding("half-scales", "error", name, message, "export with --int8 or --fp16 alone")
        elif graph.opset < HALF_SCALE_OPSET:
            message = f"half scales came with opset {HALF_SCALE_OPSET}, and this is {graph.opset}"
            yield Finding("half-scales", "error", name, message, f"export with --opset {HALF_SCALE_OPSET}")


def _axes(graph: _Graph, node: Any) -> Iterator[Finding]:
    name, scales, shape = graph.name(node), graph.shape(node.input[1]), graph.shape(node.input[0])
    if graph.attribute(node, "block_size", 0):
        message = "quantised in blocks, which TensorRT has for weights of matrix products alone"
        yield Finding("qdq-block", "error", name, message, "quantise weights per channel")
        return
    if scales is None or math.prod(scales) <= 1:
        return
    axis = graph.attribute(node, "axis", 1)
    weight = graph.is_weight(node.input[0])
    if not weight:
        message = "an activation with a scale per channel, where TensorRT's int8 convolutions have one scale"
        yield Finding("qdq-activation-axis", "error", name, message, "calibrate activations per tensor")
    elif shape is not None:
        if not -len(shape) <= axis < len(shape):
            yield Finding("qdq-axis", "error", name, f"axis {axis} of a tensor of rank {len(shape)}", _EXPORT)
            return
        if shape[axis] and math.prod(scales) != shape[axis]:
            message = f"{math.prod(scales)} scales for {shape[axis]} channels"
            yield Finding("qdq-axis", "error", name, message, _EXPORT)
        takers = [taker for out in node.output for taker in graph.takers.get(out, ())]
        wanted = {"Conv": 0, "ConvTranspose": 1}
        if wrong := [t for t in takers if t.op_type in wanted and axis % len(shape) != wanted[t.op_type]]:
            message = f"scales along axis {axis}, where TensorRT wants them along the outputs of {wrong[0].op_type}"
            yield Finding("qdq-axis", "error", name, message, "quantise weights per output channel")


def _pairs(graph: _Graph, node: Any) -> Iterator[Finding]:
    name, takers = graph.name(node), graph.takers.get(node.output[0], [])
    for taker in takers:
        if taker.op_type != _DEQUANTISE:
            message = f"its 8 bits go to {taker.op_type} without a DequantizeLinear"
            yield Finding("qdq-pair", "error", name, message, "put Q and DQ side by side; TensorRT fuses them itself")
            continue
        one, other = (graph.values(each.input[1]) for each in (node, taker))
        if one is not None and other is not None and not np.array_equal(one, other):
            message = "its DequantizeLinear has other scales"
            yield Finding("qdq-pair", "warning", name, message, "give both the same, or the values change between them")
    if node.output[0] in {port.name for port in graph.model.graph.output}:
        yield Finding("qdq-pair", "error", name, "an output of the graph in 8 bits", "give float32 out")


def _stored(graph: _Graph, limits: Limits, node: Any) -> Iterator[Finding]:
    if not limits.bare_int8_weights and graph.kind(node.input[0]) == "INT8" and node.input[0] in graph.constants:
        message = f"weights stored as int8, which {limits.name} reads with a QuantizeLinear before it alone"
        remedy = "store them in float with Q and DQ (AddQDQPairToWeight); irdet export --int8 does"
        yield Finding("qdq-int8-weights", "error", graph.name(node), message, remedy)


#: Each looks for one kind of fault.
RULES: tuple[Callable[[_Graph, Limits], Iterator[Finding]], ...] = (
    _records,
    _ports,
    _dynamic,
    _external,
    _opsets,
    _operators,
    _attributes,
    _quantisation,
    _types,
    _mixed,
    _integers,
    _weights,
)
