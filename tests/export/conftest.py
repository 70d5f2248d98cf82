"""A real network and labelled made frames, shared by the tests of reduced precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from irdet.data.synth import SceneConfig, write_dataset
from irdet.export.onnx import OnnxOptions, export_onnx
from irdet.models import LoadedModel, load_model


@pytest.fixture(scope="session")
def edge() -> LoadedModel:
    return load_model("mlcl-edge")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 labelled frames of 96x80."""
    folder = tmp_path_factory.mktemp("made") / "set"
    write_dataset(folder, 36, SceneConfig(width=96, height=80, scr=(6.0, 40.0)), seed=3)
    return folder


@pytest.fixture(scope="session")
def graph(edge: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The fp32 graph of free size, opset 19."""
    path = tmp_path_factory.mktemp("graph") / "edge.onnx"
    return onnx.load(export_onnx(edge, path, OnnxOptions(size=None, opset=19)).path)
