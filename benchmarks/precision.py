"""What each precision costs in accuracy and saves in bytes and time: the table of docs/precision.md.

    python benchmarks/precision.py SIRST MODEL... [--output FILE] [--json FILE] [--size WxH] [--seconds S]

Each MODEL is a checkpoint or the name of a shipped one. It is exported by what `irdet export` runs, and measured on
the fold of SIRST that calibration and the choice of layers do not see (the one that recipes hold out). FP16's accuracy
is that of the network in PyTorch's half precision, since ONNX Runtime computes half graphs in float32 on a CPU. Times
are of ONNX Runtime on this CPU, fp32 and INT8 in turns. Rows are kept in a JSON file beside the page: models measured
before stay in it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from irdet.cli.console import progress
from irdet.cli.options import parse_size
from irdet.core.frame import Preprocessor
from irdet.core.info import ModelInfo
from irdet.engines import open_engine
from irdet.engines.base import BaseEngine
from irdet.export.calibration import deal
from irdet.export.gate import Measured, Verdict, measure
from irdet.export.graph import deployable
from irdet.export.onnx import OnnxOptions, export_onnx
from irdet.export.precision import HALF_SCALE_OPSET, PrecisionOptions, export_reduced
from irdet.models import LoadedModel, load_model
from irdet.runtime.detector import Detector

#: Frames to calibrate on.
IMAGES = 128

#: Precisions of the table -> half, and what INT8 is for.
PRECISIONS: dict[str, tuple[bool, Any]] = {
    "fp16": (True, None),
    "int8 for TensorRT": (False, "tensorrt"),
    "int8+fp16 for TensorRT": (True, "tensorrt"),
    "int8 for CPUs": (False, "cpu"),
}


@dataclass(frozen=True)
class Row:
    """One line of the table; `latency` is the median over turns of this precision's time by fp32's."""

    model: str
    precision: str
    bytes: int
    iou: float
    niou: float
    pd: float
    fa: float
    max_difference: float
    images: int
    targets: int
    kept: tuple[str, ...] = ()
    share: float = 1.0
    milliseconds: float | None = None
    latency: float | None = None
    trained: str = ""


class HalfEngine(BaseEngine):
    """The deployed network in PyTorch's half precision."""

    max_batch = None
    runtime = f"torch {torch.__version__} half"

    def __init__(self, model: LoadedModel) -> None:
        self.info = model.info.replace(threshold=0.5)
        self._network: Any = deployable(model).half().to(memory_format=torch.channels_last)

    def _compute(self, batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            frames = torch.from_numpy(batch).half().contiguous(memory_format=torch.channels_last)
            return self._network(frames).float().contiguous().numpy()

    def _release(self) -> None:
        del self._network


@contextmanager
def stage(what: str, total: int):  # type: ignore[no-untyped-def]
    with progress(what, total) as advance:
        yield advance


def rows_of(
    name: str, model: LoadedModel, data: Path, size: tuple[int, int], seconds: float, folder: Path
) -> list[Row]:
    """Exports a model in every precision and measures each."""
    fp32 = export_onnx(model, folder / "fp32.onnx", OnnxOptions(size))
    judged = deal(data, IMAGES).gate
    with open_engine(export_onnx(model, folder / "free.onnx", OnnxOptions(None)).path, device="cpu") as engine:
        before = measure(Detector(engine), judged, Preprocessor())
    with HalfEngine(model) as engine, stage(f"{name}: torch half", len(judged)) as advance:
        half = measure(Detector(engine), judged, Preprocessor(), advance, before=before)

    rows = [row(name, "fp32", fp32.path, before, 0.0)]
    for precision, (is_half, target) in PRECISIONS.items():
        options = OnnxOptions(size, opset=HALF_SCALE_OPSET if is_half and target else 17)
        asked = PrecisionOptions(is_half, target, data if target else None, IMAGES)
        path = folder / f"{precision.replace(' ', '-')}.onnx"
        _, report = export_reduced(model, path, options, asked, data=None if target else data, stage=stage)
        if target is None:
            rows.append(row(name, precision, path, half, half.max_difference))
        else:
            assert report.verdict is not None
            rows.append(verdict_row(name, precision, path, report.verdict))
    rows[0], rows[-1] = timed(rows[0], rows[-1], fp32.path, path, size, seconds)
    return [replace(one, trained=trained(model.info)) for one in rows]


def trained(info: ModelInfo) -> str:
    """Says what a model was trained on. Whole frames count as the crops that are as much work."""
    recipe = info.training.get("recipe", {})
    crops, fold = info.training.get("step", 0) * recipe.get("batch", 0), recipe.get("fold")
    held = f"fold {fold} held out" if fold else "nothing held out"
    work = "the work of " if recipe.get("whole_share") else ""
    return f"recipe {recipe.get('name', 'unknown')}, {work}{crops:,} crops, {held}"


def row(name: str, precision: str, path: Path, measured: Measured, difference: float) -> Row:
    m, size = measured.metrics, path.stat().st_size
    return Row(name, precision, size, m.iou, m.niou, m.pd, m.fa, difference, m.images, m.targets)


def verdict_row(name: str, precision: str, path: Path, verdict: Verdict) -> Row:
    plain = row(name, precision, path, Measured(verdict.after, ()), verdict.max_difference)
    return replace(plain, kept=verdict.kept, share=verdict.share)


def timed(one: Row, other: Row, first: Path, second: Path, size: tuple[int, int], seconds: float) -> tuple[Row, Row]:
    """Runs two graphs in turns, so that whatever else the machine does slows both."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), np.uint8)
    frame = Preprocessor()(noise)
    with open_engine(first, device="cpu") as a, open_engine(second, device="cpu") as b:
        times: list[list[float]] = []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(times) < 5:
            turn = []
            for engine in (a, b):
                batch = frame.of_type(engine.dtype)[None, None]
                engine.run(batch)  # the caches are the other one's
                start = time.perf_counter()
                engine.run(batch)
                turn.append(time.perf_counter() - start)
            times.append(turn)
    spent = np.array(times[1:])
    ratio = float(np.median(spent[:, 1] / spent[:, 0]))
    medians = 1e3 * np.median(spent, axis=0)
    return (
        replace(one, milliseconds=float(medians[0]), latency=1.0),
        replace(other, milliseconds=float(medians[1]), latency=ratio),
    )


def markdown(rows: list[Row], size: tuple[int, int]) -> str:
    """Returns the page."""
    lines = [
        "# Precision",
        "",
        f"Measured on {rows[0].images} frames of SIRST with {rows[0].targets} targets (fold 1, which neither "
        "calibration nor the choice of layers sees) at native size and threshold 0.5. Files are of graphs for "
        f"{size[0]}x{size[1]}; times are of ONNX Runtime {ort.__version__} on {os.cpu_count()} cores "
        f"({platform.machine()}), fp32 and INT8 in turns, medians. FP16 is the network in PyTorch's half precision; "
        "INT8 for TensorRT is its graph in ONNX Runtime on the CPU, with everything that is half rounded to half. "
        "Nothing here has run on a GPU; models were not all timed on the same machine. "
        "A recipe that holds nothing out has trained on these frames: of its rows the "
        "differences count, not the levels.",
        "",
        *(f"- `{model}`: {told}" for model, told in {r.model: r.trained for r in rows}.items()),
        "",
        "| model | precision | bytes | IoU | nIoU | Pd | Fa, 1e-6 | largest difference | in INT8 | ms | by fp32's |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in rows:
        share = f"{r.share:.1%}" if "int8" in r.precision else ""
        clock = ("", "") if r.milliseconds is None else (f"{r.milliseconds:.1f}", f"{r.latency:.2f}")
        lines.append(
            f"| `{r.model}` | {r.precision} | {r.bytes:,} | {r.iou:.4f} | {r.niou:.4f} | {r.pd:.4f} | {r.fa:.2f} "
            f"| {r.max_difference:.3f} | {share} | {clock[0]} | {clock[1]} |"
        )
    lines += [
        "",
        "The largest difference is that of one probability on one pixel of all frames; a pixel at the edge of a mask "
        "may move far without a target being lost. In INT8 is the share of the convolutions' multiply-accumulates.",
    ]
    if kept := {(r.model, r.precision): r.kept for r in rows if r.kept}:
        lines += ["", "Left in float:", ""]
        lines += [f"- `{model}`, {precision}: {', '.join(layers)}" for (model, precision), layers in kept.items()]
    return "\n".join([*lines, "", f"Made by `python benchmarks/precision.py SIRST {' '.join(_models(rows))}`.", ""])


def _models(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(r.model for r in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--output", type=Path, default=Path("docs/precision.md"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/precision.json"))
    parser.add_argument("--size", type=parse_size, default=(512, 512))
    parser.add_argument("--seconds", type=float, default=20.0, help="for the times of one model")
    arguments = parser.parse_args()
    kept = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.exists() else []
    rows = [Row(**{**values, "kept": tuple(values["kept"])}) for values in kept]
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            label, model = Path(name).stem, load_model(name)
            found = rows_of(label, model, arguments.data, arguments.size, arguments.seconds, Path(folder))
        rows = [row for row in rows if row.model != label] + found
        arguments.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n", encoding="utf-8")
        arguments.output.write_text(markdown(rows, arguments.size), encoding="utf-8")
    print(arguments.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
