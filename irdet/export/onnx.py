"""torch -> ONNX, in small steps: fold, trace, simplify, label, check against torch, record golden frames, let out."""

from __future__ import annotations

import inspect
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from irdet import __version__
from irdet.core.errors import IrdetError, UsageError
from irdet.core.extras import require
from irdet.core.files import replacing
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.engines.golden import Comparison, Golden, GoldenSet, compare, golden_path, write_golden
from irdet.engines.onnx import OnnxEngine
from irdet.engines.probe import as_batch
from irdet.export.frames import check_frames
from irdet.export.graph import Deployable, deployable
from irdet.export.lint import lint_own
from irdet.export.simplify import simplify
from irdet.models import LoadedModel

#: Largest difference of a probability between torch and the exported fp32 graph.
PARITY = 1e-4

#: Opsets that torch's tracing exporter writes and these networks need. 17 is the ceiling of TensorRT 8.6.
OPSETS = range(13, 21)

#: Golden frames kept per size.
GOLDEN_FRAMES = 2

_INPUT, _OUTPUT = "frames", "probability"
_AXES = {0: "batch", 2: "height", 3: "width"}


@dataclass(frozen=True)
class OnnxOptions:
    """How the graph is written.

    Attributes:
        size: Width and height of its input in pixels, None where they and the batch are free.
        batch: Frames that a graph of fixed size takes at once.
        opset: ONNX opset.
        simplify: Run onnxsim over it.
    """

    size: tuple[int, int] | None = (512, 512)
    batch: int = 1
    opset: int = 17
    simplify: bool = True

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise UsageError(f"opset {self.opset}: choose {OPSETS[0]} to {OPSETS[-1]}")
        if self.batch < 1:
            raise UsageError(f"batch {self.batch}: at least 1 frame is needed")
        if self.size is None and self.batch != 1:
            raise UsageError("a graph of free size takes any batch; give --batch with a fixed size alone")


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: The ONNX file.
        golden: The golden frames beside it, for `irdet verify`.
        info: The record inside it.
        parity: How it compares with torch.
        warnings: What did not go as asked but leaves a sound file; lines for the user.
    """

    path: Path
    golden: Path
    info: ModelInfo
    parity: Comparison
    warnings: tuple[str, ...] = ()


def check_stride(model: LoadedModel, options: OnnxOptions) -> None:
    """Raises UsageError where the size asked for is none that the network takes."""
    stride = model.info.stride
    if options.size and (options.size[0] % stride or options.size[1] % stride):
        raise UsageError(
            f"size {options.size[0]}x{options.size[1]}: {model.info.variant} takes multiples of {stride} px"
        )


def export_onnx(
    model: LoadedModel, path: str | Path, options: OnnxOptions | None = None, *, data: Path | None = None
) -> Exported:
    """Exports a network to ONNX and checks the file against torch; writes nothing unless they agree.

    Args:
        model: The network.
        path: The file to write; the golden frames are written beside it.
        options: How the graph is written; the defaults where None.
        data: A data set whose frames are used for the check beside made ones.

    Returns:
        What was written.

    Raises:
        UsageError: The size is not a multiple of the network's stride.
        IrdetError: The file does not compute what torch computes, has another opset than asked for, or is one that
            TensorRT would refuse.
        MissingDependency: onnx or onnxruntime is not installed.
    """
    require("onnx", "export", "exporting to ONNX")
    require("onnxruntime", "cpu", "checking the exported model")
    options = options or OnnxOptions()
    path = Path(path)
    check_stride(model, options)
    stride = model.info.stride
    size = (options.size[1], options.size[0]) if options.size else None
    frames = check_frames(size, stride, data)
    info = model.info.replace(
        height=size and size[0],
        width=size and size[1],
        threshold=0.5,
        opset=options.opset,
        irdet_version=__version__,
        training={**model.info.training, "threshold": model.info.threshold},
        metrics=_moved(model.info),
    )

    with tempfile.TemporaryDirectory(prefix="irdet-export-") as folder:
        draft = Path(folder) / "traced.onnx"
        trace(deployable(model), draft, options, frames[0].shape[1:])
        notes: tuple[str, ...] = ()
        if options.simplify:
            simple = Path(folder) / "simplified.onnx"
            if why := simplify(draft, simple):
                notes = (f"the graph is not simplified: {why}",)
            else:
                draft = simple
        final = Path(folder) / path.name
        label(draft, final, info)
        references = [reference(model, group) for group in frames]
        parity = check_parity(final, frames, references)
        if not parity.passed:
            what = parity.mismatch or f"a probability differs by {parity.max_difference:.2g}, more than {PARITY:g}"
            raise IrdetError(f"the exported model does not agree with torch ({what}); {path} was not written")
        if not parity.targets:
            notes += (
                "the network finds no target in the frames of the check; was it trained? --data DIR brings others",
            )
        notes += lint_own(final, info)
        golden = publish(final, path, record(info, frames, references))
    return Exported(path, golden, info, parity, notes)


def publish(final: Path, path: Path, golden: Golden) -> Path:
    """Puts a finished graph and its golden frames in their places, or neither of them; returns where the frames are."""
    with replacing(path) as temporary:
        temporary.write_bytes(final.read_bytes())
        write_golden(golden_path(path), golden)
    return golden_path(path)


def trace(network: Deployable, path: Path, options: OnnxOptions, size: tuple[int, ...]) -> None:
    """Writes the graph as torch's tracing exporter gives it.

    That one writes opset 17 itself; the newer one writes 18 and converts down. `size` is the height and width that
    the network is traced with; in a graph of free size, batch, height and width are then left open.
    """
    frames = torch.zeros(options.batch, 1, *size)
    choice: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:  # torch >= 2.5
        choice["dynamo"] = False
    if options.size is None:
        choice["dynamic_axes"] = {_INPUT: _AXES, _OUTPUT: _AXES}
    with warnings.catch_warnings(), torch.inference_mode(), _space_to_depth(options.opset):
        warnings.simplefilter("ignore")  # that it is the older exporter
        torch.onnx.export(
            network,
            (frames,),
            str(path),
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            opset_version=options.opset,
            **choice,
        )


@contextmanager
def _space_to_depth(opset: int) -> Iterator[None]:
    """Lets the exporter write a pixel-unshuffle of the frame as the one operator that it is, not as three.

    The three (Reshape, Transpose, Reshape) move every pixel on its own: 1.5 % of the time of mlcl-edge on a CPU.
    """

    def symbolic(graph: Any, frame: Any, factor: Any) -> Any:
        size = symbolic_helper._get_tensor_sizes(frame)
        if size is None or size[1] != 1:  # of several channels, torch orders the results otherwise
            raise IrdetError("a pixel-unshuffle of more than one channel cannot be exported")
        return graph.op("SpaceToDepth", frame, blocksize_i=symbolic_helper._parse_arg(factor, "i"))

    from torch.onnx import symbolic_helper

    exporter: Any = torch.onnx  # its stubs do not name these two, its documentation does
    exporter.register_custom_op_symbolic("aten::pixel_unshuffle", symbolic, opset)
    try:
        yield
    finally:
        exporter.unregister_custom_op_symbolic("aten::pixel_unshuffle", opset)


def _moved(info: ModelInfo) -> dict[str, Any]:
    """Returns a record's figures with the thresholds that they have where the model's own has become 0.5."""
    own = info.threshold

    def moved(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {part: moved(part, figure) for part, figure in value.items()}
        if name != "threshold" or not isinstance(value, float):
            return value
        return value * (1 - own) / (value * (1 - own) + (1 - value) * own)  # odds are divided, as by the last bias

    return {part: moved(part, figures) for part, figures in info.metrics.items()}


def reference(model: LoadedModel, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Computes with the network in torch, as it was trained, what the deployed one must give.

    Args:
        model: The network.
        frames: uint8 [N, H, W].

    Returns:
        float32 [N, H, W], with the threshold moved to 0.5.
    """
    shift = float(np.log(model.info.threshold / (1 - model.info.threshold)))
    with torch.inference_mode():
        maps = [torch.sigmoid(model.module(torch.from_numpy(as_batch(frame[None]))) - shift) for frame in frames]
    return torch.cat(maps)[:, 0].numpy()


