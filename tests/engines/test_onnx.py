"""ONNX Runtime's TensorRT provider is not given what TensorRT misreads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from irdet.core.errors import ModelError
from irdet.core.info import ModelInfo
from irdet.engines import open_engine

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'irdet[cpu]'")


def test_an_int8_graph_for_cpus_is_refused_with_tensorrt(foreign: Callable[..., Path]) -> None:
    info = ModelInfo("mlcl-edge", height=64, width=64, precision="int8", target="cpu", opset=17)
    path = foreign((1, 1, 64, 64), "probability", metadata=info.to_json())
    with pytest.raises(ModelError, match="is INT8 for CPUs, which TensorRT misreads"):
        open_engine(path, device="tensorrt")
    with open_engine(path, device="cpu") as engine:
        assert engine.info.target == "cpu"
