"""A checkpoint becomes an FP16 or INT8 graph: fp32 first, checked against torch, then reduced, then judged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, UsageError
from irdet.core.extras import require
from irdet.core.frame import Preprocessor
from irdet.core.info import ModelInfo
from irdet.data.sirst import Sample
from irdet.engines.golden import TOLERANCE, Comparison, compare, outliers_of
from irdet.engines.onnx import OnnxEngine
from irdet.engines.probe import as_batch
from irdet.export import fp16, gate, int8
from irdet.export.calibration import Calibration, Parts, calibrate, deal, observe, prepared
from irdet.export.frames import check_frames
from irdet.export.limits import HALF_SCALE_OPSET
from irdet.export.lint import lint_own
from irdet.export.onnx import Exported, OnnxOptions, check_stride, export_onnx, label, publish, record
from irdet.models import LoadedModel
from irdet.runtime.detector import Detector

#: What IoU may lose unless the user says otherwise.
MAX_DROP = {"fp16": 0.002, "int8": 0.01, "int8+fp16": 0.01}

#: Shows how far a stage is: `with stage("calibrating", 64) as advance: advance()`.
Stage = Callable[[str, int], AbstractContextManager[Callable[[], object]]]


@dataclass(frozen=True)
class PrecisionOptions:
    """How a graph is reduced.

    Attributes:
        half: What is not INT8 computes in half.
        int8: What INT8 is for; None for none.
        calib: Frames to calibrate INT8 on: a folder of images, or a data set with masks.
        calib_images: How many of them.
        max_drop: What IoU may lose; `MAX_DROP` where None.
        cache: Folder of the cache of ranges; the user's where None.
        preprocessor: Maps the frames to calibrate and to judge on as the device will map those of the camera.
        polarity: `"white-hot"`, or `"black-hot"` where targets are dark in these frames.
    """

    half: bool = False
    int8: int8.Target | None = None
    calib: Path | None = None
    calib_images: int = 128
    max_drop: float | None = None
    cache: Path | None = None
    preprocessor: Preprocessor = field(default_factory=Preprocessor)
    polarity: str = "white-hot"

    def __post_init__(self) -> None:
        if not self.half and self.int8 is None:
            raise UsageError("neither FP16 nor INT8 is asked for")
        if self.half and self.int8 == "cpu":
            raise UsageError("--fp16 with --int8-target cpu: CPUs compute half in float32, so leave --fp16 out")
        if self.int8 and self.calib is None:
            raise UsageError("--int8 needs frames to calibrate on: give --calib DIR")
        if self.calib is not None and self.int8 is None:
            raise UsageError("--calib is for --int8; frames to check FP16 on are given with --data DIR")

    @property
    def name(self) -> str:
        """The precision as the record has it."""
        return "fp16" if self.int8 is None else "int8+fp16" if self.half else "int8"

    @property
    def allowed_drop(self) -> float:
        """What IoU may lose."""
        return MAX_DROP[self.name] if self.max_drop is None else self.max_drop


@dataclass(frozen=True)
class Reduction:
    """What was done and how it fares.

    Attributes:
        precision: As in the record.
        target: What INT8 is for, None for FP16 alone.
        verdict: The accuracy gate's, None where no labelled frames were given.
        half: The plan of the half part, None where there is none.
        calibration: The ranges, None for FP16 alone.
    """

    precision: str
    target: str | None
    verdict: gate.Verdict | None
    half: fp16.HalfPlan | None
    calibration: Calibration | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        known = self.calibration
        return {
            "precision": self.precision,
            "target": self.target,
            "gate": self.verdict and self.verdict.to_dict(),
            "half": self.half and asdict(self.half),
            "calibration": known and {"digest": known.digest, "frames": known.frames, "cached": known.cached},
        }


def export_reduced(
    model: LoadedModel,
    path: str | Path,
    options: OnnxOptions,
    precision: PrecisionOptions,
    *,
    data: Path | None = None,
    stage: Stage | None = None,
) -> tuple[Exported, Reduction]:
    """Exports a network in FP16 or INT8; writes nothing unless the accuracy gate lets it out.

    Everything is measured on the graph of free size, at the frames' own size; the size asked for is written in last.

    Args:
        model: The network.
        path: The file to write; the golden frames are written beside it.
        options: How the graph is written.
        precision: How it is reduced.
        data: Labelled frames to judge on; where None, a part of the calibration's data set. FP16 alone is judged only
            where this is given.
        stage: Shows progress.

    Returns:
        What was written, and the report.

    Raises:
        UsageError: Options that do not go together.
        DataError: Frames that are missing, too few or not labelled.
        ModelError: The network finds no target of the labelled frames.
        IrdetError: The gate does not hold, or the fp32 graph is not what torch computes.
    """
    onnx = require("onnx", "export", "exporting to ONNX")
    if precision.name == "int8+fp16" and options.opset < HALF_SCALE_OPSET:
        raise UsageError(
            f"--int8 with --fp16 needs opset {HALF_SCALE_OPSET} or later (TensorRT 10), not {options.opset}"
        )
    check_stride(model, options)
    path, stage = Path(path), stage or _silent
    source = precision.calib or data
    parts = source and deal(source, precision.calib_images, data if precision.calib else None)
    with tempfile.TemporaryDirectory(prefix="irdet-export-") as folder:
        draft = export_onnx(model, Path(folder) / "fp32.onnx", replace(options, size=None, batch=1), data=data)
        work = _Work(Path(folder), onnx.load(str(draft.path)), draft.info, precision, parts or None, stage)
        graph, reduction = work.reduce()
        size = options.size and (options.size[1], options.size[0])
        info = draft.info.replace(
            height=size and size[0],
            width=size and size[1],
            precision=precision.name,
            target=precision.int8,
            calibration=reduction.calibration and reduction.calibration.digest,
            metrics={
                **draft.info.metrics,
                **({"gate": _judged(reduction.verdict, precision)} if reduction.verdict else {}),
            },
        )
        # Golden frames are passed on with the model, so frames that were only calibrated on are not among them.
        frames = check_frames(size, info.stride, data)
        exact, final = Path(folder) / "exact.onnx", Path(folder) / path.name
        for file, content in ((exact, fp16.rounded(graph) if precision.half else graph), (final, graph)):
            _save(onnx, fixed(content, size, options.batch), file, info)
        golden = record(info, frames, _run(exact, frames))
        parity = _replay(final, golden.sets, info)
        if not parity.passed:
            raise IrdetError(
                f"ONNX Runtime computes something else than the graph says (off by {parity.max_difference:.2g}, "
                f"{parity.tolerance:g} is allowed); {path} was not written"
            )
        notes = draft.warnings + (parts.warnings if parts else ()) + _notes(reduction, parts is not None)
        notes += tuple(note for note in lint_own(final, info) if note not in notes)
        beside = publish(final, path, golden)
    return Exported(path, beside, info, parity, notes), reduction


def fixed(graph: Any, size: tuple[int, int] | None, batch: int) -> Any:
    """Returns the graph with height, width and batch of its input set; as it is where `size` is None."""
    if size is None:
        return graph
    onnx = require("onnx", "export", "exporting to ONNX")
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    del copy.graph.value_info[:]
    for port in (*copy.graph.input, *copy.graph.output):
        for dim, value in zip(port.type.tensor_type.shape.dim, (batch, 1, *size), strict=True):
            dim.dim_value = value
    return onnx.shape_inference.infer_shapes(copy)


class _Work:
    """One graph on its way from fp32 to less."""

    def __init__(
        self,
        folder: Path,
        graph: Any,
        info: ModelInfo,
        precision: PrecisionOptions,
        parts: Parts | None,
        stage: Stage,
    ) -> None:
        self._folder, self._graph, self._info, self._precision = folder, graph, info, precision
        self._parts, self._stage = parts, stage

    def reduce(self) -> tuple[Any, Reduction]:
        """Returns the reduced graph, of free size, and the report."""
        onnx = require("onnx", "export", "exporting to ONNX")
        calibration = self._calibrate()
        plan = fp16.plan_half(self._graph, calibration.ranges) if self._precision.half else None
        layers = int8.convolutions(self._graph, 512, 512)
        # The last convolution gives the logits, whose range is wide, and its work is next to nothing. Only a CPU would
        # lose more by leaving 8 bits before it than it gains.
        always = (layers[-1].name,) if self._precision.int8 == "tensorrt" else plan.kept if plan else ()

        def build(kept: tuple[str, ...]) -> Any:
            if self._precision.int8 is None:
                return fp16.to_half(self._graph, kept)
            graph = int8.quantise(
                self._graph, calibration.ranges, self._precision.int8, kept, half=self._precision.half
            )
            if not self._precision.half:
                return graph
            return fp16.to_half(graph, fp16.plan_half(graph, calibration.ranges).kept)

        def measured(
            graph: Any, samples: tuple[Sample, ...], what: str, before: gate.Measured | None = None
        ) -> gate.Measured:
            file = self._folder / "candidate.onnx"
            _save(
                onnx,
                fp16.rounded(graph) if self._precision.half and graph is not self._graph else graph,
                file,
                self._info,
            )
            with OnnxEngine(file, device="cpu") as engine, self._stage(what, len(samples)) as advance:
                detector = Detector(engine, polarity=self._precision.polarity)
                return gate.measure(detector, samples, self._precision.preprocessor, advance, before=before)

        def sensitivity() -> dict[str, float]:
            assert self._parts is not None
            samples = self._parts.sensitivity
            names = [layer.name for layer in layers if layer.name not in always]
            before = measured(self._graph, samples, "sensitivity: fp32")
            return {
                name: gate.harm(
                    measured(
                        build(tuple(n for n in names if n != name) + always), samples, f"sensitivity: {name}", before
                    ),
                    samples,
                )
                for name in names
            }

        verdict = None
        kept = always
        if self._parts is not None:
            judged = self._parts.gate
            before = measured(self._graph, judged, "measuring fp32")
            verdict = gate.hold(
                layers,
                lambda kept: measured(build(kept), judged, f"measuring {self._precision.name}", before),
                before,
                self._precision.allowed_drop,
                sensitivity,
                always,
            )
            kept = verdict.kept
        known = calibration if self._precision.int8 else None
        return build(kept), Reduction(self._precision.name, self._precision.int8, verdict, plan, known)

    def _calibrate(self) -> Calibration:
        """Returns the ranges on the calibration's frames, or on made ones where FP16 is asked for without data."""
        if self._parts is None:
            made = [as_batch(frame[None]) for group in check_frames(None, self._info.stride) for frame in group]
            return Calibration(observe(self._graph, made), "", len(made), cached=False)
        how = self._precision
        frames = prepared(self._parts.calibration, self._info.stride, how.preprocessor, how.polarity)
        with self._stage("calibrating", len(frames)) as advance:
            return calibrate(self._graph, frames, self._precision.cache, advance)


