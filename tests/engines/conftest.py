"""Small ONNX models that are not irdet's, built node by node, and the shell of one that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irdet.core.info import METADATA_KEY, ModelInfo


@pytest.fixture
def foreign(tmp_path: Path, write_graph: Callable[..., Path]) -> Callable[..., Path]:
    """Builds a bright-spot detector: mean of the channels, minus its surroundings, scaled to logits.

    `ending` turns the logits [N, 1, H, W] into the outputs.
    """

    def build(
        shape: Sequence[int | str] = (1, 3, 256, 256),
        ending: str = "logits",
        *,
        kind: str = "float32",
        gain: float = 60.0,
        metadata: str | None = None,
    ) -> Path:
        channels = shape[1] if isinstance(shape[1], int) else 1
        kernel = np.full((1, channels, 5, 5), -1 / 25 / channels)
        kernel[:, :, 2, 2] += 1 / channels
        constants = {
            "kernel": (kernel * gain).astype(kind),
            "bias": np.array([-0.1 * gain], kind),
            "one": np.array([1], np.int64),
            "more": np.array(1.5, kind),
        }
        nodes: list[Any] = [("Conv", ["image", "kernel", "bias"], ["logit"], {"pads": [2, 2, 2, 2]})]
        n, _, h, w = shape
        outputs: list[tuple[str, list[Any]]] = []
        if ending == "logits":
            outputs = [("logit", [n, 1, h, w])]
        elif ending == "probability":
            nodes += [("Sigmoid", ["logit"], ["p"], {})]
            outputs = [("p", [n, 1, h, w])]
        elif ending == "flat":
            nodes += [("Sigmoid", ["logit"], ["p4"], {}), ("Squeeze", ["p4", "one"], ["p"], {})]
            outputs = [("p", [n, h, w])]
        elif ending in ("two logits", "two probabilities"):
            nodes += [
                ("Sub", ["logit", "logit"], ["zero"], {}),
                ("Concat", ["zero", "logit"], ["both"], {"axis": 1}),
                ("Softmax", ["both"], ["p"], {"axis": 1}),
            ]
            outputs = [("both" if ending == "two logits" else "p", [n, 2, h, w])]
        elif ending == "deep supervision":
            nodes += [("AveragePool", ["logit"], ["half"], {"kernel_shape": [2, 2], "strides": [2, 2]})]
            outputs = [("half", [n, 1, "h2", "w2"]), ("logit", [n, 1, h, w])]
        elif ending == "class":
            nodes += [("GlobalAveragePool", ["logit"], ["score"], {})]
            outputs = [("score", [n, 1, 1, 1])]
        elif ending == "sometimes 1.5":  # a "probability" that only a very bright frame drives out of range
            nodes += [
                ("Sigmoid", ["logit"], ["s"], {}),
                ("GlobalAveragePool", ["image"], ["mean"], {}),
                ("Floor", ["mean"], ["white"], {}),
                ("Mul", ["white", "more"], ["extra"], {}),
                ("Add", ["s", "extra"], ["p"], {}),
            ]
            outputs = [("p", [n, 1, h, w])]
        return write_graph(
            tmp_path / f"foreign-{len(list(tmp_path.iterdir()))}.onnx",
            nodes,
            [("image", kind, shape)],
            [(name, kind, sides) for name, sides in outputs],
            constants,
            {} if metadata is None else {METADATA_KEY: metadata},
        )

    return build


@pytest.fixture
def write_onnx(tmp_path: Path, protobuf: Callable[..., bytes]) -> Callable[..., Path]:
    """Writes a file that is an ONNX model as far as its outermost fields go: irdet's record and some graph."""

    def write(precision: str = "fp16", **changes: Any) -> Path:
        info = ModelInfo("mlcl-edge", stride=8, precision=precision, opset=17).replace(**changes)
        entry = protobuf((1, METADATA_KEY), (2, info.to_json()))
        path = tmp_path / "best.onnx"
        other = protobuf((1, "other"), (2, "x"))
        path.write_bytes(protobuf((1, 8), (7, protobuf((2, "graph" * 40))), (14, other), (14, entry)))
        return path

    return write
