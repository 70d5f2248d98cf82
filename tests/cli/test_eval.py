from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from irdet.core.info import ModelInfo
from irdet.core.nuc import identity

Command = Callable[..., object]


def save_data(root: Path) -> Path:
    """Three images of one target each; the last one's is too dim, and the first has a false pixel."""
    for number in range(3):
        image, mask = np.full((20, 30), 20, np.uint8), np.zeros((20, 30), np.uint8)
        mask[8:10, 12:14] = 255
        image[mask > 0] = 220 if number < 2 else 90
        if number == 0:
            image[2, 25] = 160
        for folder, values in (("images", image), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / folder / f"{number}.png"), values)
    return root


@pytest.fixture
def model(tmp_path: Path, bright_model: Callable[..., Path]) -> Path:
    pytest.importorskip("onnxruntime")
    return bright_model(tmp_path / "model.onnx", ModelInfo("bright", stride=4, opset=17))


@pytest.fixture
def arguments(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    monkeypatch.chdir(tmp_path)
    return ["--model", model, "--data", save_data(tmp_path / "set"), "--threads", 1]


def test_json_and_files(irdet_command, arguments: list[object]) -> None:  # type: ignore[no-untyped-def]
    result = irdet_command("eval", *arguments, "--json", "--quiet")
    assert (result.code, result.err) == (0, "")
    figures = json.loads(result.out)
    assert figures["iou"] == pytest.approx(8 / 13)
    assert figures["niou"] == pytest.approx((4 / 5 + 1 + 0) / 3)
    assert figures["pd"] == pytest.approx(2 / 3)
    assert figures["fa"] == pytest.approx(1e6 / 1800)
    assert (figures["images"], figures["targets"], figures["threshold"], figures["resize"]) == (3, 3, 0.5, None)
    assert {"precision", "recall", "f1", "false_per_frame_upper", "average_precision"} <= figures.keys()
    written = json.loads(Path("runs/eval/set/metrics.json").read_text())
    assert {**written, "files": figures["files"]} == {**figures, "curves": written["curves"]}, "what a table needs"
    names = {Path(file).name for file in figures["files"]}
    assert {"metrics.json", "per_image.csv", "worst.png"} <= names
    assert all(Path(file).parent == Path("runs/eval/set") and Path(file).is_file() for file in figures["files"])


def test_a_mask_without_an_image_is_told(irdet_command, arguments: list[object], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "set/images/2.png").unlink()
    result = irdet_command("eval", *arguments)
    assert result.code == 0 and "1 of the 3 masks of " in result.err and "have no image: 2" in result.err
    assert irdet_command("eval", *arguments, "--quiet").err == ""


def test_the_table_tells_the_protocol(irdet_command, arguments: list[object]) -> None:  # type: ignore[no-untyped-def]
    asked = ("--resize", "60x40", "--distance", 4, "--fps", 25, "--threshold", 0.3, "--views", 2)
    result = irdet_command("eval", *arguments, *asked)
    assert result.code == 0
    rows = {line.split("  ")[0].strip(): line for line in result.out.splitlines()}
    assert "0.3" in rows["threshold"]
    assert "60x40" in rows["size"] and "2 ways round" in rows["size"]
    assert " 3" in rows["images"]
    assert " 3" in rows["targets"]
    assert "3 of 3, closer than 4 px" in rows["Pd"]
    assert "per hour" in result.out
    assert "nIoU" in rows["in own pixels"] and "false targets per frame" in rows["in own pixels"]
    assert "runs/eval/set" in result.err


def test_frames_are_mapped_as_infer_maps_them(irdet_command, arguments: list[object]) -> None:  # type: ignore[no-untyped-def]
    """Dark targets, a declared range and a camera's correction can be scored, and a threshold tuned for them."""
    plain = json.loads(irdet_command("eval", *arguments, "--json", "-q").out)
    for path in Path("set/images").iterdir():
        cv2.imwrite(str(path), 255 - np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)))
    dark = json.loads(irdet_command("eval", *arguments, "--json", "-q", "--polarity", "black-hot").out)
    assert (dark["iou"], dark["pd"], dark["fa"]) == (plain["iou"], plain["pd"], plain["fa"])
    assert dark["polarity"] == "black-hot" and plain["normalise"] == "range"
    # The dim target is 70 counts below the sky: of a range from 135 to 235 that is most.
    for command in ("eval", "tune") if find_spec("onnx") else ("eval",):  # a device tunes nothing
        ranged = irdet_command(command, *arguments, "--json", "-q", "--polarity", "black-hot", "--range", "135,235")
        figures = json.loads(ranged.out)
        assert figures["range"] == [135, 235] and (figures.get("after") or figures)["pd"] == 1
        turned = json.loads(irdet_command(command, *arguments, "--json", "-q", "--views", 4).out)
        assert turned["views"] == 4
    local = json.loads(irdet_command("eval", *arguments, "--json", "-q", "--normalise", "local").out)
    assert local["normalise"] == "local" and local["iou"] != dark["iou"]
    identity((20, 30)).write(Path("camera.npz"))
    corrected = irdet_command(
        "eval", *arguments, "--json", "-q", "--polarity", "black-hot", "--range", "0,255", "--nuc", "camera.npz"
    )
    figures = json.loads(corrected.out)
    assert figures["corrected"] and figures["iou"] == plain["iou"]
    refused = irdet_command("eval", *arguments, "-q", "--nuc", "camera.npz", "--resize", "64x64")
    assert refused.code == 2 and "leave --resize out" in refused.err


