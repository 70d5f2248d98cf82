"""What a run trains and validates on: frames in memory, split by scene."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import DataError, IrdetError, UsageError
from irdet.core.files import cache_folder, write_text
from irdet.core.frame import Preprocessor
from irdet.core.info import ModelInfo
from irdet.data.crops import LabelledFrame, as_counts
from irdet.data.protocol import resize_protocol
from irdet.data.scenes import FOLDS, folds, group_scenes, known_folds
from irdet.data.sirst import Sample, load_dataset
from irdet.data.synth.deep import make_deep_scene
from irdet.training.recipe import Recipe

#: Number of the way in which `group_scenes` finds scenes: what another way found is not taken from the cache.
GROUPING = 1

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

    Frames of one sequence look alike, so whole scenes go to one side, of target-free frames, too. The folds do not
    depend on the recipe's seed.

    Args:
        data: A SIRST-family data set (see `irdet.data.sirst.load_dataset`).
        backgrounds: A folder of target-free frames, or None.
        recipe: Says which fold is held out.
        split: Part of the data set, for instance `"train"`.
        advance: Called for each image read.

    Raises:
        DataError: The data cannot be used.
        UsageError: There are too few scenes to set that fold apart.
    """
    dataset = load_dataset(data, split)
    frames = [_read(sample, advance) for sample in dataset]
    names = [sample.name for sample in dataset]
    if not any(frame.mask.any() for frame in frames):
        raise DataError(f"{data} has no image with a target: nothing to learn from")
    held = [False] * len(frames)
    if recipe.fold:
        parts = _folds(frames, names, advance)
        held = [] if parts is None else (parts == recipe.fold - 1).tolist()
        if not any(held) or all(held):
            there = "shows one scene" if parts is None else f"has images of folds {_listed(parts)} alone"
            raise UsageError(f"{data} {there}, so fold {recipe.fold} cannot be held out: --fold 0 trains on all")
        for what, side in (("nothing to learn from", False), ("nothing to validate on", True)):
            if not any(frame.mask.any() for frame, out in zip(frames, held, strict=True) if out == side):
                raise DataError(
                    f"{data} has {what} with fold {recipe.fold} held out, for no target lies on that side: take "
                    "another fold, or --fold 0 to train on all"
                )

    samples = [] if backgrounds is None else list(load_dataset(backgrounds, empty_truth=True))
    free = [_read(sample, advance) for sample in samples]
    kept_back = [False] * len(free)
    if recipe.fold and free:
        parts = _folds(free, [sample.name for sample in samples], advance)
        if parts is not None:
            kept_back = (parts == recipe.fold - 1).tolist()

    train = tuple(frame for frame, out in zip(frames, held, strict=True) if not out)
    validation = tuple(frame for frame, out in zip(frames, held, strict=True) if out)
    backgrounds_kept = tuple(frame for frame, out in zip(free, kept_back, strict=True) if not out)
    local: tuple[LabelledFrame, ...] = ()
    if recipe.local_share > 0:
        kept = (sample for sample, out in zip(samples, kept_back, strict=True) if not out)
        local = (*(_read(sample, advance, "local") for sample in kept), *_deep_frames(recipe.seed, advance))
    digest = _digest(names, frames, held, free, kept_back)
    return TrainingData(
        train=train,
        backgrounds=backgrounds_kept,
        validation=validation,
        validation_names=tuple(name for name, out in zip(names, held, strict=True) if out),
        free_validation=tuple(frame for frame, out in zip(free, kept_back, strict=True) if out),
        description={
            "data": dataset.name,
            "train_images": len(train),
            "validation_images": len(validation),
            "fold": recipe.fold,
            "target_free": str(backgrounds.name) if backgrounds is not None else None,
            "target_free_images": len(free) - sum(kept_back),
            "target_free_validation_images": sum(kept_back),
            "deep_scenes": DEEP_SCENES if local else 0,
            "digest": digest,
        },
        digest=digest,
        local=local,
    )


