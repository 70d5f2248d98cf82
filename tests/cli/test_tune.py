from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from irdet.core.info import METADATA_KEY, ModelInfo


def save_data(root: Path) -> Path:
    """Targets of brightness 0.9, 0.6 and 0.4, 4 px each, and false ones of 0.5 (3 px) and 0.7 (1 px), in 1800 px."""
    for number, target in enumerate((230, 153, 102)):
        image, mask = np.full((20, 30), 20, np.uint8), np.zeros((20, 30), np.uint8)
        mask[8:10, 12:14] = 255
        image[mask > 0] = target
        if number == 0:
            image[2, 25] = 179
            image[16, 3:6] = 128
        for folder, values in (("images", image), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / folder / f"{number}.png"), values)
    return root


@pytest.fixture
def arguments(tmp_path: Path, bright_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    model = bright_model(tmp_path / "model.onnx", ModelInfo("bright", stride=4, opset=17, threshold=0.45))
    return ["--model", model, "--data", save_data(tmp_path / "set"), "--threads", 1, "--quiet"]


def stored(path: Path) -> ModelInfo:
    onnx = pytest.importorskip("onnx")
    properties = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    return ModelInfo.from_json(properties[METADATA_KEY])


# One false pixel in 1800 is a Fa of 556e-6, all four of them are 2222e-6.
@pytest.mark.parametrize(
    ("budget", "low", "high", "found"),
    [(3000, 0.08, 0.401, 3), (1000, 0.505, 0.6, 2), (100, 0.705, 0.9, 1), (None, 0.08, 0.401, 3)],
)
def test_budget(  # type: ignore[no-untyped-def]
    irdet_command, arguments: list[object], budget: float | None, low: float, high: float, found: int
) -> None:
    asked = [] if budget is None else ["--max-fa", budget]
    result = irdet_command("tune", *arguments, *asked, "--output", "tuned.onnx", "--json")
    assert (result.code, result.err) == (0, "")
    report = json.loads(result.out)
    assert report["before"]["threshold"] == 0.45
    assert report["after"]["pd"] == pytest.approx(found / 3)
    assert low < report["after"]["threshold"] < high
    if budget is not None:
        assert report["after"]["fa"] <= budget
    assert stored(Path("tuned.onnx")).threshold == report["after"]["threshold"]


def test_the_copy_does_what_was_promised(irdet_command, arguments: list[object]) -> None:  # type: ignore[no-untyped-def]
    report = json.loads(irdet_command("tune", *arguments, "--max-fa", 1000, "--json").out)
    assert report["model"] == "runs/tune/model/model.onnx"
    arguments[1] = report["model"]
    figures = json.loads(irdet_command("eval", *arguments, "--json").out)
    for name in ("threshold", "pd", "fa", "iou", "niou", "precision", "recall", "false_targets"):
        assert figures[name] == pytest.approx(report["after"][name])


def test_tables(irdet_command, arguments: list[object]) -> None:  # type: ignore[no-untyped-def]
    result = irdet_command("tune", *arguments[:-1], "--max-fa", 1000)
    assert result.code == 0
    lines = [line.split() for line in result.out.splitlines()]
    assert len([line for line in lines if line[:1] == ["*"]]) == 1
    assert next(line for line in lines if line[:1] == ["before"])[1] == "0.45"
    assert "runs/tune/model/model.onnx" in result.out


def test_a_budget_out_of_reach_is_one_line(irdet_command, arguments: list[object]) -> None:  # type: ignore[no-untyped-def]
    # The brightest thing is now a false one.
    image = np.full((20, 30), 20, np.uint8)
    image[0, 0] = 255
    cv2.imwrite("set/images/1.png", image)
    result = irdet_command("tune", *arguments, "--max-fa", 10, "--output", "tuned.onnx")
    assert (result.code, result.out) == (1, "")
    assert "the lowest Fa is 555.6e-6" in result.err
    assert not Path("tuned.onnx").exists()


def test_wrong_arguments(  # type: ignore[no-untyped-def]
    irdet_command, arguments: list[object], bright_model: Callable[..., Path]
) -> None:
    taken = irdet_command("tune", *arguments, "--output", "model.onnx")
    assert (taken.code, "there already" in taken.err) == (2, True)
    other = irdet_command("tune", *arguments, "--output", "tuned.pt")
    assert (other.code, "must end in .onnx" in other.err) == (2, True)
    unknown = bright_model(Path("foreign.onnx"), None)
    foreign = irdet_command("tune", *arguments, "--model", unknown, "--output", "a.onnx")
    assert (foreign.code, "no record" in foreign.err) == (1, True)
    assert not Path("a.onnx").exists()
    assert stored(Path("model.onnx")).threshold == 0.45


def test_what_cannot_be_written_is_told_before_anything_is_measured(  # type: ignore[no-untyped-def]
    irdet_command, arguments: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("folder.onnx").mkdir()
    refused = irdet_command("tune", *arguments, "--output", "folder.onnx", "--exist-ok")
    assert refused.code == 2 and "folder.onnx is a folder" in refused.err
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused = irdet_command("tune", *arguments)
    assert refused.code == 1 and "irdet[export]" in refused.err and not Path("runs").exists()