def test_folders(irdet_command, arguments: list[object]) -> None:  # type: ignore[no-untyped-def]
    for folder in ("runs/eval/set", "runs/eval/set-2"):
        assert irdet_command("eval", *arguments, "-q").code == 0
        assert (Path(folder) / "metrics.json").is_file()
    assert irdet_command("eval", *arguments, "-q", "--output", "mine").code == 0
    again = irdet_command("eval", *arguments, "-q", "--output", "mine")
    assert again.code == 2
    assert "mine is not empty" in again.err
    assert irdet_command("eval", *arguments, "-q", "--output", "mine", "--exist-ok").code == 0


def test_target_free_frames(irdet_command, arguments: list[object]) -> None:  # type: ignore[no-untyped-def]
    arguments[3] = Path("set/images")
    refused = irdet_command("eval", *arguments, "-q")
    assert refused.code == 1
    assert "target-free" in refused.err
    result = irdet_command("eval", *arguments, "--target-free", "--json", "-q")
    figures = json.loads(result.out)
    assert (figures["targets"], figures["pd"], figures["false_targets"]) == (0, None, 3)
    assert irdet_command("eval", *arguments, "--target-free", "-q").code == 0


def test_without_matplotlib_one_line_names_the_extra(  # type: ignore[no-untyped-def]
    irdet_command, arguments: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = irdet_command("eval", *arguments)
    assert result.code == 0
    assert [line for line in result.err.splitlines() if "curves.png is left out" in line and "irdet[plot]" in line]
    assert sorted(p.name for p in Path("runs/eval/set").iterdir()) == ["metrics.json", "per_image.csv", "worst.png"]


@pytest.mark.parametrize(
    ("extra", "code", "says"),
    [
        (["--data", "nowhere"], 2, "no data set at nowhere"),
        (["--split", "test"], 2, "no split 'test'"),
        (["--threshold", "2"], 2, "threshold 2"),
        (["--empty", "half"], 2, "half"),
        (["--resize", "big"], 2, "size 'big'"),
        (["--model", "missing.onnx"], 1, "missing.onnx"),
        (["--output", "model.onnx"], 1, "model.onnx"),
    ],
)
def test_wrong_arguments_are_one_line(  # type: ignore[no-untyped-def]
    irdet_command, arguments: list[object], extra: list[str], code: int, says: str
) -> None:
    result = irdet_command("eval", *arguments, *extra, "-q")
    assert (result.code, result.out) == (code, "")
    assert says in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert not Path("runs").exists()


def test_threshold_rules(irdet_command, arguments: list[object], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = arguments[2:]
    for threshold, recorded in (("0.2", 0.2), ("mean+3std", "mean+3std")):
        options = ["--model", "tophat", "--threshold", threshold, "--json", "-o", tmp_path / threshold]
        result = irdet_command("eval", *data, *options)
        figures = json.loads(result.out)
        assert result.code == 0 and figures["threshold"] == recorded and figures["pd"] > 0
    result = irdet_command("eval", *arguments, "--threshold", "much")
    assert result.code == 2 and "mean+Fstd" in result.err and result.err.count("\n") == 1


def save_clip(folder: Path, name: str, truth: bool = True) -> Path:
    """Images of a bright target that moves to the right, 20 of them, as a video, with its truth."""
    from irdet.data.synth.write import CODECS

    folder.mkdir(parents=True, exist_ok=True)
    path, lines = folder / f"{name}.avi", ["frame,id,x,y,w,h"]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[".avi"][0]), 25, (64, 48), False)
    for index in range(20):
        image = np.full((48, 64), 20, np.uint8)
        image[20:23, 5 + 2 * index : 8 + 2 * index] = 220
        if index == 7:
            image[5, 50] = 255
        writer.write(image)
        lines.append(f"{index},1,{5 + 2 * index},20,3,3")
    writer.release()
    if truth:
        path.with_suffix(".csv").write_text("\n".join(lines) + "\n")
    return path


