from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.images import read_image
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.runtime.sinks import VideoSink
from irdet.runtime.sources import open_source

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).resolve().parents[2]
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def contrast_model(write_graph: Callable[..., Path]) -> Callable[..., Path]:
    """A real ONNX model without training: the difference of a pixel and the mean around it, and a sigmoid."""

    def build(path: Path, size: tuple[int, int] | None = None, recipe: object = None) -> Path:
        kernel = np.full((1, 1, 13, 13), -1 / 169, np.float32)
        kernel[0, 0, 6, 6] += 1
        constants = {
            "pads": np.array([0, 0, 6, 6, 0, 0, 6, 6], np.int64),
            "kernel": kernel,
            "least": np.array(0.1, np.float32),
            "gain": np.array(60, np.float32),
        }
        nodes = [
            ("Pad", ["frame", "pads"], ["padded"], {"mode": "reflect"}),
            ("Conv", ["padded", "kernel"], ["contrast"], {}),
            ("Sub", ["contrast", "least"], ["above"], {}),
            ("Mul", ["above", "gain"], ["logits"], {}),
            ("Sigmoid", ["logits"], ["probability"], {}),
        ]
        shape = ("n", 1, *(size or ("h", "w")))
        height, width = size or (None, None)
        training = {"recipe": recipe} if recipe else {}
        info = ModelInfo("contrast", stride=8, height=height, width=width, irdet_version="0", training=training)
        ends = [[(name, "float32", shape)] for name in ("frame", "probability")]
        return write_graph(path, nodes, *ends, constants, {METADATA_KEY: info.to_json()})

    return build


@pytest.fixture(scope="module")
def model(contrast_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return contrast_model(tmp_path_factory.mktemp("model") / "contrast.onnx")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def scene(x: int = 30, y: int = 20, height: int = 60, width: int = 90) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(x).integers(60, 70, (height, width)).astype(np.uint8)
    pixels[y : y + 3, x : x + 3] = 220
    return pixels


def save(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, np.asarray(pixels))[1].tobytes())
    return path


def clip(path: Path, frames: int = 12) -> Path:
    sink = VideoSink(path, 25)
    for index in range(frames):
        sink.write(None, cv2.cvtColor(scene(10 + index), cv2.COLOR_GRAY2BGR))  # type: ignore[arg-type]
    sink.close()
    return path


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "targets.jsonl").read_text(encoding="utf-8").splitlines()]


def test_image(irdet_command: Command, model: Path) -> None:
    save(Path("wärme.png"), scene(30, 20))
    result = irdet_command("infer", "wärme.png", "--model", model, "--masks")
    assert result.code == 0, result.err
    folder = Path("runs/infer/wärme")
    assert {path.name for path in folder.iterdir()} == {
        "run.json",
        "targets.jsonl",
        "targets.csv",
        "annotated",
        "masks",
    }
    (record,) = records(folder)
    assert (record["frame"], record["time"], record["source"]) == (0, None, "wärme.png")
    (target,) = record["targets"]
    assert (target["x"], target["y"]) == pytest.approx((31, 21), abs=0.01)
    assert target["bbox"] == [30, 20, 3, 3] and target["area"] == 9 and target["scr"] > 30
    assert np.count_nonzero(read_image(folder / "masks" / "wärme.png")) == 9
    assert read_image(folder / "annotated" / "wärme.png").shape[2] == 3
    # The report: the target, the stages, the files.
    for word in ("31.0", "21.0", "decode", "inference", "encode", "1 target in 1 frame", "targets.jsonl", "annotated"):
        assert word in result.out


