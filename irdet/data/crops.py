"""Training crops: a stateless sampler, so that step N is the same in a resumed run as in one that never stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.data.augment import jitter_intensity

#: Pixels around a donated target that are faded out, so that no seam can be learned.
FEATHER = 3

#: A pasted target must keep this share of its contrast; on bright ground it would be labelled but not visible.
VISIBLE = 0.5

#: How much of a crop another frame makes up at most, where frames are mixed.
MIXED = 0.3


@dataclass(frozen=True)
class Sampling:
    """How crops are drawn.

    Attributes:
        batch: Crops per step.
        crop: Side of a crop, px.
        squared_share: Crops taken from the frame stretched to a square of `square` px, as the papers' protocol
            does; the others are taken at native size.
        square: That square's side, px.
        whole_share: Steps whose crops are as large as that square and taken from it, so that they show a frame as whole
            as the protocol does; as many fewer of them as leave the work of a step. `squared_share` is of the others.
        centred_share: Crops that hold a target on purpose; the others lie anywhere.
        background_share: Crops of target-free frames, where there are any.
        mined_share: Of these, crops that instead lie around a place that the network has lately taken for a target and
            that is none, in whatever frame, where there is one.
        local_share: Crops of frames that are mapped by their surroundings, as `--normalise local` maps them.
        paste: Chance that a crop gets one to three targets of other frames pasted in, target-free crops included.
        jitter: Range of the random scale.
        skew: Largest difference of the two axes' random scales, as a power of e.
        turned_share: Crops turned by any angle, beside flips and transposition.
        mixed_share: Crops that another frame, without its targets, shines through by up to `MIXED`.
        joined_share: Crops that a straight line divides, beyond which another frame is seen, with its targets.
        exact_share: Crops on the pixel grid of the run, neither scaled by `jitter` nor moved by parts of a pixel: every
            other crop is smoothed by interpolation, and frames at run time are not.
        plain_share: Of these, crops whose intensities stay as they are, too.
        seed: Fixes every draw.
    """

    batch: int = 8
    crop: int = 256
    squared_share: float = 0.5
    square: int = 512
    whole_share: float = 0.0
    centred_share: float = 0.5
    background_share: float = 0.25
    mined_share: float = 0.5
    local_share: float = 0.0
    paste: float = 0.3
    jitter: tuple[float, float] = (0.75, 1.33)
    skew: float = 0.0
    turned_share: float = 0.0
    mixed_share: float = 0.0
    joined_share: float = 0.0
    exact_share: float = 0.0
    plain_share: float = 0.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A preprocessed frame and its truth: float32 [H, W] in [0, 1] and bool [H, W]."""

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Donor:
    """One target lifted off its background: its difference to the inpainted frame (feathered), and its mask."""

    difference: NDArray[np.float32]
    mask: NDArray[np.float32]


#: Places that were wrongly taken for targets: number of the frame, target-free frames first, then those with targets;
#: x and y as shares of its width and height, so that they hold in every form of it.
Mined = tuple[tuple[int, float, float], ...]