def test_video(  # type: ignore[no-untyped-def]
    irdet_command, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy")
    monkeypatch.chdir(tmp_path)
    one, _ = save_clip(tmp_path / "clips", "one"), save_clip(tmp_path / "clips", "two")
    result = irdet_command("eval", "--video", one, "--model", model, "--threads", 1, "--json", "--quiet")
    assert (result.code, result.err) == (0, "")
    figures = json.loads(result.out)
    (clip,) = figures["clips"]
    assert (clip["detections"]["pd"], clip["detections"]["false"], clip["detections"]["frames"]) == (1, 1, 20)
    assert clip["detections"]["false_per_hour"] == pytest.approx(3600 / 0.8)
    assert (clip["tracks"]["pd"], clip["tracks"]["false_tracks"], clip["tracks"]["frames_to_confirm"]) == (0.9, 0, 3)
    assert figures["tracker"]["confirm"] == 3
    assert (figures["threshold"], figures["resize"], figures["model_precision"]) == (0.5, None, "fp32")
    assert json.loads(Path("runs/eval/one/video.json").read_text())["clips"] == figures["clips"]

    result = irdet_command("eval", "--video", one, "--model", model, "--fps", 5, "--json", "--quiet", "--views", 2)
    turned = json.loads(result.out)
    assert (figures["views"], turned["views"]) == (1, 2)
    (slow,) = turned["clips"]
    assert slow["detections"]["false_per_hour"] == pytest.approx(3600 / 4), "of 20 frames at 5 a second"

    arguments = ["eval", "--video", tmp_path / "clips", "--model", model, "--tracker", "confirm=5", "--stabilise"]
    result = irdet_command(*arguments, "--threads", 1)
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("one", "two", "all")] == ["one", "two", "all"] * 2
    assert ["all", "0.800", "0.000", "2", "0", "0"] in [row[:6] for row in rows]


def test_video_misused(irdet_command, arguments: list[object], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("scipy")
    clip = save_clip(tmp_path, "bare", truth=False)
    model = arguments[:2]
    for wrong, message in (
        ([*arguments, "--video", clip], "are measured apart: leave one out"),
        (model, "--data DIR for images and masks, or --video CLIP"),
        ([*arguments, "--truth", "a.csv"], "--truth is about --video"),
        ([*arguments, "--stabilise"], "--stabilise is about --video"),
        ([*model, "--video", clip, "--split", "a"], "--split is about --data"),
        ([*model, "--video", clip, "--distance", "2"], "--distance is about --data"),
        ([*model, "--video", clip, "--empty", "one"], "--empty is about --data"),
        ([*model, "--video", clip, "--target-free"], "--target-free is about --data"),
        ([*arguments, "--fps", "0"], "--fps 0"),
        ([*arguments, "--fps", "nan"], "--fps nan: give a finite number"),
        ([*arguments, "--distance", "nan"], "--distance nan: give a finite number"),
        ([*arguments, "--distance", "0"], "--distance 0: must be above 0"),
        ([*model, "--video", clip], "bare.csv is not there"),
        ([*model, "--video", clip, "--truth", model[1], "--tracker", "gait=4"], "did you mean gate?"),
    ):
        result = irdet_command("eval", *wrong)
        assert result.code in (1, 2) and message in result.err and result.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_failed_run_leaves_no_empty_folder(irdet_command, arguments: list[object], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("scipy")
    clip = save_clip(tmp_path, "broken")
    clip.write_bytes(b"no video")
    image = next((Path(str(arguments[3])) / "images").iterdir())
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    for wrong in ([*arguments[:2], "--video", clip], arguments):
        assert irdet_command("eval", *wrong).code == 1
        assert list(tmp_path.glob("runs/eval/*")) == [], wrong