def test_video(irdet_command: Command, model: Path) -> None:
    clip(Path("clip.mkv"))
    result = irdet_command("infer", "clip.mkv", "--model", model, "-o", "out", "--quiet")
    assert result.code == 0 and result.err == ""
    found = records(Path("out"))
    assert [record["frame"] for record in found] == list(range(12))
    assert [record["time"] for record in found] == pytest.approx([index / 25 for index in range(12)])
    assert [record["targets"][0]["x"] for record in found] == pytest.approx([11 + i for i in range(12)], abs=0.2)
    with (Path("out") / "targets.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 12
    with open_source("out/annotated.mkv") as video:
        assert video.length == 12 and video.fps == pytest.approx(25)
        frame = next(iter(video)).pixels
    assert frame.shape[1] == 6 * 90
    assert "12 targets in 12 frames" in result.out and "decode" not in result.out


def test_summary_as_json(irdet_command: Command, model: Path) -> None:
    for index in range(3):
        save(Path(f"images/{index}.png"), scene(20 + index))
    Path("images/1.png").write_bytes(b"")
    result = irdet_command("infer", "images", "--model", model, "--json", "--no-video", "--threshold", "0.25")
    assert result.code == 0
    summary = json.loads(result.out)
    assert (summary["frames"], summary["targets"], summary["skipped_frames"]) == (2, 2, 1)
    assert summary["skipped"][0]["name"] == "1.png" and summary["threshold"] == 0.25
    assert summary["model"] == "contrast" and summary["runtime"].endswith(" cpu")
    assert list(summary["stages"]) == ["decode", "preprocess", "inference", "targets", "draw", "encode"]
    assert [Path(file).name for file in summary["files"]] == ["run.json", "targets.jsonl", "targets.csv"]
    assert all(Path(file).exists() for file in summary["files"])
    assert "skipped: cannot read images/1.png: the file is empty (0 bytes)" in result.err


def test_glob_and_numbered_runs(irdet_command: Command, model: Path) -> None:
    for index in (1, 2, 10):
        save(Path(f"seq/{index}.png"), scene(20 + index))
    for folder in ("seq", "seq-2"):
        assert irdet_command("infer", "seq/*.png", "--model", model).code == 0
        assert [record["source"] for record in records(Path("runs/infer") / folder)] == ["1.png", "2.png", "10.png"]
    assert irdet_command("infer", "seq/1.png", "--model", model, "-o", "runs/infer/seq").code == 2
    assert irdet_command("infer", "seq/1.png", "--model", model, "-o", "runs/infer/seq", "--exist-ok").code == 0
    assert len(records(Path("runs/infer/seq"))) == 1


def test_options_reach_the_detector(irdet_command: Command, model: Path) -> None:
    pixels = scene(30, 20)
    pixels[40, 60] = 220
    save(Path("a.png"), pixels)
    save(Path("dark.png"), 255 - pixels)
    mask = np.zeros((60, 90, 3), np.uint8)
    mask[:, :45, 2] = 255
    save(Path("mask.png"), mask)

    def places(source: str, *options: str) -> list[list[float]]:
        result = irdet_command("infer", source, "--model", model, "-o", "out", "--exist-ok", "-q", *options)
        assert result.code == 0, result.err
        return sorted([round(target["x"]), round(target["y"])] for target in records(Path("out"))[0]["targets"])

    both = [[31, 21], [60, 40]]
    assert places("a.png") == both
    assert places("a.png", "--min-area", "2") == [[31, 21]]
    assert places("a.png", "--max-area", "2") == [[60, 40]]
    assert places("a.png", "--ignore", "mask.png") == [[60, 40]]
    assert places("dark.png") == [] and places("dark.png", "--polarity", "black-hot") == both
    assert places("a.png", "--resize", "180x120") == both
    assert places("a.png", "--views", "2") == both and json.loads(Path("out/run.json").read_text())["views"] == 2
    assert places("a.png", "--range", "0,255") == both
    assert places("a.png", "--range", "0,2550") == []  # ten times less contrast
    assert places("a.png", "--device", "cpu", "--threads", "1", "--connectivity", "4") == both


def test_model_of_a_fixed_size(
    irdet_command: Command, model: Path, contrast_model: Callable[..., Path], tmp_path: Path
) -> None:
    fixed = contrast_model(tmp_path / "fixed.onnx", size=(64, 64))
    save(Path("images/large.png"), scene(150, 100, height=131, width=203))
    save(Path("images/small.png"), scene(2, 3, height=7, width=6))
    for name, path in (("free", model), ("fixed", fixed)):
        assert irdet_command("infer", "images", "--model", path, "-o", name, "-q").code == 0
    assert records(Path("free")) == records(Path("fixed"))
    assert [len(record["targets"]) for record in records(Path("free"))] == [1, 1]


def test_nan_pixels(irdet_command: Command, model: Path) -> None:
    pixels = scene(30, 20).astype(np.float32)
    pixels[21, 31] = pixels[5, 5] = np.nan
    save(Path("nan.tiff"), pixels)
    assert irdet_command("infer", "nan.tiff", "--model", model, "-o", "out").code == 0
    (target,) = records(Path("out"))[0]["targets"]
    assert target["bad_pixel"] and target["bbox"] == [30, 20, 3, 3]
    save(Path("all.tiff"), np.full((20, 30), np.nan, np.float32))
    result = irdet_command("infer", "all.tiff", "--model", model)
    assert result.code == 1 and "no finite pixel" in result.err


def test_ffmpeg_is_quiet_in_a_process_of_its_own(model: Path, tmp_path: Path) -> None:
    """The tests have its level set for them; a user's process sets it by itself, before FFmpeg reads it."""
    clip(tmp_path / "whole.mkv")
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    plain = {key: value for key, value in os.environ.items() if key != "OPENCV_FFMPEG_LOGLEVEL"}
    command = [sys.executable, "-m", "irdet", "infer", "cut.mkv", "--model", str(model), "-q", "--no-video"]
    done = subprocess.run(command, cwd=tmp_path, env={**plain, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.startswith("skipped: cut.mkv") and done.stderr.count("\n") == 1


def test_truncated_video_says_so(irdet_command: Command, model: Path) -> None:
    data = clip(Path("cut.mkv"), frames=30).read_bytes()
    Path("cut.mkv").write_bytes(data[: len(data) // 2])
    result = irdet_command("infer", "cut.mkv", "--model", model, "-o", "out", "-q")
    assert result.code == 0
    read = len(records(Path("out")))
    assert 5 < read < 30
    assert (
        result.err == f"skipped: cut.mkv: {30 - read} of the 30 frames that it declares cannot be decoded; cut off?\n"
    )


def empty_folder() -> str:
    Path("empty").mkdir()
    return "empty"


def text_video() -> str:
    Path("text.mp4").write_text("no video\n" * 100)
    return "text.mp4"


def no_bytes() -> str:
    Path("zero.png").write_bytes(b"")
    return "zero.png"


def mp4_without_index() -> str:
    Path("cut.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(200))
    return "cut.mp4"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: "missing.png", "no such file"),
        (empty_folder, "no images in this folder"),
        (text_video, "a text file"),
        (no_bytes, "0 bytes"),
        (mp4_without_index, "an MP4 without its index"),
    ],
)
def test_unreadable_source_is_one_line(irdet_command: Command, model: Path, make: Callable[[], str], said: str) -> None:
    source = make()
    result = irdet_command("infer", source, "--model", model)
    assert result.code == 1 and result.out == ""
    assert result.err.count("\n") == 1 and result.err.startswith("irdet: ")
    assert source in result.err and said in result.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("output", ["file", "file/inside"])
def test_output_that_cannot_be_written(irdet_command: Command, model: Path, output: str) -> None:
    save(Path("a.png"), scene())
    Path("file").write_text("in place of a folder")
    result = irdet_command("infer", "a.png", "--model", model, "-o", output, "-q")
    assert result.code == 1 and result.err.count("\n") == 1 and f"cannot write to {output}" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threshold", "0"], "threshold"),
        (["--connectivity", "5"], "connectivity"),
        (["--polarity", "blue"], "white-hot or black-hot"),
        (["--views", "3"], "views 3: must be 1, 2 or 4"),
        (["--range", "9,3"], "--range"),
        (["--ignore", "small.png"], "--ignore small.png: 8x9 px does not fit frames of 90x60 px"),
        (["--min-area", "9", "--max-area", "3"], "max-area"),
        (["--model", "mlcl-egde"], "no model is called"),
    ],
)
def test_misuse_is_one_line_and_leaves_nothing(
    irdet_command: Command, model: Path, options: list[str], said: str
) -> None:
    save(Path("a.png"), scene())
    save(Path("small.png"), scene(1, 1, height=9, width=8))
    result = irdet_command("infer", "a.png", "--model", model, *options)
    assert result.code == 2 and said in result.err
    assert result.err.count("\n") == 1 and not Path("runs").exists()


def test_a_run_does_not_write_over_its_source(irdet_command: Command, model: Path) -> None:
    clip(Path("annotated.mkv"))
    before = Path("annotated.mkv").read_bytes()
    result = irdet_command("infer", "annotated.mkv", "--model", model, "-o", ".", "--exist-ok")
    assert result.code == 2 and "overwritten" in result.err
    assert Path("annotated.mkv").read_bytes() == before


@pytest.mark.parametrize("source", ["out/annotated/a.png", "out/annotated/*.png", "out/annotated", "out/masks/a.png"])
def test_a_run_does_not_write_over_its_images(irdet_command: Command, model: Path, source: str) -> None:
    save(Path("a.png"), scene())
    assert irdet_command("infer", "a.png", "--model", model, "-o", "out", "--masks").code == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*.png")}
    result = irdet_command("infer", source, "--model", model, "-o", "out", "--masks", "--exist-ok")
    assert result.code == 2 and "overwritten" in result.err
    assert {path: path.read_bytes() for path in Path("out").rglob("*.png")} == before
    assert irdet_command("infer", "a.png", "--model", model, "-o", ".", "--exist-ok").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_that_are_no_utf8(irdet_command: Command, model: Path) -> None:
    Path("images").mkdir()
    for name in (b"k\xe4lte.png", b"z.png"):
        save(Path("images") / os.fsdecode(name), scene())
    result = irdet_command("infer", "images", "--model", model, "-o", "out")
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in Path("out/targets.jsonl").read_text("utf-8").splitlines()]
    assert [line["source"] for line in lines] == ["k\ufffdlte.png", "z.png"] and all(line["targets"] for line in lines)
    assert "k\ufffdlte.png" in Path("out/targets.csv").read_text("utf-8")
    assert len(list(Path("out/annotated").iterdir())) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
