"""Which images show the same scene, and parts of a data set that keep every scene whole.

Benchmarks cut single frames out of sequences: a validation part drawn image by image holds near copies of training
images, and flatters. So scenes are found first, and parts are made of whole scenes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from irdet.core.errors import UsageError

#: The targets' masks grow by this before they are painted over, px.
TARGET_MARGIN = 3

#: Registration works on images reduced so many times.
REDUCTION = 2

#: Band that is compared: between Gaussians of these standard deviations, px of the reduced image.
FINE, COARSE = 0.8, 6.0

#: Two images must share this part of the smaller one.
OVERLAP = 0.25

#: Correlation over the overlap that links any two images, and images with neighbouring numbers.
ALIKE, ALIKE_NEIGHBOURS = 0.8, 0.5

#: At `SLIDE` px (of the reduced image) beside the peak, correlation must have fallen to these parts of it.
#: A horizon or a mast fits every other one as well after sliding along it: that is no evidence.
DISTINCT, DISTINCT_NEIGHBOURS = 0.8, 0.7
SLIDE = 6

#: Numbers so close are neighbours (one between them may be missing: it is in another part of the data set).
NEIGHBOURS = 2

#: Numbers so close are also compared at other magnifications: collectors resize what they cut out.
SEQUENCE = 5
MAGNIFICATIONS = (0.62, 0.7, 0.78, 0.85, 0.92)

#: Neighbours of flat sky: high-pass deviation below `FLAT` grey levels in both and within a factor `FLAT_RATIO`,
#: sizes within a factor `FLAT_SIZE`, median levels within `FLAT_LEVEL`.
FLAT, FLAT_RATIO, FLAT_SIZE, FLAT_LEVEL = 1.3, 1.4, 1.4, 10.0

#: So many peaks of the phase correlation are looked at, a peak being `PEAK_RADIUS` px wide.
PEAKS = 3
PEAK_RADIUS = 3

#: Parts that a data set is dealt to; one of them is held out.
FOLDS = 5

#: Seeded shuffles among which the one with the best balance is chosen.
SHUFFLES = 256


@dataclass(frozen=True)
class _View:
    """One background, high-passed.

    Attributes:
        pixels: float32 [h, w].
        spectrum: float32 [H, W], half-whitened, on the common canvas, packed as `cv2.dft` packs it.
    """

    pixels: NDArray[np.float32]
    spectrum: NDArray[np.float32]


@dataclass(frozen=True)
class _Fit:
    """Best registration of two views.

    Attributes:
        correlation: Normalised cross correlation over the overlap; -1 where no overlap is large enough.
        beside: Largest correlation `SLIDE` px beside the peak.
    """

    correlation: float
    beside: float

    def distinct(self, limit: float) -> bool:
        return self.beside <= limit * self.correlation


def group_scenes(
    images: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[np.bool_]],
    names: Sequence[str],
    progress: Callable[[int, int], object] | None = None,
) -> tuple[int, ...]:
    """Finds the images that show the same scene.

    The targets are painted over (Telea's inpainting), so that they cannot speak for a scene. What is left is halved
    in size and band-passed. Every pair is registered by phase correlation (Kuglin and Hines, 1975; spectra whitened by
    the root of their magnitude, the highest peaks tried), and linked where

    - the images share at least 25 % of the smaller one and correlate there at 0.8 or more, and the correlation falls
      off on all sides of the peak (else it rests on one straight edge, a horizon say);
    - their names end in numbers at most 2 apart, and either they correlate at 0.8 or more, edge or not, or at 0.5
      or more with a peak that stands out;
    - the numbers are at most 5 apart and the first rule holds at another magnification, 0.62 to 1.6;
    - the numbers are at most 2 apart and both show flat sky alike in size, level and noise.

    Scenes are the connected components. Clear skies that are far apart in number stay apart. Images far
    apart in number that were also resized are not found: looking at every pair at every magnification takes ten times
    as long.

    Args:
        images: uint8 [H, W] each, sizes may differ.
        masks: bool [H, W] each, the targets.
        names: Names; a number at the end is the place in the sequence.
        progress: Called with the images done and their number.

    Returns:
        The scene of each image; numbered from 0 in order of first appearance.

    Raises:
        UsageError: The numbers of images, masks and names differ.
    """
    if not len(images) == len(masks) == len(names):
        raise UsageError(f"{len(images)} images, {len(masks)} masks, {len(names)} names: one of each per image")
    if not images:
        return ()
    backgrounds = [_paint_over(image, mask) for image, mask in zip(images, masks, strict=True)]
    canvas = (
        cv2.getOptimalDFTSize(-(-max(image.shape[0] for image in images) // REDUCTION)),
        cv2.getOptimalDFTSize(-(-max(image.shape[1] for image in images) // REDUCTION)),
    )
    views = [_view(background, 1.0, canvas) for background in backgrounds]
    smaller = _smaller_views(backgrounds, canvas)
    levels = [float(np.median(background)) for background in backgrounds]
    places = [_place(name) for name in names]

    parents = list(range(len(names)))
    for first in range(len(names)):
        for second in range(first + 1, len(names)):
            apart = _apart(places[first], places[second])
            linked = _linked(views[first], views[second], apart <= NEIGHBOURS)
            if not linked and apart <= NEIGHBOURS:
                linked = _flat(views[first], views[second]) and abs(levels[first] - levels[second]) <= FLAT_LEVEL
            if not linked and apart <= SEQUENCE:
                linked = any(_linked(view, views[second], False) for view in smaller(first)) or any(
                    _linked(views[first], view, False) for view in smaller(second)
                )
            if linked:
                parents[_root(parents, second)] = _root(parents, first)
        if progress is not None:
            progress(first + 1, len(names))
    return _numbered(_root(parents, index) for index in range(len(names)))


def known_scenes(names: Sequence[str]) -> tuple[int, ...] | None:
    """Returns the scenes of images of SIRST as found once and looked at, numbered from 0 in order of appearance.

    Args:
        names: Names without suffix (`Misc_1`).

    Returns:
        The scene of each image; None if a name is not of that list.
    """
    known = _sirst()
    if not names or any(name not in known for name in names):
        return None
    return _numbered(known[name][0] for name in names)


def known_folds(names: Sequence[str]) -> NDArray[np.intp] | None:
    """Returns the folds of images of SIRST, 0 to `FOLDS` - 1, as every recipe uses them; None if a name is not known.

    They are written down, not drawn, so that what one run has trained on is never what a later one is measured on.
    """
    known = _sirst()
    if not names or any(name not in known for name in names):
        return None
    return np.array([known[name][1] - 1 for name in names], np.intp)


def folds(scenes: Sequence[int], count: int, seed: int, areas: ArrayLike) -> NDArray[np.intp]:
    """Deals whole scenes to folds of about equal size.

    Of `SHUFFLES` seeded shuffles the one is taken in which the folds are most alike in target area.

    Args:
        scenes: The scene of each image.
        count: Number of folds, at least 2.
        seed: Same seed, same folds.
        areas: Target pixels in each image.

    Returns:
        intp [N], the fold of each image, 0 to `count` - 1; none is empty.

    Raises:
        UsageError: Fewer than two folds, fewer scenes than folds, or lengths that differ.
    """
    if count < 2:
        raise UsageError(f"{count} folds: must be at least 2")
    members, logs = _members(scenes, areas, count)

    def deal(order: NDArray[np.intp]) -> NDArray[np.intp]:
        fold = np.zeros(len(logs), np.intp)
        sizes = [0] * count
        # The largest first, the single images level the folds at the end.
        for scene in sorted(order, key=lambda scene: -len(members[scene])):
            smallest = sizes.index(min(sizes))
            fold[members[scene]] = smallest
            sizes[smallest] += len(members[scene])
        return fold

    return _most_alike(deal, len(members), logs, seed)


def _paint_over(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    if not mask.any():
        return image
    kernel = np.ones((2 * TARGET_MARGIN + 1, 2 * TARGET_MARGIN + 1), np.uint8)
    grown = cv2.dilate(mask.astype(np.uint8), kernel)
    return cv2.inpaint(image, grown, 5, cv2.INPAINT_TELEA).astype(np.uint8)


def _view(background: NDArray[np.uint8], magnification: float, canvas: tuple[int, int]) -> _View:
    factor = magnification / REDUCTION
    size = (max(1, int(background.shape[1] * factor)), max(1, int(background.shape[0] * factor)))
    reduced = cv2.resize(background.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    band = cv2.GaussianBlur(reduced, (0, 0), FINE) - cv2.GaussianBlur(reduced, (0, 0), COARSE)
    sheet = np.zeros(canvas, np.float32)
    # No taper towards the borders: small overlaps lie there.
    sheet[: size[1], : size[0]] = band - band.mean()
    # The phase correlation's divisor |A B*| is a product too: dividing each spectrum once spares it for every pair.
    spectrum = np.fft.rfft2(sheet)
    magnitude = np.abs(spectrum)
    spectrum /= np.sqrt(magnitude + 1e-6 * magnitude.max() + 1e-12)
    whitened = np.fft.irfft2(spectrum, canvas).astype(np.float32)
    return _View(band.astype(np.float32), np.asarray(cv2.dft(whitened), np.float32))


def _smaller_views(
    backgrounds: Sequence[NDArray[np.uint8]], canvas: tuple[int, int]
) -> Callable[[int], tuple[_View, ...]]:
    """Returns a look-up of an image's views at the smaller magnifications, made when first asked for."""

    @cache
    def smaller(index: int) -> tuple[_View, ...]:
        return tuple(_view(backgrounds[index], magnification, canvas) for magnification in MAGNIFICATIONS)

    return smaller


def _linked(first: _View, second: _View, neighbours: bool) -> bool:
    fit = _register(first, second)
    if fit.correlation >= ALIKE:
        return neighbours or fit.distinct(DISTINCT)
    return neighbours and fit.correlation >= ALIKE_NEIGHBOURS and fit.distinct(DISTINCT_NEIGHBOURS)


def _register(first: _View, second: _View) -> _Fit:
    surface = cv2.idft(
        cv2.mulSpectrums(first.spectrum, second.spectrum, 0, conjB=True), flags=cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT
    )
    best = _Fit(-1.0, -1.0)
    for down, right in _shifts(surface):
        overlap = _overlap(first.pixels, second.pixels, down, right)
        if overlap is None:
            continue
        here, there = overlap
        # Cheap at the very shift; the walk around it only where that promises something.
        if float(cv2.matchTemplate(here, there, cv2.TM_CCOEFF_NORMED)[0, 0]) < ALIKE_NEIGHBOURS - 0.1:
            continue
        around = cv2.matchTemplate(here, there[SLIDE:-SLIDE, SLIDE:-SLIDE], cv2.TM_CCOEFF_NORMED)
        peak = float(around[SLIDE - 1 : SLIDE + 2, SLIDE - 1 : SLIDE + 2].max())
        around[1:-1, 1:-1] = -1
        if peak > best.correlation:
            best = _Fit(peak, float(around.max()))
    return best


def _shifts(surface: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Yields the shifts (down, right) at the highest peaks; a peak stands for a shift either way round the canvas."""
    height, width = surface.shape
    for _ in range(PEAKS):
        x, y = cv2.minMaxLoc(surface)[3]
        yield from ((down, right) for down in (y, y - height) for right in (x, x - width))
        surface[max(0, y - PEAK_RADIUS) : y + PEAK_RADIUS + 1, max(0, x - PEAK_RADIUS) : x + PEAK_RADIUS + 1] = -np.inf


def _overlap(
    first: NDArray[np.float32], second: NDArray[np.float32], down: int, right: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Returns what both show when the second lies shifted on the first; None where that is too little."""
    top, bottom = max(0, down), min(first.shape[0], second.shape[0] + down)
    left, end = max(0, right), min(first.shape[1], second.shape[1] + right)
    if min(bottom - top, end - left) < 3 * SLIDE:
        return None
    if (bottom - top) * (end - left) < OVERLAP * min(first.size, second.size):
        return None
    return first[top:bottom, left:end], second[top - down : bottom - down, left - right : end - right]


def _flat(first: _View, second: _View) -> bool:
    low, high = sorted((float(first.pixels.std()), float(second.pixels.std())))
    small, large = sorted((first.pixels.size, second.pixels.size))
    return high < FLAT and high <= FLAT_RATIO * low and large <= FLAT_SIZE * small


def _place(name: str) -> tuple[str, int] | None:
    """Returns what stands before the number at the end of a name, and the number."""
    match = re.fullmatch(r"(.*?)(\d+)", name)
    return (match[1], int(match[2])) if match else None


def _apart(first: tuple[str, int] | None, second: tuple[str, int] | None) -> float:
    if first is None or second is None or first[0] != second[0]:
        return float("inf")
    return abs(first[1] - second[1])


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def _numbered(keys: Iterator[int]) -> tuple[int, ...]:
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(key, len(numbers)) for key in keys)


@cache
def _sirst() -> dict[str, tuple[int, int]]:
    listed = json.loads(Path(__file__).with_name("sirst_scenes.json").read_text(encoding="utf-8"))
    return {name: (scene, fold) for name, (scene, fold) in listed["scenes"].items()}


def _members(
    scenes: Sequence[int], areas: ArrayLike, needed: int
) -> tuple[list[NDArray[np.intp]], NDArray[np.float64]]:
    """Returns the images of each scene, and the log of each image's area, after checking both."""
    logs = np.log1p(np.asarray(areas, np.float64))
    if logs.shape != (len(scenes),):
        raise UsageError(f"{len(scenes)} scenes, areas of shape {list(logs.shape)}: one of each per image")
    labels = np.asarray(scenes)
    members = [np.flatnonzero(labels == scene) for scene in np.unique(labels)]
    if len(members) < needed:
        raise UsageError(f"{len(members)} scenes cannot be parted into {needed} parts of whole scenes")
    return members, logs


def _most_alike(
    part: Callable[[NDArray[np.intp]], NDArray[np.intp]], scenes: int, logs: NDArray[np.float64], seed: int
) -> NDArray[np.intp]:
    """Returns the parting, among those of seeded shuffles, whose parts differ least in mean and spread of area."""
    random = np.random.default_rng(seed)

    def difference(parts: NDArray[np.intp]) -> float:
        groups = [logs[parts == label] for label in np.unique(parts)]
        return float(np.ptp([group.mean() for group in groups]) + np.ptp([group.std() for group in groups]))

    return min((part(random.permutation(scenes)) for _ in range(SHUFFLES)), key=difference)