class CropSampler:
    """Draws batches of crops.

    Half of the crops are taken from frames stretched to the papers' square, half at native size, so that the network
    serves both; scale, flips, transposition and intensity vary. Targets are pasted into other frames, target-free
    ones included: what is a target must be told by the target, not by the scene that it usually stands in.

    Args:
        frames: Frames with targets.
        backgrounds: Target-free frames.
        sampling: Shares and sizes.
        local: Frames that are mapped by their surroundings, with and without targets.
    """

    def __init__(
        self,
        frames: Sequence[LabelledFrame],
        backgrounds: Sequence[LabelledFrame],
        sampling: Sampling,
        local: Sequence[LabelledFrame] = (),
    ) -> None:
        self.sampling = sampling
        self._local = list(local)
        self._local_centres = [_centres(frame.mask) for frame in local]
        self._frames = list(frames)
        self._backgrounds = list(backgrounds)
        self._centres = [_centres(frame.mask) for frame in frames]
        emptied = [without_targets(frame) for frame in frames]
        self._donors = [
            donor for frame, empty in zip(frames, emptied, strict=True) for donor in lift_targets(frame, empty)
        ]
        self._empty = [*backgrounds, *emptied] if sampling.mixed_share else []

    def batch(self, step: int, mined: Mined = ()) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns the crops of a step: images and masks, both float32 [N, 1, S, S] in [0, 1].

        S is `crop` and N is `batch`; of a step of whole frames S is `square`, and N what leaves the work the same.

        The frames with targets are gone through in a shuffled order, one epoch after the other.

        Args:
            step: Number of the step; with `mined` it decides every draw.
            mined: False alarms in the frames.
        """
        sampling = self.sampling
        size, count = sampling.crop, sampling.batch
        # From a generator of its own, so that recipes without such steps keep their crops.
        whole = np.random.default_rng([sampling.seed, step, 2]).random() < sampling.whole_share
        if whole:
            count = max(1, round(count * (size / sampling.square) ** 2))
            size = sampling.square
        crops = [self._draw(step * sampling.batch + i, mined, size, whole=whole) for i in range(count)]
        images, masks = zip(*crops, strict=True)
        return np.stack(images)[:, None], np.stack(masks)[:, None]

    def _draw(
        self, number: int, mined: Mined, size: int, *, whole: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        sampling = self.sampling
        rng = np.random.default_rng([sampling.seed, number])
        # Without such frames nothing is drawn, so that older recipes keep their crops.
        local = bool(self._local) and rng.random() < sampling.local_share
        free = not local and bool(self._backgrounds or mined) and rng.random() < sampling.background_share
        centres: NDArray[np.float64] = np.zeros((0, 2))
        centre = None
        if local:
            index = int(rng.integers(len(self._local)))
            frame, centres = self._local[index], self._local_centres[index]
        elif free and mined and (not self._backgrounds or rng.random() < sampling.mined_share):
            index, x, y = mined[int(rng.integers(len(mined)))]
            frame = (self._backgrounds + self._frames)[index]
            centre = np.array((x * frame.pixels.shape[1], y * frame.pixels.shape[0]))
        elif free:
            frame = self._backgrounds[rng.integers(len(self._backgrounds))]
        else:
            epoch, turn = divmod(number, len(self._frames))
            index = np.random.default_rng([sampling.seed, epoch, 1]).permutation(len(self._frames))[turn]
            frame, centres = self._frames[index], self._centres[index]

        height, width = frame.pixels.shape
        exact = sampling.exact_share > 0 and rng.random() < sampling.exact_share
        plain = exact and sampling.plain_share > 0 and rng.random() < sampling.plain_share
        sx = sy = 1.0 if exact else float(np.exp(rng.uniform(*np.log(sampling.jitter))))
        if sampling.skew > 0 and not exact:
            skew = float(np.exp(rng.uniform(-0.5, 0.5) * sampling.skew))
            sx, sy = sx * skew, sy / skew
        angle = 0.0
        if sampling.turned_share > 0 and not exact and rng.random() < sampling.turned_share:
            angle = float(rng.uniform(-np.pi / 4, np.pi / 4))  # a transposition and flips do the rest
        if whole or rng.random() < sampling.squared_share:
            sx, sy = sx * sampling.square / width, sy * sampling.square / height
        if len(centres) and rng.random() < sampling.centred_share:
            centre = centres[rng.integers(len(centres))]
        place = self._place(frame, size, sx, sy, centre, rng, exact=exact, angle=angle)
        image = _warp(frame.pixels, place, size)
        mask = _warp_mask(frame.mask, place, size)
        if sampling.joined_share > 0 and not local and not plain and rng.random() < sampling.joined_share:
            image, mask = self._join(image, mask, (sx, sy), rng, exact=exact, angle=angle)
        if self._empty and not local and not plain and rng.random() < sampling.mixed_share:
            other = self._empty[rng.integers(len(self._empty))]
            share = np.float32(rng.uniform(0, MIXED))
            place = self._place(other, size, sx, sy, None, rng, exact=False, angle=angle)
            image = (1 - share) * image + share * _warp(other.pixels, place, size)
        if self._donors and not local and rng.random() < sampling.paste:
            for _ in range(rng.integers(1, 4)):
                _paste(image, mask, self._donors[rng.integers(len(self._donors))], (sx, sy), rng)
        if rng.random() < 0.5:
            image, mask = image.T, mask.T
        flips = (slice(None, None, rng.choice((-1, 1))), slice(None, None, rng.choice((-1, 1))))
        image, mask = np.ascontiguousarray(image[flips]), np.ascontiguousarray(mask[flips])
        return image if plain else jitter_intensity(image, rng), mask

    def _join(
        self,
        image: NDArray[np.float32],
        mask: NDArray[np.float32],
        scale: tuple[float, float],
        rng: np.random.Generator,
        *,
        exact: bool,
        angle: float,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Shows another frame, in the same way, beyond a straight line through a crop."""
        sampling, size = self.sampling, len(image)
        index = int(rng.integers(len(self._frames)))
        other, centres = self._frames[index], self._centres[index]
        if self._backgrounds and rng.random() < sampling.background_share:
            other, centres = self._backgrounds[rng.integers(len(self._backgrounds))], np.zeros((0, 2))
        wanted = len(centres) > 0 and rng.random() < sampling.centred_share
        centre = centres[rng.integers(len(centres))] if wanted else None
        place = self._place(other, size, *scale, centre, rng, exact=exact, angle=angle)
        beyond = _half_plane(size, rng)
        return (
            np.where(beyond, _warp(other.pixels, place, size), image),
            np.where(beyond, _warp_mask(other.mask, place, size), mask),
        )

    def _place(
        self,
        frame: LabelledFrame,
        size: int,
        sx: float,
        sy: float,
        centre: NDArray[np.float64] | None,
        rng: np.random.Generator,
        *,
        exact: bool,
        angle: float = 0.0,
    ) -> NDArray[np.float64]:
        """Draws where a crop lies in the scaled frame: float64 [2, 3], from the crop's pixels to the frame's."""
        origin = []
        for axis, (length, scale) in enumerate(((frame.mask.shape[1], sx), (frame.mask.shape[0], sy))):
            room = length - size / scale  # negative where the whole frame fits into the crop
            if centre is None:
                origin.append(rng.uniform(min(0.0, room), max(0.0, room)))
            else:
                start = centre[axis] - rng.uniform(0.1, 0.9) * size / scale
                origin.append(float(np.clip(start, min(0.0, room), max(0.0, room))))
            if exact:
                origin[-1] = round(origin[-1] * scale) / scale
        # Destination -> source with the half-pixel rule of cv2.resize.
        matrix = np.array(
            [[1 / sx, 0, origin[0] + 0.5 / sx - 0.5], [0, 1 / sy, origin[1] + 0.5 / sy - 0.5]], np.float64
        )
        if angle:
            # Before that, about what the crop was drawn around, so that it stays in it.
            pivot = (centre - matrix[:, 2]) * (sx, sy) if centre is not None else ((size - 1) / 2,) * 2
            turn = cv2.getRotationMatrix2D(tuple(map(float, pivot)), np.degrees(angle), 1.0)
            matrix = matrix @ np.vstack([turn, (0.0, 0.0, 1.0)])
        return matrix