@pytest.mark.parametrize("suffix", [".tif", ".mkv", ".npy"])
def test_opencv_does_not_crash_on_names_that_are_no_utf8(irdet_command: Command, model: Path, suffix: str) -> None:
    name = os.fsdecode(b"y\xff") + suffix
    Path("images").mkdir()
    if suffix == ".mkv":
        clip(Path("a.mkv"))
        Path("a.mkv").rename(Path("images") / name)
    elif suffix == ".npy":
        np.save(Path("images") / name, np.stack([scene()] * 2))
    else:
        Path("images", name).write_bytes(cv2.imencode(".tif", scene())[1].tobytes())
        save(Path("images/z.png"), scene())
        result = irdet_command("infer", "images", "--model", model, "-o", "out")
        assert result.code == 0 and len(Path("out/targets.jsonl").read_text().splitlines()) == 2, result.err
    result = irdet_command("infer", f"images/{name}", "--model", model)
    if suffix == ".npy":  # numpy reads it
        assert result.code == 0 and Path("runs/infer/y\ufffd/annotated.mkv").stat().st_size, result.err
    else:
        assert result.code == 1 and "rename it" in result.err and result.err.count("\n") == 1


def test_a_link_into_nowhere_beside_the_images(irdet_command: Command, model: Path) -> None:
    Path("images").mkdir()
    save(Path("images/a.png"), scene())
    Path("images/b.png").symlink_to("gone.png")
    for _ in range(2):
        assert irdet_command("infer", "images/*", "--model", model, "-o", "out", "--exist-ok").code == 0


