"""`irdet check`: PASS and FAIL, exit codes, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from irdet.engines.shipped import shipped_path
from irdet.export.limits import LIMITS


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A shipped graph whose Resize is asked to do what no TensorRT does."""
    shipped = shipped_path("mlcl-edge", ".onnx")
    assert shipped is not None
    graph = onnx.load(str(shipped))
    next(node for node in graph.graph.node if node.op_type == "Resize").attribute.append(
        onnx.helper.make_attribute("exclude_outside", 1)
    )
    graph.graph.node[-1].op_type = "Det"
    path = tmp_path / "wrong.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


@pytest.mark.parametrize("target", LIMITS)
def test_the_shipped_model_passes(irdet_command: Callable[..., Any], target: str) -> None:
    path = shipped_path("mlcl-edge", ".onnx")
    done = irdet_command("check", path, "--for", target)
    assert done.code == 0, done.err
    assert done.out == f"PASS {path} for {LIMITS[target].name}: 0 errors, 0 warnings\n"


def test_short_names_and_the_option(irdet_command: Callable[..., Any], model: Path) -> None:
    for short, name in (
        *(("8.6", "tensorrt-8.6"), ("10", "tensorrt-10"), ("11", "tensorrt-11"), ("tensorrt-rtx", "rtx")),
        *(("10.3", "tensorrt-10"), ("tensorrt-10.13.3", "tensorrt-10")),
        *(("8.6.2", "tensorrt-8.6"), ("tensorrt-8.6.1.6", "tensorrt-8.6"), ("rtx", "rtx")),
    ):
        assert json.loads(irdet_command("check", "--model", model, "--for", short, "--json").out)["for"] == name
    assert irdet_command("check", "--for", "rtx").code == 2
    assert irdet_command("check", model, "-m", model, "--for", "rtx").code == 2


def test_errors_are_lines_and_a_code(irdet_command: Callable[..., Any], model: Path) -> None:
    done = irdet_command("check", model, "--for", "rtx")
    assert done.code == 1 and done.err == ""
    *findings, verdict = done.out.splitlines()
    assert findings[0].startswith("error [operator] ") and "TensorRT-RTX has no Det; " in findings[0]
    assert verdict == f"FAIL {model} for TensorRT-RTX: 1 error, 0 warnings"
    facts = json.loads(irdet_command("check", model, "--for", "rtx", "--json").out)
    assert (facts["errors"], facts["for"]) == (1, "rtx")
    assert facts["findings"][0].keys() == {"rule", "severity", "node", "message", "remedy"}


def test_names_in_the_file_do_not_steer_the_terminal(irdet_command: Callable[..., Any], model: Path) -> None:
    graph = onnx.load(str(model))
    graph.graph.node[-1].name = "\x1b[31mred\x1b[2J\u202e"
    path = model.with_name("\x1b[5m.onnx")
    path.write_bytes(graph.SerializeToString())
    done = irdet_command("check", path, "--for", "rtx")
    assert done.code == 1 and "\ufffd[31mred\ufffd[2J\ufffd: TensorRT-RTX has no Det" in done.out
    assert done.out.replace("\n", "").isprintable()


def test_misuse_is_one_line(irdet_command: Callable[..., Any], model: Path) -> None:
    (model.with_name("text.onnx")).write_text("text")
    for arguments, code, told in (
        ((model,), 2, "--for"),
        ((model, "--for", "tensorrt-9"), 2, "tensorrt-8.6"),
        ((model, "--for", "8.60"), 2, "--for 8.60: choose tensorrt-8.6"),
        ((model, "--for", "8"), 2, "--for 8: choose tensorrt-8.6"),
        ((model.with_name("gone.onnx"), "--for", "rtx"), 1, "No such file"),
        ((model.with_name("text.onnx"), "--for", "rtx"), 1, "not an ONNX model"),
        ((model.parent, "--for", "rtx"), 1, "cannot read"),
    ):
        done = irdet_command("check", *arguments)
        assert (done.code, done.out) == (code, "") and told in done.err and done.err.count("\n") == 1, arguments
