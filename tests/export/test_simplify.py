"""onnxsim runs in a process of its own: whatever happens to it is told in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from irdet.core.child import python
from irdet.export import simplify as simplifying
from irdet.export.simplify import simplify


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """x + (1 + 2), with the sum left to do."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["one", "two"], ["three"]), helper.make_node("Add", ["x", "three"], ["y"])],
        "sum",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.array([v], np.float32), name) for v, name in ((1, "one"), (2, "two"))],
    )
    path = tmp_path / "in.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_simplifies(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    assert simplify(source, out) == ""
    assert [node.op_type for node in onnx.load(out).graph.node] == ["Add"]
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([4], np.float32)})[0] == [7]


def test_files_of_the_current_folder_are_not_run(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxsim", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the one of the current folder')")
    monkeypatch.chdir(tmp_path)
    assert simplify(source, tmp_path / "out.onnx") == ""


def test_failure(tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(b"no graph")
    why = simplify(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert why.startswith("onnxsim failed (") and "\n" not in why
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed (signal 11)"),
        ("raise SystemExit('no')", "failed (no)"),
        ("raise SystemExit(3)", "failed (no message)"),
        ("import threading; threading.Event().wait()", "did not end within 1 s"),
    ],
)
def test_whatever_happens(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str) -> None:
    """The same call, but with another program in the child."""
    real = subprocess.run

    def run(command: list[str], **options: object) -> object:
        assert command == python(simplifying._PROGRAM, str(source), str(tmp_path / "out.onnx"))
        return real([sys.executable, "-S", "-c", code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", run)
    assert told in simplify(source, tmp_path / "out.onnx", timeout=1 if "wait" in code else simplifying.TIMEOUT)
    assert not (tmp_path / "out.onnx").exists()
