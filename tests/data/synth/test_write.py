from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from irdet.core.errors import FrameError, IrdetError, UsageError
from irdet.data.sirst import load_dataset
from irdet.data.synth import SceneConfig, generate_sequence, write_clip, write_dataset

CONFIG = SceneConfig(width=64, height=48, kind="clouds", targets=(1, 2), area=(6, 20))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_data_set_is_read_by_the_reader(tmp_path: Path, bits: int) -> None:
    ticks: list[int] = []
    written = write_dataset(tmp_path / "set", 3, replace(CONFIG, bits=bits), 7, advance=lambda: ticks.append(1))
    dataset = load_dataset(tmp_path / "set")
    truth = rows(written.truth)
    assert (written.frames, written.targets, len(ticks)) == (3, len(truth), 3)
    images = set()
    for sample in dataset:
        raw, mask = sample.read()
        assert raw.dtype == (np.uint8 if bits == 8 else np.uint16) and raw.shape == (48, 64)
        own = [row for row in truth if row["image"] == sample.name]
        assert mask.sum() == sum(int(row["area"]) for row in own) > 0
        for row in own:
            x, y, w, h = (int(row[key]) for key in "xywh")
            assert mask[y : y + h, x : x + w].any()
        images.add(raw.tobytes())
    assert len(images) == len(dataset) == 3
    scene = json.loads((tmp_path / "set" / "scene.json").read_text())
    assert (scene["seed"], scene["images"], scene["config"]["bits"]) == (7, 3, bits)


def test_a_data_set_is_made_again_from_its_seed_and_others_differ(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(tmp_path / name, 2, CONFIG, seed)
    a, b, c = (
        {file.name: file.read_bytes() for file in sorted((tmp_path / name / "images").iterdir())} for name in "abc"
    )
    assert a == b
    assert not set(a.values()) & set(c.values())


def test_a_smaller_set_leaves_nothing_of_the_larger(tmp_path: Path) -> None:
    write_dataset(tmp_path, 3, CONFIG)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="exist-ok"):
        write_dataset(tmp_path, 1, CONFIG)
    write_dataset(tmp_path, 1, CONFIG, exist_ok=True)
    assert len(load_dataset(tmp_path)) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(("suffix", "lossless"), [(".mkv", True), (".avi", True), (".mp4", False)])
def test_a_clip_holds_the_sequence(tmp_path: Path, suffix: str, lossless: bool) -> None:
    path = tmp_path / f"clip{suffix}"
    written = write_clip(path, CONFIG, 4, frames=5, fps=20)
    expected = list(generate_sequence(CONFIG, 4, 5))
    reader = cv2.VideoCapture(str(path))
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(20)
    for frame in expected:
        done, image = reader.read()
        assert done
        error = np.abs(image[:, :, 0].astype(int) - frame.raw)
        assert error.max() == 0 if lossless else error.mean() < 6
    assert not reader.read()[0]
    truth = rows(tmp_path / "clip.csv")
    assert list(truth[0])[:8] == ["frame", "id", "x", "y", "w", "h", "area", "scr"]
    assert [(int(row["frame"]), int(row["id"]), int(row["x"]), int(row["area"])) for row in truth] == [
        (frame.index, target.id, target.bbox[0], target.area) for frame in expected for target in frame.targets
    ]
    assert written.targets == len(truth) and written.path == path
    assert json.loads((tmp_path / "clip.json").read_text())["frames"] == 5


def test_a_deep_clip_is_a_folder(tmp_path: Path) -> None:
    config = replace(CONFIG, bits=16)
    written = write_clip(tmp_path / "clip", config, 4, frames=3)
    for frame in generate_sequence(config, 4, 3):
        image = cv2.imread(str(tmp_path / "clip" / f"synth_{frame.index:05d}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image, frame.raw)
    assert written.truth == tmp_path / "clip" / "truth.csv" and rows(written.truth)


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"8 bits.*folder"):
        write_clip(tmp_path / "a.mkv", replace(CONFIG, bits=16))
    with pytest.raises(UsageError, match="even size, not 63x48"):
        write_clip(tmp_path / "a.mkv", replace(CONFIG, width=63))
    with pytest.raises(UsageError, match=r"a\.gif"):
        write_clip(tmp_path / "a.gif", CONFIG)
    with pytest.raises(UsageError, match="frames per second"):
        write_clip(tmp_path / "a.mkv", CONFIG, fps=0)
    with pytest.raises(UsageError, match="0 frames"):
        write_clip(tmp_path / "a.mkv", CONFIG, frames=0)
    with pytest.raises(UsageError, match="0 images"):
        write_dataset(tmp_path / "set", 0, CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_taken_names(tmp_path: Path) -> None:
    video, folder, file = tmp_path / "a.mkv", tmp_path / "folder", tmp_path / "file"
    video.write_text("old")
    file.write_text("old")
    folder.mkdir()
    (folder / "old").write_text("old")
    for ending in (".csv", ".json"):  # what lies beside a video, perhaps another's
        beside = tmp_path / f"b{ending}"
        beside.write_text("old")
        with pytest.raises(UsageError, match=f"b{ending} is there already"):
            write_clip(tmp_path / "b.mkv", CONFIG, frames=1)
        assert beside.read_text() == "old" and not (tmp_path / "b.mkv").exists()
        beside.unlink()
    for path in (video, folder):
        with pytest.raises(UsageError, match="is there already"):
            write_clip(path, CONFIG, frames=1)
    for exist_ok in (False, True):
        with pytest.raises(UsageError, match="is a file"):
            write_clip(file, CONFIG, frames=1, exist_ok=exist_ok)
    write_clip(video, CONFIG, frames=1, exist_ok=True)
    assert video.stat().st_size > 100


def test_a_writer_that_drops_frames_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = cv2.VideoWriter

    class Lossy:
        fourcc = staticmethod(original.fourcc)

        def __init__(self, *arguments: object) -> None:
            self.inner, self.count = original(*arguments), 0
            self.isOpened, self.release = self.inner.isOpened, self.inner.release

        def write(self, image: np.ndarray) -> None:
            self.count += 1
            if self.count <= 2:
                self.inner.write(image)

    monkeypatch.setattr(cv2, "VideoWriter", Lossy)
    with pytest.raises(IrdetError, match="only 2 of 4 frames"):
        write_clip(tmp_path / "a.mkv", CONFIG, frames=4)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IrdetError, match="file"):
        write_dataset(tmp_path / "file" / "set", 1, CONFIG)
    with pytest.raises(IrdetError, match=r"a\.mkv"):
        write_clip(tmp_path / "file" / "a.mkv", CONFIG, frames=1)


def test_a_name_that_opencv_would_crash_on(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="not UTF-8"):
        write_clip(tmp_path / os.fsdecode(b"a\xff.mkv"), CONFIG, frames=1)
