"""`irdet verify`: PASS and FAIL, and exit codes to go with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from irdet.core.info import ModelInfo
from irdet.engines import shipped

if TYPE_CHECKING:
    from irdet.models import LoadedModel


@pytest.fixture(scope="module")
def exported(sharp_model: Callable[..., LoadedModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = sharp_model("mlcl-edge")
    from irdet.export.onnx import OnnxOptions, export_onnx

    path = tmp_path_factory.mktemp("exported") / "edge.onnx"
    export_onnx(model, path, OnnxOptions(None, simplify=False))
    return path


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / exported.name


def test_pass(irdet_command: Callable[..., Any], model: Path) -> None:
    done = irdet_command("verify", model, "--device", "cpu")
    assert done.code == 0, done.err
    (line,) = done.out.splitlines()
    assert line.startswith(f"PASS {model} on onnxruntime ") and " cpu, fp32: 6 frames" in line
    assert "targets identical" in line


def test_the_model_as_an_option(irdet_command: Callable[..., Any], model: Path) -> None:
    assert irdet_command("verify", "--model", model).code == 0
    assert irdet_command("verify", model, "--model", model).code == 2


def test_json(irdet_command: Callable[..., Any], model: Path) -> None:
    facts = json.loads(irdet_command("verify", model, "--device", "cpu", "--threads", 1, "--json").out)
    assert facts["passed"] is True and facts["max_difference"] < 1e-4 < facts["tolerance"]
    assert facts["runtime"].endswith(" cpu") and facts["targets"] >= 6


def spoil(model: Path, change: float) -> None:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(model)
    last = next(t for t in graph.graph.initializer if t.name.endswith("head.2.bias"))
    last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last) + np.float32(change), last.name))
    onnx.save(graph, model)


def test_fail(irdet_command: Callable[..., Any], model: Path) -> None:
    spoil(model, 0.1)
    done = irdet_command("verify", model)
    assert done.code == 1 and done.out.startswith("FAIL ")
    done = irdet_command("verify", model, "--json")
    assert done.code == 1 and json.loads(done.out)["passed"] is False


def test_rounding_passes(irdet_command: Callable[..., Any], model: Path) -> None:
    spoil(model, 1e-4)
    assert irdet_command("verify", model).code == 0


def test_shipped_by_default(irdet_command: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.rename(model.with_name("mlcl-edge.onnx"))
    model.with_name("edge.golden.npz").rename(model.with_name("mlcl-edge.golden.npz"))
    monkeypatch.setattr(shipped, "WEIGHTS", model.parent)
    assert shipped.shipped_models() == ("mlcl-edge",)
    assert irdet_command("verify").code == irdet_command("verify", "mlcl-edge").code == 0


def test_the_checkpoint_itself(
    irdet_command: Callable[..., Any], model: Path, sharp_model: Callable[..., LoadedModel]
) -> None:
    from irdet.models import save_checkpoint

    save_checkpoint(model.with_name("edge.pt"), sharp_model("mlcl-edge").module, ModelInfo("mlcl-edge"))
    done = irdet_command("verify", model.with_name("edge.pt"))
    assert done.code == 0 and " on torch " in done.out


def test_the_shipped_model_where_torch_is_not(irdet_command: Callable[..., Any]) -> None:
    done = irdet_command("verify", "--device", "cpu")
    assert done.code == 0 and done.out.startswith("PASS ") and "mlcl-edge.onnx on onnxruntime" in done.out


def one_line(done: Any, code: int, told: str) -> None:
    assert (done.code, done.out) == (code, "") and told in done.err and done.err.count("\n") == 1


def test_what_cannot_be_verified(irdet_command: Callable[..., Any], model: Path) -> None:
    one_line(irdet_command("verify", model.with_name("gone.onnx")), 1, "no such file")
    one_line(irdet_command("verify", "nothing-like-it"), 2, "no model is called")
    one_line(irdet_command("verify", model, "--device", "tpu"), 2, "auto, cpu, cuda")
    model.with_name("edge.golden.npz").write_bytes(b"x")
    one_line(irdet_command("verify", model), 1, "holds no golden frames")
    model.with_name("edge.golden.npz").unlink()
    one_line(irdet_command("verify", model), 1, "irdet export writes them")
