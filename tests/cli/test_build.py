"""`irdet export model.onnx`: engines, as far as they come without a GPU."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from irdet.cli.build import parse_capabilities, parse_profile
from irdet.core.errors import UsageError
from irdet.engines import resolve_model
from irdet.engines.golden import golden_path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(resolve_model("mlcl-edge"), tmp_path / "best.onnx")
    return tmp_path


def test_profile() -> None:
    assert parse_profile("64x48,640x512,1280x1024") == ((1, 48, 64), (1, 512, 640), (1, 1024, 1280))
    assert parse_profile("1x64x64, 2x640x512, 4x640x512") == ((1, 64, 64), (2, 512, 640), (4, 512, 640))
    assert parse_profile("640x512") == ((1, 512, 640),) * 3
    for wrong in ("", "64x", "64x64,128x128", "a,b,c", f"{10**12}x64x64"):
        with pytest.raises(UsageError):
            parse_profile(wrong)


def test_capabilities() -> None:
    assert parse_capabilities("8.6, 8.9,12.0") == ((8, 6), (8, 9), (12, 0))
    for wrong in ("", "86", "8.6,", "sm86"):
        with pytest.raises(UsageError, match="--compute-capability"):
            parse_capabilities(wrong)


def test_cross_building(folder: Path, irdet_command: Callable[..., Any]) -> None:
    pytest.importorskip("tensorrt_rtx")
    done = irdet_command(
        "export", "best.onnx", "--compute-capability", "8.6,8.9", "--profile", "64x64,640x512,640x512", "--json"
    )
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["engine"] == "best.trt" and facts["bytes"] == Path("best.trt").stat().st_size
    sidecar = json.loads(Path("best.trt.json").read_text())
    assert sidecar["command"] == (
        "irdet export best.onnx --output best.trt --profile 64x64,640x512,640x512 --compute-capability 8.6,8.9"
    )
    told = irdet_command("info", "--model", "best.trt")
    assert told.code == 0 and "built by tensorrt_rtx" in told.err and "526,708" in told.out
    # Here is no GPU to run it, and the one line says so.
    done = irdet_command("infer", "best.onnx", "--model", "best.trt")
    assert done.code != 0 and done.err.count("\n") == 1


def test_golden_frames_go_along(folder: Path, irdet_command: Callable[..., Any]) -> None:
    pytest.importorskip("tensorrt_rtx")
    shutil.copy(folder / "best.onnx", folder / "UP.ONNX")
    shutil.copy(golden_path(resolve_model("mlcl-edge")), folder / "UP.golden.npz")
    given = ("--compute-capability", "8.6", "--profile", "64x64,128x128,128x128")
    done = irdet_command("export", "UP.ONNX", "-o", "card.trt", *given)
    assert done.code == 0 and "golden" not in done.err
    assert (folder / "card.golden.npz").read_bytes() == (folder / "UP.golden.npz").read_bytes()
    done = irdet_command("export", "UP.ONNX", "-o", "best.trt", *given, "--json")
    assert done.code == 0 and "golden" not in done.out and (folder / "best.golden.npz").is_file()
    done = irdet_command("export", "best.onnx", "-o", "UP.trt", *given)
    assert done.code == 0 and "golden" not in done.err, "they are another file's, but of the same weights and precision"
    (folder / "UP.trt").unlink()
    shutil.copy(golden_path(resolve_model("mlcl-base")), folder / "UP.golden.npz")
    done = irdet_command("export", "best.onnx", "-o", "UP.trt", *given)
    assert done.code == 0 and "UP.golden.npz" in done.err and "name the engine otherwise" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["best.onnx", "--imgsz", "64x64"], 2, "--imgsz is for checkpoints"),
        (["best.onnx", "-o", "best.h5"], 2, "an engine is named"),
        (["best.onnx", "--profile", "9x"], 2, "size"),
        (["none.onnx"], 1, "cannot read none.onnx"),
        (["best.onnx", "--fp16", "--compute-capability", "8.6"], 2, "export it as fp16 first"),
        (["best.onnx", "--max-drop", "0"], 2, "--max-drop is for checkpoints"),
        (["best.onnx", "--workspace", "9" * 17, "--compute-capability", "8.6"], 2, "must be 1 to 1048576"),
        (["best.onnx", "--batch", "4"], 2, "--batch is for checkpoints"),
        (["best.onnx", "--no-simplify"], 2, "--simplify is for checkpoints"),
        (["best.onnx", "--compute-capability", "8.6", "--hardware-compatible"], 2, "leave --hardware-compatible out"),
        (["best.onnx", "--compute-capability", "8.6", "--version-compatible"], 2, "leave --version-compatible out"),
    ],
)
def test_misuse(folder: Path, irdet_command: Callable[..., Any], arguments: list[str], code: int, told: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    done = irdet_command("export", *arguments)
    assert (done.code, done.out) == (code, "") and told in done.err and done.err.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["best.onnx"]
