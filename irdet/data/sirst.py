"""Reader for data sets of the SIRST family: grey images, and masks in which targets are set.

Layouts that are recognised, below the path or at it:

- `images/` + `masks/` (SIRST, NUDT-SIRST), `mixed/` + `annotations/masks/` (SIRST-V2),
  `IRSTD1k_Img/` + `IRSTD1k_Label/` (IRSTD-1k); masks named like the image, or with `_pixels0` after the name;
- `data/{train,test}/{image,mask}/` (the authors of MLCL-Net);
- any of these narrowed by an index: a text file with one name a line, in the folder itself or one below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import DataError, FrameError, UsageError
from irdet.core.frame import to_grey
from irdet.core.images import IMAGE_SUFFIXES, is_image, natural_key, read_image

#: Folders of images and of their masks, relative to the root.
LAYOUTS = (
    ("images", "masks"),
    ("image", "mask"),
    ("mixed", "annotations/masks"),
    ("IRSTD1k_Img", "IRSTD1k_Label"),
)

#: What a mask's name may carry after the image's.
MASK_ENDINGS = ("", "_pixels0")

#: A mask pixel may be this far from either level, as a share of the mask's maximum (JPEG leaves such traces).
MASK_FUZZ = 0.25

#: So many bad samples are named in an error; the others are counted.
NAMED = 5


@dataclass(frozen=True)
class Sample:
    """One image and its truth.

    Attributes:
        name: The image's file name without suffix.
        image: The image file.
        mask: The mask file; None where the image is known to hold no target.
    """

    name: str
    image: Path
    mask: Path | None

    def read(self) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Reads both files.

        Returns:
            The raw grey image [H, W] in the file's own type (colours turned to grey), and the mask, bool [H, W].

        Raises:
            DataError: A file cannot be read, the sizes differ, or the mask is not binary; names the sample.
        """
        raw = _read_grey(self.image)
        if self.mask is None:
            return raw, np.zeros(raw.shape, bool)
        levels = _read_grey(self.mask)
        if levels.shape != raw.shape:
            raise DataError(
                f"{self.name}: mask is {levels.shape[1]}x{levels.shape[0]}, "
                f"image {raw.shape[1]}x{raw.shape[0]} ({self.mask})"
            )
        top = float(levels.max())
        share = levels.astype(np.float32) / np.float32(top or 1.0)
        if bool(((share > MASK_FUZZ) & (share < 1 - MASK_FUZZ)).any()):
            raise DataError(f"{self.name}: mask is not binary ({self.mask})")
        return raw, share > 0.5