@contextmanager
def _silent(what: str, total: int) -> Iterator[Callable[[], object]]:
    yield lambda: None


def _save(onnx: Any, graph: Any, file: Path, info: ModelInfo) -> None:
    onnx.save(graph, str(file))
    label(file, file, info)


def _run(file: Path, frames: tuple[NDArray[np.uint8], ...]) -> list[NDArray[np.float32]]:
    with OnnxEngine(file, device="cpu") as engine:
        return [np.concatenate([engine.run(as_batch(frame[None]))[:, 0] for frame in group]) for group in frames]


def _replay(file: Path, sets: Any, info: ModelInfo) -> Comparison:
    tolerance, outliers = TOLERANCE[info.precision], outliers_of(info.precision)
    given = _run(file, tuple(item.frames for item in sets))
    compared = [
        compare(item.frames, item.probability, maps, threshold=info.threshold, tolerance=tolerance, outliers=outliers)
        for item, maps in zip(sets, given, strict=True)
    ]
    return sum(compared, Comparison(0, 0, 0.0, tolerance))


def _judged(verdict: gate.Verdict, precision: PrecisionOptions) -> dict[str, Any]:
    return {**verdict.to_dict(), "polarity": precision.polarity, **precision.preprocessor.to_dict()}


def _notes(reduction: Reduction, real: bool) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if not real:
        notes += ("FP16 was checked on made frames alone, and no accuracy was measured; --data DIR brings real ones",)
    if reduction.half and reduction.half.kept:
        notes += (f"out of half's range, so in float32: {', '.join(reduction.half.kept)}",)
    if reduction.half and reduction.half.tiny_weights:
        notes += (
            f"{reduction.half.tiny_weights} of {reduction.half.weights} weights are too small for half and become 0",
        )
    return notes