def check_parity(
    path: Path, frames: tuple[NDArray[np.uint8], ...], references: list[NDArray[np.float32]]
) -> Comparison:
    """Runs an exported file on the CPU and compares it with torch's probabilities, group by group of one size."""
    total = Comparison(0, 0, 0.0, PARITY)
    with OnnxEngine(path, device="cpu") as engine:
        for group, wanted in zip(frames, references, strict=True):
            step = engine.max_batch or len(group)
            batches = [as_batch(group[i : i + step]) for i in range(0, len(group), step)]
            given = np.concatenate([engine.run(batch)[:, 0] for batch in batches])
            total += compare(group, wanted, given, threshold=engine.info.threshold, tolerance=PARITY)
    return total


def label(source: Path, destination: Path, info: ModelInfo) -> None:
    """Puts the record in, makes the dimensions' names agree, and checks that the file is what it says.

    Raises:
        IrdetError: The graph has another opset than its record says.
    """
    onnx = require("onnx", "export", "exporting to ONNX")
    graph = onnx.load(str(source))
    written = [entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")]
    if written != [info.opset]:
        raise IrdetError(f"torch {torch.__version__} wrote opset {written} where {info.opset} was asked for")
    graph.ir_version = min(graph.ir_version, onnx.helper.find_min_ir_version_for(graph.opset_import))
    graph.producer_name, graph.producer_version = "irdet", __version__
    (given,), (taken,) = graph.graph.output, graph.graph.input
    given.type.tensor_type.shape.CopyFrom(taken.type.tensor_type.shape)  # they are the same: one channel in, one out
    onnx.helper.set_model_props(graph, {METADATA_KEY: info.to_json()})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(destination))


def record(info: ModelInfo, frames: tuple[NDArray[np.uint8], ...], references: list[NDArray[np.float32]]) -> Golden:
    """Keeps the clearest frames with targets of each size; frames without one only where there are no others.

    A pixel that stands next to the threshold may fall on either side of it on another runtime, which is no fault.
    Frames whose nearest pixel is furthest from it come first.
    """
    sets = []
    for group, wanted in zip(frames, references, strict=True):
        margin = np.abs(wanted - info.threshold).min(axis=(1, 2))
        empty = (wanted < info.threshold).all(axis=(1, 2))
        best = np.lexsort((-margin, empty))[:GOLDEN_FRAMES]
        sets.append(GoldenSet(group[best], wanted[best]))
    return Golden(info.weights_sha256, info.threshold, tuple(sets), info.precision, info.target, info.calibration)
