"""What a run trains and validates on: frames in memory, split by scene."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import DataError
from irdet.core.frame import Preprocessor
from irdet.data.crops import LabelledFrame
from irdet.data.protocol import resize_protocol
from irdet.data.scenes import FOLDS, folds, group_scenes, known_folds
from irdet.data.sirst import Sample, load_dataset
from irdet.data.synth.deep import make_deep_scene
from irdet.training.recipe import Recipe

#: Made scenes of 14 bits beside the frames of the data, where a recipe trains on locally mapped frames.
DEEP_SCENES = 240


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The frames of a run.

    Attributes:
        train: Frames with targets to train on.
        backgrounds: Target-free frames to train on; may be empty.
        validation: Frames with targets of other scenes.
        validation_names: Their names.
        free_validation: Target-free frames that are not trained on; may be empty.
        description: Data sets, counts, and the digest, for the model's record; JSON values.
        digest: SHA-256 over names and pixels of all frames in their order and parts.
        local: Frames mapped by their surroundings: target-free ones, and made scenes of 14 bits. Empty where the
            recipe takes no such crops. (Frames of 8 bits with targets are not among them: a target of few grey levels
            drowns in the coding noise that the mapping lifts.)
    """

    train: tuple[LabelledFrame, ...]
    backgrounds: tuple[LabelledFrame, ...]
    validation: tuple[LabelledFrame, ...]
    validation_names: tuple[str, ...]
    free_validation: tuple[LabelledFrame, ...]
    description: dict[str, object]
    digest: str
    local: tuple[LabelledFrame, ...] = ()


def load_training_data(
    data: Path,
    backgrounds: Path | None,
    recipe: Recipe,
    split: str | None = None,
    advance: Callable[..., object] | None = None,
) -> TrainingData:
    """Reads a data set and target-free frames, and sets the validation part apart.

    Frames of one sequence look alike, so whole scenes go to one side. The folds do not depend on the recipe's seed.

    Args:
        data: A SIRST-family data set (see `irdet.data.sirst.load_dataset`).
        backgrounds: A folder of target-free frames, or None.
        recipe: Says which fold is held out.
        split: Part of the data set, for instance `"train"`.
        advance: Called for each image read.

    Raises:
        DataError: The data cannot be used.
        UsageError: There are too few scenes to set some apart.
    """
    dataset = load_dataset(data, split)
    frames = [_read(sample, advance) for sample in dataset]
    names = [sample.name for sample in dataset]
    if not any(frame.mask.any() for frame in frames):
        raise DataError(f"{data} has no image with a target: nothing to learn from")
    held = [False] * len(frames) if recipe.fold == 0 else (_folds(frames, names) == recipe.fold - 1).tolist()

    free: list[LabelledFrame] = []
    if backgrounds is not None:
        free = [_read(sample, advance) for sample in load_dataset(backgrounds, empty_truth=True)]
    parts = np.array_split(np.random.default_rng([0, 7]).permutation(len(free)), FOLDS)
    kept_back = set(parts[recipe.fold - 1].tolist()) if recipe.fold else set()

    train = tuple(frame for frame, out in zip(frames, held, strict=True) if not out)
    validation = tuple(frame for frame, out in zip(frames, held, strict=True) if out)
    backgrounds_kept = tuple(frame for i, frame in enumerate(free) if i not in kept_back)
    local: tuple[LabelledFrame, ...] = ()
    if recipe.local_share > 0:
        local = (*(_localised(frame) for frame in backgrounds_kept), *_deep_frames(recipe.seed, advance))
    digest = _digest(names, frames, held, free)
    return TrainingData(
        train=train,
        backgrounds=backgrounds_kept,
        validation=validation,
        validation_names=tuple(name for name, out in zip(names, held, strict=True) if out),
        free_validation=tuple(frame for i, frame in enumerate(free) if i in kept_back),
        description={
            "data": dataset.name,
            "train_images": len(train),
            "validation_images": len(validation),
            "fold": recipe.fold,
            "target_free": str(backgrounds.name) if backgrounds is not None else None,
            "target_free_images": len(free) - len(kept_back),
            "target_free_validation_images": len(kept_back),
            "deep_scenes": DEEP_SCENES if local else 0,
            "digest": digest,
        },
        digest=digest,
        local=local,
    )


def _folds(frames: Sequence[LabelledFrame], names: Sequence[str]) -> NDArray[np.intp]:
    """Deals the scenes of a data set to folds; to fewer where there are fewer scenes."""
    if (known := known_folds(names)) is not None:
        return known
    scenes = group_scenes(
        [np.round(frame.pixels * 255).astype(np.uint8) for frame in frames], [frame.mask for frame in frames], names
    )
    return folds(scenes, min(FOLDS, max(2, len(set(scenes)))), 0, [float(frame.mask.sum()) for frame in frames])


def stretch(frame: LabelledFrame, side: int) -> LabelledFrame:
    """Returns the frame as the papers' protocol sees it: a square of `side` px."""
    pixels, mask = resize_protocol(frame.pixels, frame.mask, (side, side))
    return LabelledFrame(pixels.astype(np.float32, copy=False), mask)


def _read(sample: Sample, advance: Callable[..., object] | None) -> LabelledFrame:
    raw, mask = sample.read()
    frame = LabelledFrame(Preprocessor()(raw, source=sample.name).pixels, mask)
    if advance is not None:
        advance()
    return frame


def _localised(frame: LabelledFrame) -> LabelledFrame:
    """The frame, of 8 bits, as `--normalise local` maps it."""
    grey = np.round(frame.pixels * 255).astype(np.uint8)
    return LabelledFrame(Preprocessor(mode="local")(grey).pixels, frame.mask)


def _deep_frames(seed: int, advance: Callable[..., object] | None) -> Iterator[LabelledFrame]:
    """Made scenes of 14 bits, mapped by their surroundings."""
    for number in range(DEEP_SCENES):
        scene = make_deep_scene(seed * DEEP_SCENES + number)
        yield LabelledFrame(Preprocessor(mode="local")(scene.raw).pixels, scene.mask)
        if advance is not None:
            advance()


def _digest(
    names: Sequence[str], frames: Sequence[LabelledFrame], held: Sequence[bool], free: Sequence[LabelledFrame]
) -> str:
    digest = hashlib.sha256()
    for name, frame, out in zip(names, frames, held, strict=True):
        digest.update(f"{name} {out} {frame.mask.shape}\n".encode())
        digest.update(np.packbits(frame.mask).tobytes())
    for frame in (*frames, *free):
        digest.update(frame.pixels.tobytes())
    return digest.hexdigest()
