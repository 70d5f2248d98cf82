"""`irdet info`: networks by name, model files, and what is neither."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from irdet.core.files import sha256
from irdet.core.info import ModelInfo
from irdet.engines.classical import METHODS, create_method
from irdet.engines.tensorrt.sidecar import Sidecar
from irdet.export.onnx import OnnxOptions, export_onnx
from irdet.models import LoadedModel, save_checkpoint


def test_a_network_by_name(irdet_command: Callable[..., Any]) -> None:
    done = irdet_command("info", "mlcl-base", "--json")
    assert done.code == 0
    facts = json.loads(done.out)
    assert facts["parameters"] == 656_961
    assert facts["gflop"] == pytest.approx(55.94, abs=0.01)
    assert (facts["stride"], facts["size"], Path(facts["file"]).name) == (4, "512x512", "mlcl-base.pt")
    assert facts["receptive_field"] > 100
    assert json.loads(irdet_command("info", "mlcl-small", "--json").out)["file"] is None  # comes without weights


def test_every_shipped_model_by_name(irdet_command: Callable[..., Any]) -> None:
    for name, takes in {"mlcl-edge": "float32", "mlcl-edge-int8-cpu": "uint8", "mlcl-base-int8-cpu": "uint8"}.items():
        facts = json.loads(irdet_command("info", name, "--json").out)
        assert facts["takes"] == takes and facts["record"]["weights_sha256"] and facts["gflop"] > 0
        assert f"{takes}, any size" in irdet_command("info", name).out


def test_where_checkpoints_are_not_installed_the_graph_is_shown(
    irdet_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from irdet.engines import shipped

    (tmp_path / "mlcl-edge.onnx").symlink_to(shipped.WEIGHTS / "mlcl-edge.onnx")  # as from the wheel
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    facts = json.loads(irdet_command("info", "mlcl-edge", "--json").out)
    assert Path(facts["file"]).name == "mlcl-edge.onnx" and facts["record"]["weights_sha256"]


def test_for_another_size(irdet_command: Callable[..., Any]) -> None:
    facts = [
        json.loads(irdet_command("info", "mlcl-small", "--imgsz", size, "--json").out) for size in ("512", "256x128")
    ]
    assert facts[0]["gflop"] == pytest.approx(8 * facts[1]["gflop"])
    assert facts[1]["size"] == "256x128"


def test_as_a_table(irdet_command: Callable[..., Any]) -> None:
    done = irdet_command("info", "mlcl-base")
    for part in ("656,961", "55.94", "512x512", "4 px", "receptive field"):
        assert part in done.out


def test_a_checkpoint(
    irdet_command: Callable[..., Any], sharp_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    path = tmp_path / "best.pt"
    info = ModelInfo("mlcl-edge", threshold=0.3, training={"epochs": 7}, metrics={"iou": 0.71})
    info = save_checkpoint(path, sharp_model("mlcl-edge").module, info)
    facts = json.loads(irdet_command("info", path, "--json").out)
    assert ModelInfo(**facts["record"]) == info
    assert (facts["file"], facts["bytes"], facts["threshold"]) == (str(path), path.stat().st_size, 0.3)
    assert facts["gflop"] <= 10
    table = irdet_command("info", path).out
    assert "epochs" in table and "0.71" in table and info.weights_sha256[:16] in table


def test_an_onnx_file(
    irdet_command: Callable[..., Any], sharp_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    path = tmp_path / "edge.onnx"
    export_onnx(sharp_model("mlcl-edge"), path, OnnxOptions((64, 32), simplify=False))
    facts = json.loads(irdet_command("info", path, "--json").out)
    assert (facts["record"]["variant"], facts["record"]["opset"]) == ("mlcl-edge", 17)
    assert facts["size"] == "64x32"  # its own size, where it has one
    assert facts["parameters"] == sharp_model("mlcl-edge").info.parameters


def test_an_onnx_file_without_torch(
    irdet_command: Callable[..., Any],
    sharp_model: Callable[..., LoadedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    path = tmp_path / "edge.onnx"
    export_onnx(sharp_model("mlcl-edge"), path, OnnxOptions((64, 32), simplify=False))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    facts = json.loads(irdet_command("info", path, "--json").out)
    assert facts["gflop"] is None and "torch" in facts["notes"][0]
    assert facts["parameters"] == sharp_model("mlcl-edge").info.parameters


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["mlcl-bsae"], 2, "did you mean mlcl-base?"),
        (["gone.pt"], 1, "no such file: gone.pt"),
        (["gone.onnx"], 1, "no such file: gone.onnx"),
        (["text.pt"], 1, "text.pt is not a PyTorch checkpoint"),
        (["text.onnx"], 1, "text.onnx cannot be loaded"),
        (["mlcl-edge", "--imgsz", "100"], 2, "100x100 is not a multiple of the network's stride 16"),
        (["mlcl-base", "--imgsz", "x"], 2, "WIDTHxHEIGHT"),
    ],
)
def test_what_is_no_model(
    irdet_command: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.pt", "text.onnx"):
        Path(name).write_text("I am a text\n" * 9)
    done = irdet_command("info", *arguments)
    assert done.code == code and told in done.err
    assert done.err.count("\n") == 1 and done.out == ""


@pytest.mark.parametrize("name", METHODS)
def test_a_classical_method(irdet_command: Callable[..., Any], name: str) -> None:
    facts = json.loads(irdet_command("info", name, "--json").out)
    method = create_method(name)
    assert facts["threshold"] == method.THRESHOLD and facts["main"] in facts["settings"]
    assert set(facts["settings"]) == {field.name for field in fields(method)}
    assert "(19" in facts["source"] or "20" in facts["source"], "a source has a year"
    table = irdet_command("info", name).out
    for part in (facts["about"].split()[0], str(method.THRESHOLD), *facts["settings"]):
        assert part in table


def test_a_wrong_name_lists_networks(irdet_command: Callable[..., Any]) -> None:
    done = irdet_command("info", "mlcl-edgy")
    assert done.code == 2 and "did you mean mlcl-edge?" in done.err


def test_sizes_of_an_engine(irdet_command: Callable[..., Any], tmp_path: Path) -> None:
    plan = tmp_path / "m.trt"
    plan.write_bytes(b"plan")
    info = ModelInfo("mlcl-edge", stride=16, opset=17)
    profile = ((1, 1, 64, 64), (1, 1, 512, 640), (4, 1, 1024, 1280))
    sidecar = Sidecar(
        *(info, sha256(plan), "", "m.onnx", "tensorrt", "10.3.0", "a GPU", ((8, 7),), profile, False, False, "irdet")
    )
    sidecar.write(plan)
    assert "float32, 64x64 to 4x1280x1024, best at 640x512" in irdet_command("info", plan).out
    replace(sidecar, profile=None, info=info.replace(height=96, width=None)).write(plan)
    assert "float32, anyx96" in irdet_command("info", plan).out
