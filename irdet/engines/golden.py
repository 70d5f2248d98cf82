"""Golden frames: frames with the probabilities that a model must give, stored beside it and replayed anywhere.

They are recorded from the network in torch when it is exported, so a replay compares whatever runs here, on this
machine and runtime, with the network itself. Reading and replaying need neither torch nor onnx.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, ModelError, UsageError
from irdet.core.files import read_arrays, replacing
from irdet.core.frame import Frame
from irdet.core.info import ModelInfo
from irdet.core.targets import Target, extract_targets
from irdet.engines import RUNTIMES
from irdet.engines.base import Engine
from irdet.engines.probe import as_batch

#: How far a probability may be off, by precision. fp32: runtimes sum in another order (1e-5) and use other
#: convolution algorithms (Winograd, up to 1e-3). fp16 and int8: golden frames of a reduced graph are recorded from
#: that graph, so what is left is what a runtime rounds between the layers. Of mlcl-edge on 62 real frames, keeping all
#: of that in float32 or rounding it to half moved a probability by 0.022 at most in FP16, and by 0.22 in INT8, where
#: it pushes values over to the next of 255 steps.
TOLERANCE = MappingProxyType({"fp32": 2e-3, "fp16": 5e-2, "int8": 0.3, "int8+fp16": 0.3})

#: Share of the target pixels that may be off by more than that in 8 bits. A value that is rounded to the other side of
#: a step moves those behind it, and at the edge of a target, where probabilities are steep, now and then by half of the
#: range: 1 to 6 of 1,300 pixels between ONNX Runtime, OpenVINO and exact rounding. A graph that is computed wrongly is
#: off by far more.
OUTLIERS = 0.02

#: A centroid is weighted by probability, so it may be off by this many px per unit of tolerance.
_CENTROID = 10.0

#: Probabilities are stored in 16 bits, to 8e-6: far below every tolerance, and small in a file.
_SCALE = 65535.0

_FORMAT = "irdet-golden-1"

#: Fields of the model's record that a file may be without.
_RECORDED = ("precision", "target", "calibration")

#: Golden frames together are no larger than this, unpacked (bytes).
_LIMIT = 1 << 28


@dataclass(frozen=True, eq=False)
class GoldenSet:
    """Frames of one size with what the network makes of them.

    Attributes:
        frames: uint8 [N, H, W].
        probability: float32 [N, H, W] in [0, 1].
    """

    frames: NDArray[np.uint8]
    probability: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Golden:
    """Golden frames of one model.

    Attributes:
        weights_sha256: Digest of the weights that they were recorded with.
        threshold: Threshold of the model that they were recorded for.
        sets: One per size.
        precision: That model's precision, as in its record; None in files of versions that did not store it.
        target: What it was quantised for, as in its record.
        calibration: Digest of its calibration, as in its record.
    """

    weights_sha256: str
    threshold: float
    sets: tuple[GoldenSet, ...]
    precision: str | None = None
    target: str | None = None
    calibration: str | None = None

    def misfit(self, info: ModelInfo) -> str:
        """Says in words why they are not those of a model; "" where they are.

        FP16 may be held against fp32: TensorRT 8.6 builds it from the fp32 file, and its tolerance covers both.
        """
        if self.weights_sha256 != info.weights_sha256:
            return "the golden frames were recorded with other weights; export the model again"
        if abs(self.threshold - info.threshold) > 1e-9:
            return (
                f"the golden frames were recorded for threshold {self.threshold:g}, "
                f"but the model has {info.threshold:g}; verify the exported model"
            )
        if self.precision is None or (self.precision, info.precision) == ("fp32", "fp16"):
            return ""
        if (self.precision, self.target) != (info.precision, info.target):
            mine, other = (f"{one.precision}{f' for {one.target}' * bool(one.target)}" for one in (self, info))
            return f"the golden frames are those of {mine}, but the model is {other}; copy its own beside it"
        if self.calibration != info.calibration:
            return "the golden frames were recorded with another calibration; copy the model's own beside it"
        return ""


@dataclass(frozen=True)
class Comparison:
    """How the probabilities of one model compare with another's.

    Attributes:
        frames: Frames compared.
        targets: Targets that the reference finds in them.
        max_difference: Largest difference of a probability.
        tolerance: What it may be.
        mismatch: In words, the first target that differs; "" when the lists are the same.
        outliers: Pixels that are off by more than the tolerance.
        allowed: How many may be.
        left_out: Frames that were not compared, since the model takes none of their size.
    """

    frames: int
    targets: int
    max_difference: float
    tolerance: float
    mismatch: str = ""
    outliers: int = 0
    allowed: int = 0
    left_out: int = 0

    @property
    def passed(self) -> bool:
        """The probabilities agree and the targets are the same."""
        return self.outliers <= self.allowed and not self.mismatch

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            self.frames + other.frames,
            self.targets + other.targets,
            max(self.max_difference, other.max_difference),
            min(self.tolerance, other.tolerance),
            self.mismatch or other.mismatch,
            self.outliers + other.outliers,
            self.allowed + other.allowed,
            self.left_out + other.left_out,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values, with `passed`."""
        return {**asdict(self), "passed": self.passed}


