"""Calibration: real frames, the range of every tensor on them, and a cache that other weights never meet."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import DataError, FrameError, IrdetError
from irdet.core.extras import require
from irdet.core.files import cache_folder, write_text
from irdet.core.frame import Preprocessor, pad_to_multiple
from irdet.core.images import read_image
from irdet.data.scenes import known_folds
from irdet.data.sirst import LAYOUTS, Dataset, Sample, load_dataset

#: Fewer frames say nothing about the range of what a network will meet.
LEAST = 8

#: Frames that the sensitivity of layers is measured on, at most.
SENSITIVITY = 16

#: Where the names tell nothing of scenes, the last of so many equal blocks of the folder is held out: neighbours in
#: name are often neighbours in time.
BLOCKS = 4

#: A pixel is coloured when its channels differ by this share of the image's range, an image when so many pixels are.
_COLOUR, _COLOURED = 0.1, 0.05

#: Changes when cached ranges of the same key would mean something else.
_FORMAT = "irdet-ranges-1"

Progress = Callable[[], object]


@dataclass(frozen=True)
class Range:
    """What a tensor's values were.

    Attributes:
        low: Smallest value.
        high: Largest value.
    """

    low: float
    high: float

    @property
    def peak(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Parts:
    """Frames for three purposes; no image serves two of them.

    Attributes:
        calibration: Ranges are taken on these.
        sensitivity: Labelled; layers are compared on these.
        gate: Labelled; the result is judged on these.
        warnings: What the user should know about the frames; lines.
    """

    calibration: tuple[Sample, ...]
    sensitivity: tuple[Sample, ...]
    gate: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """The ranges of a graph on a set of frames.

    Attributes:
        ranges: Tensor's name -> its range.
        digest: SHA-256 over the graph, its weights, the frames and the settings: the key of the cache.
        frames: Number of frames.
        cached: They were read from the cache.
    """

    ranges: Mapping[str, Range]
    digest: str
    frames: int
    cached: bool


def deal(calib: Path, count: int, data: Path | None = None) -> Parts:
    """Chooses the frames to calibrate, compare layers and judge on.

    The gate's frames are those of `data`, or else a part of `calib` that no other frame shares a scene with, as far
    as names tell: of SIRST the fold that every recipe holds out. Calibration takes frames with targets where masks
    tell which have them, since what a network computes on targets is what must not be clipped.

    Args:
        calib: A folder of images, or a data set with masks.
        count: Frames to calibrate on; fewer where there are not so many.
        data: A labelled data set to judge on.

    Raises:
        DataError: Too few frames, frames that cannot be read, or none that are labelled.
        UsageError: No such folder.
    """
    pool = _read(calib)
    labelled = _is_labelled(calib)
    if len(pool) < LEAST:
        raise DataError(
            f"{calib} holds {len(pool)} image{'s' * (len(pool) != 1)}; at least {LEAST} are needed to know "
            "the range of values"
        )
    if data is not None:
        gate = load_dataset(data).samples
        judged = {_fingerprint(sample) for sample in gate}
        rest = tuple(sample for sample in pool if _fingerprint(sample) not in judged)
    elif labelled:
        gate, rest = _held_out(pool.samples)
    else:
        raise DataError(f"{calib} has no masks to measure accuracy on: give labelled frames with --data DIR")
    if labelled:
        rest = tuple(sample for sample in rest if _has_target(sample))
        sensitivity = _spread(rest, min(SENSITIVITY, len(rest) // 3))
    else:
        sensitivity = _spread(tuple(sample for sample in gate if _has_target(sample)), min(SENSITIVITY, len(gate) // 3))
        gate = _without(gate, sensitivity)
    calibration = _spread(_without(rest, sensitivity), count)
    for what, part in (("calibrate on", calibration), ("measure the accuracy on", gate)):
        if len(part) < LEAST:
            raise DataError(
                f"{len(part)} frames are left to {what}, out of {len(pool)} in {calib}"
                f"{f' and those of {data}' if data else ''}; at least {LEAST} are needed, each for one purpose: "
                f"some {4 * LEAST} labelled frames in all, or others with --data DIR"
            )
    if not any(_has_target(sample) for sample in gate):
        raise DataError(f"no frame of {data or calib} that would be judged on holds a target")
    warnings = _colour_warning(calibration)
    if len(calibration) < count:
        warnings += (f"looking at {len(calibration)} frames, not at {count}, for there are no more",)
    return Parts(calibration, sensitivity, gate, warnings)


def prepared(
    samples: Iterable[Sample], stride: int, preprocessor: Preprocessor, polarity: str = "white-hot"
) -> list[NDArray[np.float32]]:
    """Returns frames as the network gets them: the one preprocessing, the polarity, then padding.

    Args:
        samples: The frames, which have nothing to do with one another.
        stride: Sides become multiples of it.
        preprocessor: Maps counts to grey.
        polarity: `"black-hot"` where targets are dark.

    Returns:
        Arrays float32 [1, 1, H, W] in [0, 1].
    """
    frames = []
    for sample in samples:
        preprocessor.begin()
        pixels = preprocessor(sample.read()[0], source=sample.name).pixels
        pixels = np.float32(1) - pixels if polarity == "black-hot" else pixels
        frames.append(pad_to_multiple(pixels, stride)[None, None])
    return frames


def calibrate(
    graph: Any,
    frames: Sequence[NDArray[np.float32]],
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Measures the range of every tensor, or reads it from the cache.

    Args:
        graph: An ONNX model (`onnx.ModelProto`) whose input takes any size.
        frames: float32 [1, 1, H, W] each.
        cache: Folder of the cache; `cache_folder("calibration")` where None.
        progress: Called after every frame.

    Raises:
        IrdetError: A tensor was not finite.
    """
    digest = _key(graph, frames)
    file = (cache_folder("calibration") if cache is None else cache) / f"{digest}.json"
    if (ranges := _cached(file, set(float_tensors(graph)))) is not None:
        return Calibration(ranges, digest, len(frames), cached=True)
    ranges = observe(graph, frames, progress)
    with contextlib.suppress(IrdetError):  # a cache that cannot be written costs time at the next export, no more
        write_text(file, json.dumps({"format": _FORMAT, "ranges": {n: [r.low, r.high] for n, r in ranges.items()}}))
    return Calibration(ranges, digest, len(frames), cached=False)