def held_out_alike(record: ModelInfo, fold: int, data: TrainingData) -> bool:
    """Tells whether a network is known to have held out what these data hold out, so that they can judge it.

    Args:
        record: The network's.
        fold: The fold that is held out.
        data: The data of the run.
    """
    return record.training.get("fold") == fold and record.training.get("digest") == data.digest


def _folds(
    frames: Sequence[LabelledFrame], names: Sequence[str], advance: Callable[..., object] | None
) -> NDArray[np.intp] | None:
    """Deals the scenes of frames to folds, to fewer where there are fewer scenes; None where there is but one."""
    if (known := known_folds(names)) is not None:
        return known
    scenes = _scenes(frames, names, advance)
    count = len(set(scenes))
    if count < 2:
        return None
    return folds(scenes, min(FOLDS, count), 0, [float(frame.mask.sum()) for frame in frames])


def _listed(parts: NDArray[np.intp]) -> str:
    return ", ".join(str(part + 1) for part in np.unique(parts))


def _scenes(
    frames: Sequence[LabelledFrame], names: Sequence[str], advance: Callable[..., object] | None
) -> tuple[int, ...]:
    """Finds the scenes of frames. All pairs are compared, minutes of work for a large set, so it is done once."""
    known = cache_folder("scenes") / f"{GROUPING}-{_digest(names, frames, [False] * len(frames), (), ())}.json"
    try:
        stored = json.loads(known.read_text(encoding="utf-8"))
        if isinstance(stored, list) and len(stored) == len(frames) and all(type(one) is int for one in stored):
            return tuple(stored)
    except (OSError, ValueError, RecursionError):
        pass  # not there, or damaged
    scenes = group_scenes(
        [np.round(frame.pixels * 255).astype(np.uint8) for frame in frames],
        [frame.mask for frame in frames],
        names,
        None if advance is None else lambda done, total: advance(0, scenes=f"of {done} of {total} frames compared"),
    )
    with contextlib.suppress(IrdetError):  # a home that cannot be written to costs the time again
        write_text(known, json.dumps(scenes))
    return scenes


def stretch(frame: LabelledFrame, side: int) -> LabelledFrame:
    """Returns the frame as the papers' protocol sees it: a square of `side` px, resized in counts as it is there."""
    counts = as_counts(frame.pixels)
    pixels, mask = resize_protocol(counts, frame.mask, (side, side))
    return LabelledFrame(pixels.astype(np.float32) / np.float32(np.iinfo(counts.dtype).max), mask)


def _read(sample: Sample, advance: Callable[..., object] | None, mode: str = "range") -> LabelledFrame:
    raw, mask = sample.read()
    frame = LabelledFrame(Preprocessor(mode=mode)(raw, source=sample.name).pixels, mask)
    if advance is not None:
        advance()
    return frame


def _deep_frames(seed: int, advance: Callable[..., object] | None) -> Iterator[LabelledFrame]:
    """Made scenes of 14 bits, mapped by their surroundings."""
    for number in range(DEEP_SCENES):
        scene = make_deep_scene(seed * DEEP_SCENES + number)
        yield LabelledFrame(Preprocessor(mode="local")(scene.raw).pixels, scene.mask)
        if advance is not None:
            advance()


def _digest(
    names: Sequence[str],
    frames: Sequence[LabelledFrame],
    held: Sequence[bool],
    free: Sequence[LabelledFrame],
    kept_back: Sequence[bool],
) -> str:
    digest = hashlib.sha256()
    for name, frame, out in zip(names, frames, held, strict=True):
        digest.update(os.fsencode(f"{name} {out} {frame.mask.shape}\n"))  # names need not be UTF-8
        digest.update(np.packbits(frame.mask).tobytes())
    for frame in (*frames, *free):
        digest.update(frame.pixels.tobytes())
    if any(kept_back):
        digest.update(bytes(kept_back))
    return digest.hexdigest()
