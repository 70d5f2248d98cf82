"""Synthetic data on disk: data sets of the SIRST layout, clips, and their truth."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from irdet import __version__
from irdet.core.errors import IrdetError, UsageError
from irdet.core.files import replacing, write_text
from irdet.core.images import opencv_name, write_png
from irdet.data.synth.config import SceneConfig
from irdet.data.synth.sequence import SynthFrame, generate_frame, generate_sequence
from irdet.data.synth.targets import SynthTarget

#: Codecs of clips by suffix, the first that this OpenCV can write is taken. FFV1 is lossless, the others are not.
CODECS: dict[str, tuple[str, ...]] = {".mkv": ("FFV1", "MJPG"), ".avi": ("FFV1", "MJPG"), ".mp4": ("mp4v",)}

#: Columns of the truth after the frame or image: number, box (left, top, size), area, SCR, place, motion, shape.
TRUTH = ("id", "x", "y", "w", "h", "area", "scr", "cx", "cy", "vx", "vy", "kind")


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: The data set's folder, or the clip.
        truth: The CSV with the truth.
        frames: Number of frames.
        targets: Number of targets in them: of lines in the truth.
    """

    path: Path
    truth: Path
    frames: int
    targets: int


def write_dataset(
    folder: str | Path,
    count: int,
    config: SceneConfig,
    seed: int = 0,
    *,
    exist_ok: bool = False,
    advance: Callable[[], object] = lambda: None,
) -> Written:
    """Writes single frames as a data set of the SIRST layout.

    `images/synth_00000.png` and `masks/synth_00000.png` (0 or 255) and so on, `truth.csv` with a line per target,
    and `scene.json` with what it was made from. Image n is made with a seed drawn from `seed` and n.

    Args:
        folder: Where to.
        count: Number of images.
        config: What they may be.
        seed: Same seed, same data set.
        exist_ok: Write into a folder that holds something; images of an earlier synthetic set there are removed.
        advance: Called after each image.

    Returns:
        What was written.

    Raises:
        UsageError: The folder holds something, there is nothing to write, or the seed is negative.
        IrdetError: A file cannot be written.
    """
    folder = Path(folder)
    if count < 1 or seed < 0:
        raise UsageError(f"synthetic data set of {count} images with seed {seed}: at least 1 image, and no less than 0")
    _vacate(folder, exist_ok)
    rows: list[tuple[object, ...]] = []
    for number in range(count):
        own = int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])
        frame = generate_frame(config, own)
        name = f"synth_{number:05d}"
        write_png(folder / "images" / f"{name}.png", frame.raw)
        write_png(folder / "masks" / f"{name}.png", frame.mask.astype(np.uint8) * np.uint8(255))
        rows += [(name, *_row(target)) for target in frame.targets]
        advance()
    truth = folder / "truth.csv"
    _write_csv(truth, ("image", *TRUTH), rows)
    _write_scene(folder / "scene.json", config, seed, images=count)
    return Written(folder, truth, count, len(rows))


def check_clip(path: str | Path, config: SceneConfig, exist_ok: bool = False) -> None:
    """Checks, before anything is made, that a clip of such frames can be written under such a name.

    Raises:
        UsageError: It cannot; says why.
    """
    path = Path(path)
    if path.suffix.lower() in CODECS:
        if config.bits != 8:
            raise UsageError(f"{path.name}: a video holds 8 bits; for {config.bits} name a folder, for PNG files")
        if config.width % 2 or config.height % 2:
            raise UsageError(f"{path.name}: a video needs an even size, not {config.width}x{config.height}")
        for file in (path, path.with_suffix(".csv"), path.with_suffix(".json")):
            if file.exists() and not (exist_ok and file.is_file()):
                raise UsageError(f"{file} is there already: choose another name, or add --exist-ok")
    elif path.suffix:
        raise UsageError(f"{path.name}: name a video ({', '.join(CODECS)}), or a folder for PNG files")
    else:
        _check_vacant(path, exist_ok)