def golden_path(model: str | os.PathLike[str]) -> Path:
    """Returns where a model's golden frames lie: `edge.onnx` -> `edge.golden.npz` beside it."""
    return Path(model).with_suffix(".golden.npz")


def compare(
    frames: NDArray[np.uint8],
    reference: NDArray[np.float32],
    probability: NDArray[np.float32],
    *,
    threshold: float,
    tolerance: float,
    outliers: float = 0.0,
) -> Comparison:
    """Compares probabilities, and the targets that follow from them.

    A pixel whose reference is within the tolerance of the threshold may fall on either side of it. So may one that is
    off by more than the tolerance, as long as there are no more of these than may be.

    Args:
        frames: uint8 [N, H, W].
        reference: float32 [N, H, W], what they should be.
        probability: float32 [N, H, W], what they are.
        threshold: From which probability on a pixel belongs to a target.
        tolerance: How far a probability may be off.
        outliers: How many pixels may be off by more, as a share of the reference's target pixels.
    """
    found = 0
    mismatch = ""
    off = np.abs(reference.astype(np.float64) - probability)
    beyond, allowed = int((off > tolerance).sum()), int(outliers * (reference >= threshold).sum())
    forgiven = off > tolerance if beyond <= allowed else np.zeros(off.shape, np.bool_)
    for index, (frame, wanted, given, spared) in enumerate(zip(frames, reference, probability, forgiven, strict=True)):
        plain = Frame(as_batch(frame[None])[0, 0], index=index)
        expected = extract_targets(wanted, plain, threshold)
        found += len(expected)
        settled = np.where(spared | (np.abs(wanted - threshold) <= tolerance), wanted, given)
        mismatch = mismatch or _mismatch(expected, extract_targets(settled, plain, threshold), _CENTROID * tolerance)
    return Comparison(len(frames), found, float(off.max(initial=0.0)), tolerance, mismatch, beyond, allowed)


def outliers_of(precision: str) -> float:
    """Returns the share of target pixels that may be off by more than the tolerance."""
    return OUTLIERS if "int8" in precision else 0.0


def replay(engine: Engine, golden: Golden) -> Comparison:
    """Runs golden frames on an engine and compares.

    A TensorRT engine of free size takes the sizes of its profile alone; frames of other sizes are left out.

    Raises:
        ModelError: The golden frames are of another model.
        UsageError: The engine takes none of them.
    """
    if said := golden.misfit(engine.info):
        raise ModelError(said)
    tolerance = TOLERANCE[engine.info.precision]
    total = Comparison(0, 0, 0.0, tolerance)
    for item in golden.sets:
        try:
            given = np.concatenate([engine.run(as_batch(frame[None]))[:, 0] for frame in item.frames])
        except UsageError as error:
            refusal, total = error, total + Comparison(0, 0, 0.0, tolerance, left_out=len(item.frames))
            continue
        total += compare(
            item.frames,
            item.probability,
            given,
            threshold=golden.threshold,
            tolerance=tolerance,
            outliers=outliers_of(engine.info.precision),
        )
    if not total.frames:
        raise refusal
    return total


