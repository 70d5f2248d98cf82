"""Small ONNX models that are not irdet's, built node by node, and the shell of one that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from irdet.core.info import METADATA_KEY, ModelInfo


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[..., Path]:
    """Builds a bright-spot detector: mean of the channels, minus its surroundings, scaled to logits.

    `ending` turns the logits [N, 1, H, W] into the outputs: a list of (name, nodes, shape).
    """

    def build(
        shape: Sequence[int | str] = (1, 3, 256, 256),
        ending: str = "logits",
        *,
        kind: int = TensorProto.FLOAT,
        gain: float = 60.0,
        metadata: str | None = None,
    ) -> Path:
        dtype: Any = np.float16 if kind == TensorProto.FLOAT16 else np.float32
        channels = shape[1] if isinstance(shape[1], int) else 1
        kernel = np.full((1, channels, 5, 5), -1 / 25 / channels, dtype)
        kernel[:, :, 2, 2] += 1 / channels
        weights = [
            numpy_helper.from_array(kernel * dtype(gain), "kernel"),
            numpy_helper.from_array(np.array([-0.1 * gain], dtype), "bias"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
            numpy_helper.from_array(np.array(1.5, dtype), "more"),
        ]
        nodes = [helper.make_node("Conv", ["image", "kernel", "bias"], ["logit"], pads=[2, 2, 2, 2])]
        n, _, h, w = shape
        outputs: list[tuple[str, list[Any]]] = []
        if ending == "logits":
            outputs = [("logit", [n, 1, h, w])]
        elif ending == "probability":
            nodes += [helper.make_node("Sigmoid", ["logit"], ["p"])]
            outputs = [("p", [n, 1, h, w])]
        elif ending == "flat":
            nodes += [helper.make_node("Sigmoid", ["logit"], ["p4"]), helper.make_node("Squeeze", ["p4", "one"], ["p"])]
            outputs = [("p", [n, h, w])]
        elif ending in ("two logits", "two probabilities"):
            nodes += [
                helper.make_node("Sub", ["logit", "logit"], ["zero"]),
                helper.make_node("Concat", ["zero", "logit"], ["both"], axis=1),
                helper.make_node("Softmax", ["both"], ["p"], axis=1),
            ]
            outputs = [("both" if ending == "two logits" else "p", [n, 2, h, w])]
        elif ending == "deep supervision":
            nodes += [helper.make_node("AveragePool", ["logit"], ["half"], kernel_shape=[2, 2], strides=[2, 2])]
            outputs = [("half", [n, 1, "h2", "w2"]), ("logit", [n, 1, h, w])]
        elif ending == "class":
            nodes += [helper.make_node("GlobalAveragePool", ["logit"], ["score"])]
            outputs = [("score", [n, 1, 1, 1])]
        elif ending == "sometimes 1.5":  # a "probability" that only a very bright frame drives out of range
            nodes += [
                helper.make_node("Sigmoid", ["logit"], ["s"]),
                helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
                helper.make_node("Floor", ["mean"], ["white"]),
                helper.make_node("Mul", ["white", "more"], ["extra"]),
                helper.make_node("Add", ["s", "extra"], ["p"]),
            ]
            outputs = [("p", [n, 1, h, w])]
        graph = helper.make_graph(
            nodes,
            "foreign",
            [helper.make_tensor_value_info("image", kind, shape)],
            [helper.make_tensor_value_info(name, kind, dims) for name, dims in outputs],
            weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if metadata is not None:
            helper.set_model_props(model, {"irdet": metadata})
        path = tmp_path / f"foreign-{len(list(tmp_path.iterdir()))}.onnx"
        onnx.save(model, str(path))
        return path

    return build


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def fields(*parts: tuple[int, bytes]) -> bytes:
    """Length-delimited protobuf fields."""
    return b"".join(varint(number << 3 | 2) + varint(len(data)) + data for number, data in parts)


@pytest.fixture
def write_onnx(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file that is an ONNX model as far as its outermost fields go: irdet's record and some graph."""

    def write(precision: str = "fp16", **changes: Any) -> Path:
        info = ModelInfo("mlcl-edge", stride=8, precision=precision, opset=17).replace(**changes)
        entry = fields((1, METADATA_KEY.encode()), (2, info.to_json().encode()))
        path = tmp_path / "best.onnx"
        path.write_bytes(b"\x08\x08" + fields((7, b"graph" * 40), (14, fields((1, b"other"), (2, b"x"))), (14, entry)))
        return path

    return write