def observe(graph: Any, frames: Iterable[NDArray[np.float32]], progress: Progress | None = None) -> dict[str, Range]:
    """Runs a graph on the CPU and returns the range of each of its float tensors, input and output too.

    Minimum and maximum are taken inside the graph, so that no tensor needs to leave it.

    Args:
        graph: An fp32 ONNX model.
        frames: float32 [1, 1, H, W] each.
        progress: Called after every frame.

    Raises:
        IrdetError: A tensor held a value that is not finite.
    """
    onnx = require("onnx", "export", "calibrating")
    ort = require("onnxruntime", "cpu", "calibrating")
    names = float_tensors(graph)
    probe = onnx.ModelProto()
    probe.CopyFrom(graph)
    del probe.graph.output[:]
    for index, name in enumerate(names):
        for kind in ("Min", "Max"):
            out = f"irdet_{kind}_{index}"
            probe.graph.node.append(onnx.helper.make_node(f"Reduce{kind}", [name], [out], keepdims=0))
            probe.graph.output.append(onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, []))
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what is wrong is said in our own line
    session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    lows, highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for frame in frames:
        values = np.array(session.run(None, {graph.graph.input[0].name: frame}))
        lows, highs = np.minimum(lows, values[::2]), np.maximum(highs, values[1::2])
        if progress is not None:
            progress()
    ranges = {name: Range(float(low), float(high)) for name, low, high in zip(names, lows, highs, strict=True)}
    if broken := [name for name, found in ranges.items() if not math.isfinite(found.peak)]:
        raise IrdetError(f"the fp32 network itself gives values that are not finite, first in {broken[0]}")
    return ranges