def test_show_says_which_package_gives_windows(irdet_command: Command, model: Path, monkeypatch: Any) -> None:
    def no_windows(*arguments: object) -> None:
        raise cv2.error("The function is not implemented")

    save(Path("a.png"), scene())
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", no_windows)
    result = irdet_command("infer", "a.png", "--model", model, "--show")
    assert result.code == 1 and "pip install opencv-python" in result.err and not Path("runs").exists()


def test_long_run_shows_a_sample_of_its_targets(irdet_command: Command, model: Path) -> None:
    clip(Path("long.mkv"), frames=50)
    result = irdet_command("infer", "long.mkv", "--model", model, "--no-video", "-q")
    assert result.code == 0 and "Best target of one in 4 of the frames" in result.out
    assert 10 <= sum(" 1.00 " in line for line in result.out.splitlines()) <= 20


@pytest.mark.parametrize(
    ("options", "unwanted"),
    [
        ((), {"torch", "onnx", "matplotlib", "scipy"}),
        (("--stdout", "--device", "cpu"), {"torch", "onnx", "matplotlib", "scipy", "rich", "ssl"}),
    ],
    ids=["table", "stdout"],
)
def test_nothing_is_imported_that_an_image_does_not_need(
    model: Path, options: tuple[str, ...], unwanted: set[str]
) -> None:
    save(Path("a.png"), scene())
    words = ["infer", "a.png", "--model", str(model), "-q", *options]
    code = (
        f"import sys; from irdet.cli import main; assert main({words!r}) == 0; "
        f"print(sorted({unwanted!r} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


def test_tracks(irdet_command: Command, model: Path) -> None:
    pytest.importorskip("scipy")
    clip(Path("clip.mkv"), 12)
    arguments = ["infer", "clip.mkv", "--model", model, "--track", "--stabilise", "--tracker", "confirm=4", "--quiet"]
    result = irdet_command(*arguments, "-o", "out")
    assert result.code == 0 and result.err == ""
    names = {
        "run.json",
        "targets.jsonl",
        "targets.csv",
        "tracks.jsonl",
        "tracks.csv",
        "tracks.mot.txt",
        "annotated.mkv",
    }
    assert {path.name for path in Path("out").iterdir()} == names
    lines = [json.loads(line) for line in Path("out/tracks.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["tracks"][0]["state"] for line in lines] == ["tentative"] * 3 + ["confirmed"] * 9
    (last,) = lines[-1]["tracks"]
    assert (last["x"], last["y"], last["vx"], last["vy"]) == pytest.approx((22, 21, 1, 0), abs=0.3)
    assert len(Path("out/tracks.mot.txt").read_text(encoding="utf-8").splitlines()) == 9
    assert "1 confirmed track in 9 frames" in result.out and "of 12 frames" in result.out

    result = irdet_command(*arguments, "-o", "json", "--json", "--no-video")
    figures = json.loads(result.out)
    assert (figures["tracks"]["tracks"], figures["tracks"]["longest"]) == (1, 12)
    assert figures["stages"]["tracks"]["total_s"] > 0 and len(figures["files"]) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stabilise"], "--stabilise is about tracks: add --track"),
        (["--tracker", "coast=3"], "--tracker is about tracks: add --track"),
        (["--track", "--tracker", "coats=3"], "did you mean coast?"),
    ],
)
def test_tracks_misused(irdet_command: Command, model: Path, arguments: list[str], message: str) -> None:
    pytest.importorskip("scipy")
    save(Path("a.png"), scene())
    result = irdet_command("infer", "a.png", "--model", model, *arguments)
    assert result.code == 2 and message in result.err and result.err.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("recipe", "way", "told"),
    [
        ({"epochs": 3, "local_share": 0.0}, "local", True),
        ({"epochs": 3}, "local", True),
        ({"epochs": 3, "local_share": 0.1}, "local", False),
        ({"epochs": 3}, "range", False),
        (None, "local", False),  # nothing is known of it
        ("somebody else's", "local", False),
    ],
    ids=str,
)
def test_a_model_that_never_saw_the_local_mode_says_so(
    irdet_command: Command, contrast_model: Callable[..., Path], recipe: object, way: str, told: bool
) -> None:
    assert cv2.imwrite("a.png", scene())
    done = irdet_command("infer", "a.png", "--model", contrast_model(Path("m.onnx"), None, recipe), "--normalise", way)
    assert done.code == 0
    assert ("was not trained on locally normalised frames" in " ".join((done.err + done.out).split())) is told