def write_golden(path: str | os.PathLike[str], golden: Golden) -> None:
    """Writes golden frames (a compressed .npz) in one step."""
    arrays: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "weights_sha256": np.array(golden.weights_sha256),
        "threshold": np.array(golden.threshold),
        # None is left out, as NumPy would pickle it.
        **{name: np.array(value) for name in _RECORDED if (value := getattr(golden, name)) is not None},
    }
    for index, item in enumerate(golden.sets):
        arrays[f"frames_{index}"] = item.frames
        arrays[f"probability_{index}"] = np.rint(item.probability * _SCALE).astype(np.uint16)
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_golden(path: str | os.PathLike[str]) -> Golden:
    """Reads golden frames. Nothing in the file is executed.

    Raises:
        ModelError: No such file, or it holds no golden frames.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"no golden frames at {path}; irdet export writes them beside the model: copy both")
    try:
        data = read_arrays(path, _LIMIT)
        if str(data["format"]) != _FORMAT:
            raise ModelError(f"{path} holds {data['format']}, not {_FORMAT}")
        count = sum(name.startswith("frames_") for name in data)
        sets = tuple(_set(data[f"frames_{i}"], data[f"probability_{i}"]) for i in range(count))
        if not sets:
            raise ValueError("no frames")
        recorded = {name: str(data[name]) for name in _RECORDED if name in data}
        return Golden(str(data["weights_sha256"]), float(data["threshold"]), sets, **recorded)
    except (ValueError, KeyError, OSError, TypeError, OverflowError) as error:
        raise ModelError(f"{path} holds no golden frames, or it is damaged") from error


def _known_to_fit(path: Path, info: ModelInfo) -> bool:
    try:
        golden = read_golden(path)
    except ModelError:
        return False
    return golden.precision is not None and not golden.misfit(info)


def pass_on(model: Path, built: Path, info: ModelInfo, replaced: bool) -> str:
    """Copies a model's golden frames beside an engine that was built from it, under the engine's name.

    Args:
        model: The model that was exported.
        built: The engine.
        info: The record of that.
        replaced: Whether it took the place of an older one, to which the golden frames of that name then belonged.

    Returns:
        Why they are not there, in a line for the user; "" where they are.
    """
    source, target = golden_path(model), golden_path(built)
    if source.resolve() == target.resolve():
        return ""
    if target.exists():
        names = {one.name: one.suffix.lower() for one in target.parent.iterdir() if one.stem == built.stem}
        owner = min((name for name in names if names[name] in RUNTIMES and name != built.name), default=None)
        if owner or not replaced:
            if _known_to_fit(target, info):
                return ""
            return (
                f"{target} belongs to {owner or 'another model'}: name the engine otherwise, "
                "so that irdet verify finds golden frames of its own"
            )
    if not source.is_file():
        return f"no golden frames at {source} to copy beside {built}, so irdet verify cannot check it"
    try:
        with replacing(target) as temporary:
            temporary.write_bytes(source.read_bytes())
    except (IrdetError, OSError) as error:
        return f"the golden frames are not copied, so irdet verify cannot check {built}: {error}"
    return ""


def _set(frames: NDArray[Any], probability: NDArray[Any]) -> GoldenSet:
    if frames.dtype != np.uint8 or probability.dtype != np.uint16 or frames.ndim != 3:
        raise ValueError("not frames and probabilities")
    if frames.shape != probability.shape or not frames.size:
        raise ValueError("frames and probabilities do not fit")
    return GoldenSet(frames, (probability / _SCALE).astype(np.float32))


def _mismatch(expected: tuple[Target, ...], found: tuple[Target, ...], reach: float) -> str:
    """Says in words where two lists of targets differ; "" when they do not.

    They are compared in the order of their boxes: by score, two that are equally sure may change places.
    """
    where = f"frame {(expected or found)[0].frame}" if expected or found else ""
    if len(expected) != len(found):
        return f"{where}: {len(expected)} targets expected, {len(found)} found"
    for one, other in zip(*(sorted(t, key=lambda t: (t.bbox, t.area)) for t in (expected, found)), strict=True):
        spot = f"{where}, target at ({one.x:.1f}, {one.y:.1f})"
        if one.bbox != other.bbox:
            return f"{spot}: box {one.bbox} expected, {other.bbox} found"
        if one.area != other.area:
            return f"{spot}: {one.area} px expected, {other.area} found"
        if max(abs(one.x - other.x), abs(one.y - other.y)) > reach:
            return f"{spot}: found at ({other.x:.4f}, {other.y:.4f})"
    return ""
