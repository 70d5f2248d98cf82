"""Where frames come from: images, stacks, raw frames, videos, cameras and streams, each as a `Source`."""

from __future__ import annotations

import glob
import os
import re
import sys
from pathlib import Path

from irdet.core.errors import IrdetError, UsageError
from irdet.core.images import IMAGE_SUFFIXES, MAX_PIXELS, is_image, natural_key, opencv_name, printable
from irdet.runtime.sources.base import (
    FALLBACK_FPS,
    MAX_FPS,
    RAW_DTYPES,
    NothingLeft,
    RawFormat,
    RawFrame,
    SkipLog,
    Skipped,
    Source,
    SourceOptions,
)
from irdet.runtime.sources.live import open_camera, open_pipeline, open_url, redacted
from irdet.runtime.sources.stacks import (
    TIFF_SUFFIXES,
    ImageSource,
    NpySource,
    RawSource,
    TiffSource,
    count_pages,
)
from irdet.runtime.sources.stream import PipeSource
from irdet.runtime.sources.video import open_video

__all__ = [
    "FALLBACK_FPS",
    "MAX_FPS",
    "MAX_PIXELS",
    "RAW_DTYPES",
    "NothingLeft",
    "RawFormat",
    "RawFrame",
    "SkipLog",
    "Skipped",
    "Source",
    "SourceOptions",
    "first_file",
    "open_source",
    "redacted",
]

_GLOB_SIGNS = re.compile(r"[*?\[]")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CAMERA = re.compile(r"(?:/dev/video)?(\d{1,3})")


def open_source(spec: str | os.PathLike[str] | int, options: SourceOptions | None = None) -> Source:
    """Opens a source and makes sure that it has at least one frame.

    Its frames come as they are stored, and are prepared for a model by one preprocessor:

        preprocessor = irdet.Preprocessor()
        with irdet.open_source("clip.mkv") as source:
            for raw in source:
                targets = detector.detect(raw.prepare(preprocessor)).targets

    Args:
        spec: An image, a multi-page TIFF, a folder of images (not its subfolders; in natural order: `2.png` before
            `10.png`), a glob of images (quoted; `**` for subfolders), a NumPy stack (.npy), a video, a camera
            (`0`, also as a number, or `/dev/video0`), an address (`rtsp://`, `http://` ...), a GStreamer pipeline
            (`... ! appsink`). With `options.raw`: a file or a named pipe of raw frames, or `-` for standard input.
        options: Which of its frames are wanted, and what it does not tell by itself.

    Returns:
        The source.

    Raises:
        IrdetError: Nothing is there, or nothing of it can be read; names it and says why.
        UsageError: The options do not fit the source.
    """
    text = str(spec) if isinstance(spec, int) else os.fspath(spec)
    options = options or SourceOptions()
    path = Path(text)
    if not text.strip():
        raise UsageError("the source is empty: name a file, a folder, a camera or an address")
    try:
        if options.raw is not None:
            return _open_raw(path, text, options.raw, options)
        if text == "-":
            raise UsageError("- for standard input needs --raw-shape and --raw-dtype: its frames have no header")
        if _URL.match(text):
            return open_url(text, options)
        if " ! " in text:
            return open_pipeline(text, options)
        # By its stable name (/dev/v4l/by-id/...) a camera is a link to its number.
        device = os.path.realpath(text) if path.is_char_device() else None
        if (camera := _CAMERA.fullmatch(device or text)) and (device or not path.exists()):
            return open_camera(int(camera[1]), options)
        if device:
            raise IrdetError(f"cannot read {text}: a device, but no camera (/dev/video0 ...)")
        if path.is_dir():
            return ImageSource(_in_folder(path), printable(path.resolve().name) or "images", path, options)
        if path.exists():
            return _open_file(path, options)
        if _GLOB_SIGNS.search(text):
            return _from_glob(text, options)
    except OSError as error:
        raise IrdetError(f"cannot read {redacted(text)}: {error.strerror or error}") from error
    raise IrdetError(f"cannot read {redacted(text)}: no such file or folder{_similar(path)}")


def first_file(spec: str) -> Path | None:
    """Returns the file that holds the first frame of a source; None where it is no file, or none is there."""
    if os.path.isfile(spec):  # of Path, a pipeline is too long a name
        return Path(spec)
    folder = os.path.isdir(spec)
    if not folder and (_URL.match(spec) or not _GLOB_SIGNS.search(spec)):
        return None
    files = Path(spec).iterdir() if folder else map(Path, glob.glob(spec, recursive=True))
    return min(filter(is_image, files), key=natural_key, default=None)


def _open_raw(path: Path, text: str, layout: RawFormat, options: SourceOptions) -> Source:
    if text == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed: pipe raw frames into it")
        if sys.stdin.isatty():
            raise UsageError("standard input is the keyboard: pipe raw frames into it")
        return PipeSource(sys.stdin.buffer, "stdin", layout, options)
    if path.is_fifo():
        return PipeSource(path.open("rb"), path.name, layout, options)
    if path.is_file():
        return RawSource(path, layout, options)
    raise UsageError(
        f"--raw-shape is for a file of raw frames or - for standard input, and {redacted(text)} is neither"
    )


def _open_file(path: Path, options: SourceOptions) -> Source:
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES and (pages := count_pages(Path(opencv_name(path)))) > 1:
        return TiffSource(path, pages, options)
    if suffix in IMAGE_SUFFIXES:
        return ImageSource([path], printable(path.stem), path.parent, options)
    if suffix == ".npy":
        return NpySource(path, options)
    if suffix in (".raw", ".bin"):
        raise UsageError(f"{path}: raw frames have no header: add --raw-shape WxH and --raw-dtype TYPE")
    return open_video(path, options)


def _in_folder(folder: Path) -> list[Path]:
    paths = sorted(filter(is_image, folder.iterdir()), key=natural_key)
    if not paths:
        inner = folder / "images"
        hint = f"; did you mean {inner}?" if inner.is_dir() else ""
        raise IrdetError(f"cannot read {folder}: there are no images in this folder{hint}")
    return paths


def _from_glob(pattern: str, options: SourceOptions) -> Source:
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    files = sorted((path for path in matches if path.is_file()), key=natural_key)
    images = list(filter(is_image, files))
    if images:
        parent = Path(os.path.commonpath([path.parent.absolute() for path in images]))
        return ImageSource([path.absolute() for path in images], printable(parent.name) or "images", parent, options)
    if len(files) == 1:
        return _open_file(files[0], options)
    what = f"{len(files)} files match, but none is an image; videos go one at a time" if files else "nothing matches"
    raise IrdetError(f"cannot read {pattern}: {what}")


def _similar(path: Path) -> str:
    """Suggests a name that is there."""
    import difflib

    if path.is_symlink():
        return " (a link into nowhere)"
    if not path.parent.is_dir():
        return f" ({path.parent} is not a folder)" if path.parent.exists() else ""
    close = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], 1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""