def write_clip(
    path: str | Path,
    config: SceneConfig,
    seed: int = 0,
    frames: int = 120,
    fps: float = 25.0,
    *,
    exist_ok: bool = False,
    advance: Callable[[], object] = lambda: None,
) -> Written:
    """Writes a sequence as a video, or as a folder of PNG files where the name has no suffix.

    The truth lies beside the video as `<name>.csv`, what it was made from as `<name>.json`; in a folder these are
    `truth.csv` and `scene.json`. A video in Matroska (.mkv) or AVI is lossless (FFV1), one in MP4 is not.

    Args:
        path: `.mkv`, `.avi` or `.mp4`, or a folder. 16-bit frames need a folder.
        config: What the scene may be.
        seed: Same seed, same clip.
        frames: Number of frames.
        fps: Frames per second of the video.
        exist_ok: Write over what is there.
        advance: Called after each frame.

    Returns:
        What was written.

    Raises:
        UsageError: The name does not fit the frames, or is taken.
        IrdetError: It cannot be written.
    """
    path = Path(path)
    check_clip(path, config, exist_ok)
    if not (np.isfinite(fps) and fps > 0):
        raise UsageError(f"{fps:g} frames per second: must be above 0")
    rows: list[tuple[object, ...]] = []

    def sequence() -> Iterable[SynthFrame]:
        for frame in generate_sequence(config, seed, frames):
            rows.extend((frame.index, *_row(target)) for target in frame.targets)
            yield frame
            advance()

    if path.suffix:
        truth, scene = path.with_suffix(".csv"), path.with_suffix(".json")
        _write_video(path, sequence(), (config.width, config.height), frames, fps)
    else:
        truth, scene = path / "truth.csv", path / "scene.json"
        _vacate(path, exist_ok)
        for frame in sequence():
            write_png(path / f"synth_{frame.index:05d}.png", frame.raw)
    _write_csv(truth, ("frame", *TRUTH), rows)
    _write_scene(scene, config, seed, frames=frames, fps=fps)
    return Written(path, truth, frames, len(rows))


def _row(target: SynthTarget) -> tuple[object, ...]:
    moving = (round(value, 3) for value in (target.scr, target.x, target.y, target.vx, target.vy))
    return (target.id, *target.bbox, target.area, *moving, target.kind)


def _check_vacant(folder: Path, exist_ok: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: choose another name for the folder")
    if folder.exists() and any(folder.iterdir()) and not exist_ok:
        raise UsageError(f"{folder} is there already: choose another name, or add --exist-ok to write into the folder")


def _vacate(folder: Path, exist_ok: bool) -> None:
    """Removes the frames of an earlier synthetic set, of which the new truth would know nothing."""
    _check_vacant(folder, exist_ok)
    told = (folder / name for name in ("truth.csv", "scene.json"))  # first: a run that dies leaves no wrong truth
    frames = (file for pattern in ("", "images/", "masks/") for file in folder.glob(f"{pattern}synth_*.png"))
    try:
        for old in (*told, *frames):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise IrdetError(f"cannot remove {error.filename}: {error.strerror}") from error


def _write_video(path: Path, sequence: Iterable[SynthFrame], size: tuple[int, int], frames: int, fps: float) -> None:
    opencv_name(path)  # refuses what OpenCV would crash on
    with replacing(path) as temporary:
        for codec in CODECS[path.suffix.lower()]:
            writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*codec), fps, size, False)
            if writer.isOpened():
                break
        else:
            raise IrdetError(f"cannot write {path}: this OpenCV has none of {', '.join(CODECS[path.suffix.lower()])}")
        try:
            for frame in sequence:
                writer.write(frame.raw)
        finally:
            writer.release()
        # The writer says nothing when the disk is full: count what is there.
        reader = cv2.VideoCapture(str(temporary))
        there = 0
        while reader.grab():
            there += 1
        reader.release()
        if there != frames:
            raise IrdetError(f"cannot write {path}: only {there} of {frames} frames are there; is the disk full?")


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _write_scene(path: Path, config: SceneConfig, seed: int, **more: float) -> None:
    record = {"irdet": __version__, "seed": seed, **more, "config": asdict(config)}
    write_text(path, json.dumps(record, indent=2) + "\n")