@dataclass(frozen=True)
class Dataset:
    """Samples in natural order of their names (`Misc_2` before `Misc_10`).

    Attributes:
        name: Name for messages and records.
        root: The folder that holds the images' folder.
        samples: The samples.
        notes: What the user should know of them, a line each.
    """

    name: str
    root: Path
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def load_dataset(path: str | Path, split: str | None = None, *, empty_truth: bool = False) -> Dataset:
    """Finds the samples of a data set and checks every one of them.

    Args:
        path: The data set's folder, a part of it (`data/train`), or an index file (`.txt`).
        split: Part to read: a folder (`data/<split>`) or an index (`<split>.txt`, `img_idx/<split>.txt`, also
            `<split>_<folder's name>.txt`). None for everything in the folder.
        empty_truth: The frames hold no target: `path` is a folder of images without masks.

    Returns:
        The data set; each sample can be read.

    Raises:
        UsageError: The path is missing, or it is not clear which part is meant.
        DataError: No images, or samples that cannot be used; names the first few and says how many.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"no data set at {path}")
    if path.is_file():
        if path.suffix.lower() != ".txt":
            raise UsageError(f"{path} is neither a folder nor an index file (.txt)")
        if split is not None:
            raise UsageError(f"{path} is already one part of a data set: leave split {split!r} out")
        index: Path | None = path
        root = _root_of(path)
        name = f"{root.resolve().name}/{path.stem}"
    else:
        root, index = _resolve(path, split, empty_truth)
        name = "/".join(part for part in (path.resolve().name, split) if part)

    images, masks = _folders(root, empty_truth)
    image_files = _by_stem(images)
    if not image_files:
        raise DataError(f"no images in {images} (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    names = sorted(image_files, key=natural_key) if index is None else _read_index(index)
    mask_files = {} if masks is None else _by_stem(masks)

    samples: list[Sample] = []
    problems: list[str] = []
    for stem in names:
        found = image_files.get(stem, [])
        truths = [file for ending in MASK_ENDINGS for file in mask_files.get(stem + ending, [])]
        if len(found) != 1:
            problems.append(f"{stem}: no image" if not found else f"{stem}: {len(found)} images of that name")
        elif masks is not None and len(truths) != 1:
            problems.append(f"{stem}: no mask" if not truths else f"{stem}: {len(truths)} masks of that name")
        else:
            sample = Sample(stem, found[0], truths[0] if truths else None)
            try:
                sample.read()
            except DataError as error:
                problems.append(str(error))
            else:
                samples.append(sample)
    if problems:
        raise DataError(f"{len(problems)} of {len(names)} samples of {root} cannot be used: {_first(problems)}")
    # No error, since a part of the images is often taken together with all masks; but figures are of another set then.
    used = {stem + ending for stem in names for ending in MASK_ENDINGS} if index is None else mask_files.keys()
    alone = sorted(mask_files.keys() - used, key=natural_key)
    notes = (f"{len(alone)} of the {len(mask_files)} masks of {root} have no image: {_first(alone)}",) if alone else ()
    return Dataset(name, root, tuple(samples), notes)


def _resolve(path: Path, split: str | None, empty_truth: bool) -> tuple[Path, Path | None]:
    """Returns the folder that holds images and masks, and the index that narrows it, if any."""
    if split is None:
        if _layout(path) is None:
            base = path if _parts(path) else path / "data"
            parts = _parts(base)
            if parts and not empty_truth:
                raise UsageError(f"{path} has the parts {', '.join(parts)}: choose one with split")
            if parts and not any(map(is_image, path.iterdir())):
                raise UsageError(f"{path} has the parts {', '.join(parts)}: give the folder of one, {base / parts[0]}")
        return path, None
    for folder in (path / split, path / "data" / split):
        if _layout(folder) is not None or (empty_truth and folder.is_dir()):
            return folder, None
    indexes: list[Path] = []
    for stem in (split, f"{split}_{path.resolve().name}"):
        indexes += [path / f"{stem}.txt"] if (path / f"{stem}.txt").is_file() else sorted(path.glob(f"*/{stem}.txt"))
    if len(indexes) > 1:
        listed = ", ".join(str(file.relative_to(path)) for file in indexes)
        raise UsageError(f"{path} has several indexes for split {split!r} ({listed}): give the file's own path")
    if not indexes:
        known = _parts(path) + _parts(path / "data")
        known += sorted({file.stem for pattern in ("*.txt", "*/*.txt") for file in path.glob(pattern)} - set(known))
        has = f"it has {', '.join(known)}" if known else "it has no parts"
        raise UsageError(f"{path} has no split {split!r}: {has}")
    return path, indexes[0]


def _layout(root: Path) -> tuple[Path, Path] | None:
    for images, masks in LAYOUTS:
        if (root / images).is_dir() and (root / masks).is_dir():
            return root / images, root / masks
    return None


def _parts(root: Path) -> list[str]:
    """Returns the sub-folders that hold images and masks of their own."""
    if not root.is_dir():
        return []
    return sorted(folder.name for folder in root.iterdir() if folder.is_dir() and _layout(folder) is not None)


def _folders(root: Path, empty_truth: bool) -> tuple[Path, Path | None]:
    layout = _layout(root)
    if empty_truth:
        if layout is not None:
            raise UsageError(f"{root} has masks: target-free frames are a folder of images alone")
        inner = [root / images for images, _ in LAYOUTS if (root / images).is_dir()]
        return (inner[0] if inner else root), None
    if layout is None:
        raise DataError(
            f"{root} has no folders of images and masks (such as images/ and masks/); "
            "images without targets are read as target-free when asked (irdet eval --target-free)"
        )
    return layout


def _root_of(index: Path) -> Path:
    for root in (index.parent, index.resolve().parent.parent):
        if _layout(root) is not None:
            return root
    raise DataError(f"neither {index.parent} nor the folder above it has images and masks for index {index.name}")


def _read_index(index: Path) -> list[str]:
    try:
        lines = index.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{index} is not a text file") from error
    names: dict[str, None] = {}
    for line in lines:
        if name := line.strip().replace("\\", "/").rsplit("/", 1)[-1]:
            # Only a known suffix is cut off: names may hold dots.
            stem, dot, suffix = name.rpartition(".")
            names[stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name] = None
    if not names:
        raise DataError(f"{index} names no images")
    return sorted(names, key=natural_key)


def _first(lines: list[str]) -> str:
    more = f"; and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    return "; ".join(lines[:NAMED]) + more


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if is_image(file):
            files.setdefault(file.stem, []).append(file)
    return files


def _read_grey(path: Path) -> NDArray[np.generic]:
    try:
        return to_grey(read_image(path), str(path))
    except FrameError as error:
        raise DataError(f"{path.stem}: {error}") from error