def _warp(pixels: NDArray[np.float32], place: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Cuts a crop out; what lies outside of the frame is reflected in, as padding does at run time."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, place, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def _warp_mask(mask: NDArray[np.bool_], place: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    return (_warp(mask.astype(np.float32), place, size) >= 0.5).astype(np.float32)


def _half_plane(size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """What lies beyond a straight line of any direction that leaves each side a good part of the square."""
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25) * size
    along = np.arange(size) - (size - 1) / 2
    return np.cos(angle) * along[None, :] + np.sin(angle) * along[:, None] > offset


def without_targets(frame: LabelledFrame) -> LabelledFrame:
    """Returns the frame with its targets inpainted (Telea 2004)."""
    counts = as_counts(frame.pixels)  # in floats Telea's method leaves [0, 1]
    empty = cv2.inpaint(counts, _grown(frame.mask), 3, cv2.INPAINT_TELEA).astype(np.float32)
    return LabelledFrame(empty / np.float32(np.iinfo(counts.dtype).max), np.zeros_like(frame.mask))


def as_counts(pixels: NDArray[np.float32]) -> NDArray[np.uint8 | np.uint16]:
    """Returns pixels of [0, 1] as counts: the very ones of a frame of 8 bits, 16 bits of a deeper one."""
    counts = np.rint(pixels * np.float32(255))
    if np.array_equal(counts.astype(np.float32) / np.float32(255), pixels):
        return counts.astype(np.uint8)
    return np.rint(pixels * np.float32(65535)).astype(np.uint16)


def lift_targets(frame: LabelledFrame, empty: LabelledFrame) -> list[Donor]:
    """Cuts every target out as its difference to the frame without its targets."""
    soft = cv2.GaussianBlur(_grown(frame.mask).astype(np.float32), (0, 0), 1.0)
    difference = (frame.pixels - empty.pixels) * soft
    count, labels, stats, _ = cv2.connectedComponentsWithStats(frame.mask.astype(np.uint8), connectivity=8)
    donors = []
    for label in range(1, count):
        left, upper, width, height = stats[label][:4]
        if min(left, upper) == 0 or left + width == labels.shape[1] or upper + height == labels.shape[0]:
            continue  # cut by the frame's edge: not a whole target
        reach = FEATHER + 2
        window = (
            slice(max(0, upper - reach), upper + height + reach),
            slice(max(0, left - reach), left + width + reach),
        )
        mine = labels[window] == label
        if (labels[window][~mine] > 0).any():
            continue  # a neighbour would come along unlabelled
        donors.append(Donor(difference[window], mine.astype(np.float32)))
    return donors


def _paste(
    image: NDArray[np.float32],
    mask: NDArray[np.float32],
    donor: Donor,
    scale: tuple[float, float],
    rng: np.random.Generator,
) -> None:
    """Adds a donated target to a crop, in place, unless it does not fit, covers a target, or would not be seen."""
    stretch = rng.uniform(0.8, 1.25)
    height, width = donor.mask.shape
    size = (max(3, round(width * scale[0] * stretch)), max(3, round(height * scale[1] * stretch)))
    turn = int(rng.integers(4))
    difference = np.rot90(cv2.resize(donor.difference, size), turn)
    body = np.rot90(cv2.resize(donor.mask, size), turn) >= 0.5
    height, width = body.shape
    if height >= image.shape[0] or width >= image.shape[1] or not body.any():
        return
    y, x = rng.integers(image.shape[0] - height), rng.integers(image.shape[1] - width)
    window = (slice(y, y + height), slice(x, x + width))
    if mask[window].any():
        return
    gain = rng.uniform(0.5, 1.5)
    pasted = np.clip(image[window] + gain * difference, 0, 1)
    gained = float((pasted - image[window])[body].mean())
    wanted = float(gain * difference[body].mean())
    noise = float(image[window].std())
    if gained < max(VISIBLE * wanted, 2 * noise, 0.03):
        return
    image[window] = pasted
    mask[window] = np.maximum(mask[window], body)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The targets and two pixels around them, which their light reaches."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))


def _centres(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the targets' centroids as [n, 2] (x, y)."""
    return cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[3][1:]