def test_resume_tells_foreign_models_apart(irdet_command: Command, write_graph: Callable[..., Path]) -> None:
    """They hold no record with a digest of their weights, so their files are compared."""
    Path("images").mkdir()
    for index in range(2):
        save(Path(f"images/{index}.png"), scene())
    shape: list[Any] = ["n", 1, "h", "w"]
    for name, weight in (("a", 9.0), ("b", -9.0)):
        write_graph(
            Path(f"{name}.onnx"),
            [("Mul", ["image", "weight"], ["logit"], {})],
            [("image", "float32", shape)],
            [("logit", "float32", shape)],
            {"weight": np.array([weight], np.float32)},
        )
    assert irdet_command("infer", "images", "--model", "a.onnx", "-o", "out").code == 0
    assert irdet_command("infer", "images", "--model", "a.onnx", "--resume", "out").code == 0
    result = irdet_command("infer", "images", "--model", "b.onnx", "--resume", "out")
    assert result.code == 2 and "weights_sha256 was" in result.err


def test_of_one_image_the_best_targets_are_shown(irdet_command: Command) -> None:
    pixels = np.full((80, 300), 60, np.uint8)
    for number in range(28):
        pixels[10 + 20 * (number % 2), 10 * number + 8] = 150 + number
    save(Path("a.png"), pixels)
    shown = irdet_command("infer", "a.png", "--model", "tophat", "-q", "--no-video").out
    rows = [line for line in shown.splitlines() if "a.png" in line]
    assert "The best 20 of 28 targets" in shown and len(rows) == 20
