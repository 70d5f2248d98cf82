"""`irdet export` and what it says."""

from __future__ import annotations

import builtins
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.engines import shipped
from irdet.engines.tensorrt import checks, library
from irdet.engines.tensorrt.cuda import Device
from irdet.models import LoadedModel, create_model, save_checkpoint


@pytest.fixture
def ckpt(sharp_model: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "best.pt", sharp_model("mlcl-edge").module, ModelInfo("mlcl-edge"))
    return tmp_path / "best.pt"


def test_beside_the_checkpoint(irdet_command: Callable[..., Any], ckpt: Path) -> None:
    done = irdet_command("export", "--ckpt", ckpt, "--imgsz", "96x64", "--no-simplify", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    path, golden = ckpt.with_suffix(".onnx"), ckpt.with_name("best.golden.npz")
    assert (facts["onnx"], facts["golden"]) == (str(path), str(golden))
    assert facts["bytes"] == {str(path): path.stat().st_size, str(golden): golden.stat().st_size}
    assert (facts["input"], facts["opset"]) == ([1, 1, 64, 96], 17)
    assert facts["parity"]["passed"] and facts["parity"]["max_difference"] <= 1e-4 and facts["parity"]["targets"]
    assert {file.name for file in ckpt.parent.iterdir()} == {"best.pt", "best.onnx", "best.golden.npz"}


def test_table_says_where_and_how_large(irdet_command: Callable[..., Any], ckpt: Path) -> None:
    done = irdet_command("export", "-m", ckpt, "--dynamic", "-o", ckpt.parent / "out")
    path = ckpt.parent / "out" / "best.onnx"
    assert done.code == 0, done.err
    assert f"{path} ({path.stat().st_size:,} bytes)" in done.out
    assert "any batch and size" in done.out
    assert done.err == ""  # onnxsim gave no warning


def test_default_is_the_shipped_model_at_512(
    irdet_command: Callable[..., Any], ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = ckpt.parent / "weights"
    weights.mkdir()
    shutil.move(ckpt, weights / "mlcl-edge.pt")
    monkeypatch.setattr(shipped, "WEIGHTS", weights)
    monkeypatch.chdir(ckpt.parent)
    done = irdet_command("export", "--no-simplify")
    assert done.code == 0, done.err
    assert "1 x 1 x 512 x 512" in done.out
    assert Path("mlcl-edge.onnx").is_file() and len(list(weights.iterdir())) == 1
    (entry,) = onnx.load("mlcl-edge.onnx").metadata_props
    assert entry.key == METADATA_KEY


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--ckpt", "gone.pt"], 1, "no such file: gone.pt"),
        (["best.onnx"], 1, "cannot read best.onnx"),
        (["best.onnx", "--dynamic"], 2, "is for checkpoints"),
        (["--ckpt", "best.pt", "--output", "x.trt"], 2, "name it .onnx"),
        (["--ckpt", "best.pt", "--dynamic", "--imgsz", "64"], 2, "one of them"),
        (["--ckpt", "best.pt", "--dynamic", "--batch", "2"], 2, "any batch"),
        (["--ckpt", "best.pt", "--imgsz", "100"], 2, "multiples of 16"),
        (["--ckpt", "best.pt", "--imgsz", "100", "--fp16"], 2, "multiples of 16"),
        (["--ckpt", "best.pt", "--opset", "9"], 2, "opset 9"),
        (["--ckpt", "best.pt", "--dynamic", "--compute-capability", "x"], 2, "--compute-capability 'x'"),
        (["--ckpt", "best.pt", "--dynamic", "--profile", "64,96"], 2, "--profile '64,96'"),
        (["--ckpt", "best.pt", "--profile", "64"], 2, "add --dynamic"),
        (["--ckpt", "best.pt", "--batch", "1000000000"], 2, "--batch"),
        (["--ckpt", "best.pt", "--workspace", "99999999999999999"], 2, "must be 1 to 1048576"),
        (["--ckpt", "best.pt", "--opset", "0"], 2, "--opset"),
        (["--ckpt", "best.pt", "--int8-target", "cpu"], 2, "--int8-target is for --int8"),
        (["--ckpt", "best.pt", "--calib-images", "9"], 2, "--calib-images is for --int8"),
        (["--ckpt", "best.pt", "--polarity", "black-hot"], 2, "--polarity is about the frames"),
        (["--ckpt", "best.pt", "--fp16", "--range", "0,9"], 2, "--range is about the frames"),
        (["best.onnx", "--normalise", "local"], 2, "--normalise is for checkpoints"),
        (["--int8", "--int8-target", "cpu", "--calib", ".", "--workspace", "9"], 2, "leave the builder's options out"),
        (["mlcl-edg"], 2, "did you mean mlcl-edge?"),
        (["mlcl-edge-int8-cpu"], 2, "there is no checkpoint of it"),
        (["tophat"], 2, "no network is called 'tophat'"),
        (["--ckpt", "other.pt"], 1, "another network"),
        (["--ckpt", "text.pt"], 1, "not a PyTorch checkpoint"),
        (["--ckpt", "best.pt", "--data", "gone"], 2, "gone"),
    ],
)
def test_misuse(
    irdet_command: Callable[..., Any],
    ckpt: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(ckpt.parent)
    Path("text.pt").write_text("I am a text\n" * 9)
    save_checkpoint("other.pt", create_model("mlcl-small"), ModelInfo("mlcl-base"))
    before = sorted(Path.cwd().iterdir())
    done = irdet_command("export", *arguments)
    assert (done.code, done.out) == (code, "") and told in done.err
    assert done.err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--timing-cache", "t"], "leave --timing-cache out"),
        (["--compute-capability", "8.7"], "knows no compute capability 8.7"),
        (["--compute-capability", "8.6", "--dynamic", "--profile", "60x64,64x64,64x64"], "multiples of 16"),
    ],
)
def test_what_the_builder_cannot_do_is_told_before_the_export(
    irdet_command: Callable[..., Any], ckpt: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(library, "LIBRARIES", {"tensorrt_rtx": "tensorrt-rtx"})
    monkeypatch.setattr(checks, "Cuda", lambda: SimpleNamespace(device=lambda: Device("RTX 3090", (8, 6))))
    done = irdet_command("export", "--ckpt", ckpt, *arguments)
    assert done.code == 2 and told in done.err and done.err.count("\n") == 1
    assert [path.name for path in ckpt.parent.iterdir()] == ["best.pt"]


def test_builder_options_without_tensorrt_are_refused_before_the_export(
    irdet_command: Callable[..., Any], ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "LIBRARIES", {"no_such_tensorrt": "tensorrt"})
    done = irdet_command("export", "--ckpt", ckpt, "--imgsz", "64", "--fp16", "--workspace", "9")
    assert done.code == 1 and "needs tensorrt, which is not installed" in done.err and done.err.count("\n") == 1
    assert [path.name for path in ckpt.parent.iterdir()] == ["best.pt"]


@pytest.mark.parametrize("package", ["torch", "onnx"])
def test_missing_packages_name_the_extra(
    irdet_command: Callable[..., Any], ckpt: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *rest, **more)

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(builtins, "__import__", without)
    done = irdet_command("export", "--ckpt", ckpt, "--imgsz", "64")
    assert done.code == 1
    assert f"{package}, which is not installed: pip install 'irdet[export]'" in done.err
    assert done.err.count("\n") == 1