def float_tensors(graph: Any) -> list[str]:
    """Returns the names of the float32 tensors that nodes compute, in order, after those of the inputs."""
    onnx = require("onnx", "export", "calibrating")
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    kinds = {
        info.name: info.type.tensor_type.elem_type for info in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    computed = [out for node in graph.graph.node if node.op_type != "Constant" for out in node.output]
    names = [info.name for info in graph.graph.input] + computed
    return [name for name in names if kinds.get(name) == onnx.TensorProto.FLOAT]


def _read(calib: Path) -> Dataset:
    return load_dataset(calib, empty_truth=not _is_labelled(calib))


def _is_labelled(folder: Path) -> bool:
    return folder.is_file() or any((folder / i).is_dir() and (folder / m).is_dir() for i, m in LAYOUTS)


def _held_out(samples: tuple[Sample, ...]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Returns the samples to judge on, and the others."""
    folds = known_folds([sample.name for sample in samples])
    if folds is None or not 0 < np.count_nonzero(folds == 0) < len(samples):
        folds = np.arange(len(samples))[::-1] * BLOCKS // len(samples)
    return (
        tuple(sample for sample, fold in zip(samples, folds, strict=True) if fold == 0),
        tuple(sample for sample, fold in zip(samples, folds, strict=True) if fold != 0),
    )


def _has_target(sample: Sample) -> bool:
    return sample.mask is not None and bool(sample.read()[1].any())


def _spread(samples: tuple[Sample, ...], count: int) -> tuple[Sample, ...]:
    """Returns that many samples, evenly spread; all where there are fewer."""
    if len(samples) <= count:
        return samples
    return tuple(samples[index * len(samples) // count] for index in range(count))


def _without(samples: tuple[Sample, ...], taken: tuple[Sample, ...]) -> tuple[Sample, ...]:
    used = {sample.image for sample in taken}
    return tuple(sample for sample in samples if sample.image not in used)


def _fingerprint(sample: Sample) -> str:
    raw = sample.read()[0]
    return hashlib.sha256(f"{raw.shape} {raw.dtype}".encode() + np.ascontiguousarray(raw).tobytes()).hexdigest()


def _colour_warning(samples: tuple[Sample, ...]) -> tuple[str, ...]:
    coloured = [sample for sample in samples if _coloured(sample.image)]
    if not coloured:
        return ()
    return (
        f"{len(coloured)} of {len(samples)} calibration images are in colour (first {coloured[0].image}): "
        "ranges taken on anything but grey infrared frames fit no infrared sensor",
    )


def _coloured(path: Path) -> bool:
    try:
        pixels = read_image(path)
    except FrameError as error:
        raise DataError(str(error)) from error
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        return False
    channels = pixels[:, :, :3].astype(np.float32)
    apart = channels.max(axis=2) - channels.min(axis=2)
    return bool(np.mean(apart > _COLOUR * max(float(np.ptp(channels)), 1e-9)) > _COLOURED)


def _key(graph: Any, frames: Sequence[NDArray[np.float32]]) -> str:
    """Returns the digest of everything that ranges depend on; the record inside the graph is not of it."""
    onnx = require("onnx", "export", "calibrating")
    digest = hashlib.sha256(_FORMAT.encode())
    digest.update(
        onnx.helper.make_model(graph.graph, opset_imports=graph.opset_import).SerializeToString(deterministic=True)
    )
    for frame in frames:
        digest.update(str(frame.shape).encode())
        digest.update(np.ascontiguousarray(frame).tobytes())
    return digest.hexdigest()


def _cached(file: Path, names: Set[str]) -> dict[str, Range] | None:
    """Reads cached ranges of these tensors; a file that is missing or damaged is no cache."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return None
        ranges = {str(name): Range(float(low), float(high)) for name, (low, high) in content["ranges"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    sound = all(-math.inf < found.low <= found.high < math.inf for found in ranges.values())
    return ranges if sound and ranges.keys() == names else None
