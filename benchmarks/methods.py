"""Every method on the same frames with the same metrics: the tables and curves of docs/methods.md.

    python benchmarks/methods.py SIRST FREE [--checkpoint FILE ...] [--train-free] [--only NAME ...] [--output FILE]

SIRST is the labelled data set, of which the part is used that recipes hold out (fold 1, whole scenes); FREE is a folder
of frames without targets. Networks: the shipped `mlcl-edge` and what each --checkpoint holds; with --train-free those
of the checkpoints alone. Figures are kept in a JSON file beside the page, so that --only measures some again and leaves
the others, those of checkpoints that are not given among them; times are of one run, with all that it was given in
turns. Run it with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from precision import trained

from irdet import Detector, Preprocessor, open_engine
from irdet.cli.console import progress
from irdet.core.errors import UsageError
from irdet.core.frame import Frame
from irdet.core.threshold import AdaptiveThreshold, Threshold
from irdet.data.scenes import known_folds
from irdet.data.sirst import load_dataset
from irdet.data.synth import Placed, SceneConfig, generate_frame, insert_targets, shape_of_area
from irdet.engines.base import BaseEngine
from irdet.engines.classical import METHODS, create_method
from irdet.engines.classical.lcm import LCM
from irdet.engines.classical.method import MethodEngine
from irdet.engines.classical.mpcm import MPCM
from irdet.engines.classical.tophat import TopHat
from irdet.evaluation.evaluate import AREA_MAX_FA
from irdet.export.onnx import OnnxOptions, export_onnx
from irdet.metrics.accumulator import Metrics, MetricsResult
from irdet.metrics.curves import CurvesAccumulator
from irdet.models import load_model

#: Thresholds of the curves lie around the method's own, evenly in its logit: so far to both sides, and so many.
REACH = {"method": 3.0, "network": 9.0}
STEPS = 41

#: Threshold rules beside the fixed one.
RULES = (AdaptiveThreshold("std", 5.0), AdaptiveThreshold("max", 0.7))

#: A method that takes seconds for a frame -> it sees every so-manieth frame alone, and those without targets cut to
#: `CUT`.
SLOW = {"ipi": 4}

#: Side of the frames that times are taken on, and of cuts, px.
CUT = 256

#: Kinds of made scenes -> backgrounds of `irdet.data.synth`; frames of each kind, and their width and height.
SCENES = {"clear sky": "clear", "clouds": "clouds,cumulus,cirrus", "land": "ridge,trees,ground,buildings"}
INSERTED = "real, targets inserted"
FRAMES, WIDTH, HEIGHT = 10, 192, 160

#: Rounds of the times; the slow ones take part in every fifth.
ROUNDS, SLOW_ROUNDS = 15, 5

#: IoU on SIRST as it stands in the literature, for orientation: other parts of the data, thresholds chosen on the test.
PUBLISHED = {"tophat": 0.22, "lcm": 0.19, "mpcm": 0.36, "ipi": 0.47, "resnet20-fpn": 0.72}

#: Why some figures lie far from the published ones.
REMARKS = (
    "Top-hat, LCM and MPCM come out near what is published once the threshold is chosen as there. IPI does not: "
    "its nIoU is the highest of the methods, but what is left of bright clouds in three of its sixteen frames "
    "outweighs the targets of all of them where pixels are summed (without those three its IoU is 0.60). The "
    "networks of 3,808 crops are far from finished, and so below what is published (resnet20-fpn 0.60 at its best "
    "threshold). At that budget local contrast by itself does not decide: `mlcl-base` lies above `resnet20-fpn` "
    "and `mlcl-small` below it, by less than one scene can move. `alcnet` learns the slowest. `mlcl-edge` and "
    "base-v4 have seen 57 and 24 times as many crops."
)

Labelled = tuple[NDArray[np.generic], NDArray[np.bool_]]


def held_out(path: Path) -> list[Labelled]:
    """Returns frames and masks of fold 1."""
    dataset = load_dataset(path)
    folds = known_folds([sample.name for sample in dataset])
    if folds is None:
        raise UsageError(f"{path} is not SIRST: its folds are known by its images' names")
    return [sample.read() for sample, fold in zip(dataset, folds, strict=True) if fold == 0]


def target_free(path: Path) -> list[Labelled]:
    """Returns the frames, with masks that are empty."""
    return [sample.read() for sample in load_dataset(path, empty_truth=True)]


def made(free: Sequence[Labelled]) -> dict[str, list[Labelled]]:
    """Returns made frames by kind; of the last kind, cuts of real target-free frames with inserted targets."""
    kinds: dict[str, list[Labelled]] = {}
    for name, backgrounds in SCENES.items():
        config = SceneConfig(WIDTH, HEIGHT, backgrounds)
        frames = (generate_frame(config, seed) for seed in range(FRAMES))
        kinds[name] = [(frame.raw, frame.mask) for frame in frames]
    kinds[INSERTED] = []
    for seed in range(FRAMES):
        rng = np.random.default_rng(seed)
        raw = free[seed * len(free) // FRAMES][0]
        top, left = (
            int(rng.integers(0, have - want + 1)) for have, want in zip(raw.shape, (HEIGHT, WIDTH), strict=True)
        )
        placed = [
            Placed(
                number,
                shape_of_area("point", float(rng.uniform(4, 30))),
                x=WIDTH * (0.2 + 0.3 * number + 0.1 * rng.random()),
                y=HEIGHT * rng.uniform(0.15, 0.85),
                scr=float(rng.uniform(3, 20)),
            )
            for number in range(1 + seed % 3)
        ]
        raw, mask, _ = insert_targets(np.ascontiguousarray(raw[top : top + HEIGHT, left : left + WIDTH]), placed)
        kinds[INSERTED].append((raw, mask))
    return kinds


def cut(frames: Sequence[Labelled]) -> list[Labelled]:
    """Returns the middle of each frame."""
    out = []
    for raw, mask in frames:
        window = tuple(slice(max(0, (side - CUT) // 2), max(0, (side - CUT) // 2) + CUT) for side in raw.shape)
        out.append((np.ascontiguousarray(raw[window]), mask[window]))
    return out


def responses(engine: BaseEngine, frames: Sequence[Labelled], what: str) -> list[NDArray[np.float32]]:
    """Returns what a method answers to each frame, as `irdet infer` computes it."""
    detector = Detector(engine)
    with progress(what, len(frames)) as advance:
        out = []
        for raw, _ in frames:
            out.append(detector.probability(Preprocessor()(raw)))
            advance()
    return out


def measured(maps: Sequence[NDArray[np.float32]], frames: Sequence[Labelled], threshold: Threshold) -> MetricsResult:
    """Returns the metrics at a threshold."""
    metrics = Metrics(threshold)
    for response, (_, mask) in zip(maps, frames, strict=True):
        metrics.add(response, mask)
    return metrics.result()


def logits(threshold: float, reach: float) -> list[float]:
    """Returns thresholds around one."""
    around = math.log(threshold / (1 - threshold)) + np.linspace(-reach, reach, STEPS)
    return [float(value) for value in 1 / (1 + np.exp(-around))]


def moved(value: Any, factor: float) -> Any:
    """Returns a parameter times a factor; whole numbers become the nearest odd ones, which windows need."""
    if isinstance(value, tuple):
        return tuple(sorted({moved(part, factor) for part in value}))
    return 2 * round((value * factor - 1) / 2) + 1 if isinstance(value, int) else value * factor


def sensitivity(name: str, frames: Sequence[Labelled], own: list[NDArray[np.float32]]) -> dict[str, Any]:
    """Measures IoU with a method's main parameter at half and at one and a half times its value."""
    method = create_method(name)
    value = getattr(method, method.MAIN)
    found = [(str(value), measured(own, frames, method.THRESHOLD).iou)]
    for factor in (0.5, 1.5):
        other = moved(value, factor)
        with MethodEngine(name, create_method(name, **{method.MAIN: other})) as engine:
            maps = responses(engine, frames, f"{name}, {method.MAIN} {other}")
        found.append((str(other), measured(maps, frames, method.THRESHOLD).iou))
    return {"parameter": method.MAIN, "values": [v for v, _ in found], "iou": [iou for _, iou in found]}


def measure(
    name: str, engine: BaseEngine, frames: list[Labelled], free: list[Labelled], kinds: dict[str, list[Labelled]]
) -> dict[str, Any]:
    """Measures one method on everything."""
    network = name not in METHODS
    every = SLOW.get(name, 1)
    frames, free = frames[::every], free[::every]
    own = engine.info.threshold
    maps = responses(engine, frames, f"{name}: held out")
    curves = CurvesAccumulator(logits(own, REACH["network" if network else "method"]))
    for response, (_, mask) in zip(maps, frames, strict=True):
        curves.add(response, mask)
    curve, at_own = curves.result(), measured(maps, frames, own)
    best = int(np.nanargmax(curve.iou))
    row: dict[str, Any] = {
        **{key: value for key, value in at_own.to_dict().items() if key != "empty"},
        "parameters": engine.info.parameters if network else len(dataclasses.fields(create_method(name))),
        "network": network,
        "rules": {str(rule): measured(maps, frames, rule).iou for rule in RULES},
        "best_iou": float(curve.iou[best]),
        "best_threshold": float(curve.thresholds[best]),
        "average_precision": curve.average_precision,
        "pd_fa_area": curve.pd_fa_area(AREA_MAX_FA),
        "curves": {key: curve.to_dict()[key] for key in ("thresholds", "iou", "precision", "recall", "pd", "fa")},
        "pixels": curve.pixels,
    }
    if network:
        row["trained"] = trained(engine.info)
        row["sensitivity"] = {
            "parameter": "threshold",
            "values": ["0.5", "0.25", "0.75"],
            "iou": [measured(maps, frames, threshold).iou for threshold in (own, 0.5 * own, 1.5 * own)],
        }
    else:
        row["sensitivity"] = sensitivity(name, frames, maps)
    empty = cut(free) if name in SLOW else free
    alone = measured(responses(engine, empty, f"{name}: target-free"), empty, own)
    row["free"] = {key: getattr(alone, key) for key in ("images", "fa", "false_targets", "false_per_frame")}
    row["free"]["cut"] = name in SLOW
    row["scenes"] = {}
    for kind, scenes in kinds.items():
        result = measured(responses(engine, scenes, f"{name}: {kind}"), scenes, own)
        row["scenes"][kind] = {key: getattr(result, key) for key in ("iou", "pd", "targets", "false_per_frame")}
    return row


def times(engines: dict[str, BaseEngine], frame: Frame) -> dict[str, dict[str, float]]:
    """Runs all engines in turns, so that whatever else the machine does slows all; ratios are of the same round."""
    spent: dict[str, list[float]] = {name: [] for name in engines}
    ratios: dict[str, list[float]] = {name: [] for name in engines}
    with progress("times", ROUNDS) as advance:
        for turn in range(ROUNDS):
            now = {}
            for name, engine in engines.items():
                if name in SLOW and turn % SLOW_ROUNDS:
                    continue
                batch = frame.of_type(engine.dtype)[None, None]
                if name not in SLOW:
                    engine.run(batch)  # the caches are the one's before
                start = time.perf_counter()
                engine.run(batch)
                now[name] = time.perf_counter() - start
            for name, seconds in now.items():
                spent[name].append(1e3 * seconds)
                ratios[name].append(seconds / now["tophat"])
            advance()
    return {name: {"ms": float(np.median(spent[name])), "ratio": float(np.median(ratios[name]))} for name in engines}


def windows(rounds: int = 15) -> dict[str, dict[str, float]]:
    """LCM and MPCM at 640x512 beside top-hats of their largest window, three cells of nine pixels, and of one cell."""
    frame = np.random.default_rng(0).random((512, 640), np.float32)
    methods = {"tophat of 27 px": TopHat(27), "tophat of 9 px": TopHat(9), "lcm": LCM(), "mpcm": MPCM()}
    spent = np.array([[_seconds(method, frame) for method in methods.values()] for _ in range(rounds + 1)][1:])
    ratio = np.median(spent / spent[:, :1], axis=0)
    return {
        name: {"ms": float(1e3 * np.median(spent[:, i])), "ratio": float(ratio[i])} for i, name in enumerate(methods)
    }


def _seconds(method: Any, frame: NDArray[np.float32]) -> float:
    start = time.perf_counter()
    method.respond(frame)
    return time.perf_counter() - start


def order(rows: dict[str, Any]) -> list[str]:
    """Returns the names: the methods as irdet lists them, then the networks."""
    return [name for name in METHODS if name in rows] + [name for name in rows if name not in METHODS]


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Returns a Markdown table, numbers to the right."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, marks, *lines)] + [""]


def markdown(found: dict[str, Any], picture: str, command: str) -> str:
    """Returns the page."""
    rows, clocks = found["rows"], found["times"]
    names = order(rows)
    most = max((rows[name] for name in names), key=lambda row: row["images"])
    page = [
        "# The methods before MLCL-Net",
        "",
        f"Measured on {most['images']} frames of SIRST with {most['targets']} targets: fold 1, whole scenes. Frames "
        "have their native size; a target is found where a centroid lies closer than "
        f"{most['distance']:g} px. The threshold of a method is one fixed number, the best IoU over all of SIRST's "
        f"training images, fold 1 among them; networks are cut at 0.5. {_trained(rows)}",
        "",
        *table(
            ("method", "frames", "IoU", "nIoU", "Pd", "Fa", "false per frame", "AP", "Pd-Fa area", "parameters"),
            [
                (
                    f"`{name}`",
                    f"{row['images']}",
                    *(f"{row[key]:.3f}" for key in ("iou", "niou", "pd")),
                    f"{row['fa']:.0f}",
                    f"{row['false_per_frame']:.2f}",
                    f"{row['average_precision']:.3f}",
                    f"{row['pd_fa_area']:.3f}",
                    f"{row['parameters']:,}",
                )
                for name in names
                for row in [rows[name]]
            ],
        ),
        "Fa in 1e-6 of the pixels. AP is the area under precision over recall of pixels; the Pd-Fa area is the mean Pd "
        f"over Fa from 0 to {AREA_MAX_FA:g}e-6. Parameters are a network's weights, a method's settings. A method that "
        "takes seconds for a frame sees every fourth frame alone.",
        "",
        f"![Pd over Fa and precision over recall]({picture})",
        "",
        "## Frames without targets",
        "",
        *table(
            ("method", "frames", "false per frame", "Fa"),
            [
                (
                    f"`{name}`",
                    f"{free['images']}, cut to {CUT}x{CUT}" if free["cut"] else f"{free['images']}",
                    f"{free['false_per_frame']:.2f}",
                    f"{free['fa']:.0f}",
                )
                for name in names
                for free in [rows[name]["free"]]
            ],
        ),
        "Most of them were among the frames that the networks were trained on.",
        "",
        "## Time",
        "",
        f"One frame of {CUT}x{CUT} on one thread ({platform.machine()}), all methods in turns; the ratio is the median "
        "over rounds of a method's time by top-hat's in the same round.",
        "",
        *table(
            ("method", "ms", "by top-hat's"),
            [
                (f"`{name}`", f"{clocks[name]['ms']:.1f}", f"{clocks[name]['ratio']:.1f}")
                for name in names
                if name in clocks
            ],
        ),
        "LCM and MPCM at 640x512, beside top-hats with the largest of their windows (three cells of nine pixels) and "
        "with one cell:",
        "",
        *table(
            ("", "ms", "by the first's"),
            [(name, f"{clock['ms']:.1f}", f"{clock['ratio']:.2f}") for name, clock in found["windows"].items()],
        ),
        "## Thresholds",
        "",
        "IoU by the rule that cuts the response: published tables differ by just this. The best threshold is chosen on "
        "the very frames that it is measured on, as published ones often are; those are of other parts of the data. "
        "ACM, which is not among these, is published with 0.74.",
        "",
        *table(
            ("method", "fixed", *(f"`{rule}`" for rule in RULES), "best on these frames", "published"),
            [
                (
                    f"`{name}`",
                    f"{row['iou']:.3f}",
                    *(f"{row['rules'][str(rule)]:.3f}" for rule in RULES),
                    f"{row['best_iou']:.3f} at {row['best_threshold']:.3f}",
                    f"{PUBLISHED[method_of(name)]:.2f}" if method_of(name) in PUBLISHED else "",
                )
                for name in names
                for row in [rows[name]]
            ],
        ),
        REMARKS,
        "",
        "## Sensitivity",
        "",
        "IoU when the main parameter is halved or half as much again, everything else as it was.",
        "",
        *table(
            ("method", "parameter", "as it is", "IoU", "halved", "IoU", "half more", "IoU", "spread"),
            [
                (
                    f"`{name}`",
                    f"`{moving['parameter']}`",
                    *(
                        cell
                        for value, iou in zip(moving["values"], moving["iou"], strict=True)
                        for cell in (value, f"{iou:.3f}")
                    ),
                    f"{max(moving['iou']) - min(moving['iou']):.3f}",
                )
                for name in names
                for moving in [rows[name]["sensitivity"]]
            ],
        ),
        "## Made scenes",
        "",
        f"{FRAMES} frames of {WIDTH}x{HEIGHT} of each kind: Pd, and false targets per frame.",
        "",
        *table(
            ("method", *most["scenes"]),
            [
                (
                    f"`{name}`",
                    *(f"{s['pd']:.2f}, {s['false_per_frame']:.1f}" for s in rows[name]["scenes"].values()),
                )
                for name in names
            ],
        ),
        f"Made by `{command}`.",
        "",
    ]
    return "\n".join(page)


def _trained(rows: dict[str, Any]) -> str:
    """Says what each network has seen."""
    told = [f"`{method_of(name)}`: {row['trained']}" for name, row in rows.items() if row["network"]]
    return f"Networks stand with the recipe of their training. {'; '.join(told)}." if told else ""


def draw(found: dict[str, Any], path: Path) -> None:
    """Draws Pd over Fa and precision over recall; a dot where each method's own threshold lies."""
    rows = found["rows"]
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    alarms, precision = figure.subplots(1, 2)
    for number, name in enumerate(order(rows)):
        row = rows[name]
        style = {"color": f"C{number % 10}", "linewidth": 2.4 if row["network"] else 1.3}
        curves = {key: np.array(values, float) for key, values in row["curves"].items()}
        floor = 0.5e6 / row["pixels"]
        alarms.plot(np.maximum(curves["fa"], floor), curves["pd"], label=name, **style)
        alarms.plot([max(row["fa"], floor)], [row["pd"]], marker="o", **style)
        precision.plot(curves["recall"], curves["precision"], label=name, **style)
        precision.plot([row["recall"]], [row["precision"]], marker="o", **style)
    alarms.set(xscale="log", xlabel="Fa, 1e-6", ylabel="Pd", title="targets: detection over false alarms")
    precision.set(xlabel="recall", ylabel="precision", title="pixels: precision over recall", xlim=(0, 1.02))
    for axes in (alarms, precision):
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
    figure.legend(*precision.get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    figure.savefig(path, dpi=110)


def method_of(name: str) -> str:
    """Returns a row's method; a network's row has its recipe behind it."""
    return name.split(",")[0]


def engines(arguments: argparse.Namespace, stack: ExitStack) -> Iterator[tuple[str, BaseEngine]]:
    """Opens the methods, and the networks as ONNX graphs of free size on one thread."""
    for name in METHODS:
        yield name, stack.enter_context(MethodEngine(name, create_method(name)))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    for source in [*([] if arguments.train_free else ["mlcl-edge"]), *arguments.checkpoint]:
        model = load_model(source)
        recipe = model.info.training.get("recipe", {}).get("name", Path(source).stem)
        path = export_onnx(model, folder / f"{recipe}.onnx", OnnxOptions(None)).path
        yield f"{model.info.variant}, {recipe}", stack.enter_context(open_engine(path, device="cpu", threads=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("free", type=Path)
    parser.add_argument("--checkpoint", action="append", default=[], help="a trained network; may be given again")
    parser.add_argument("--train-free", action="store_true", help="leave the shipped network out")
    parser.add_argument("--only", action="append", help="measure this method alone; may be given again")
    parser.add_argument("--output", type=Path, default=Path("docs/methods.md"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/methods.json"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    frames, free = held_out(arguments.data), target_free(arguments.free)
    kinds = made(free)
    found = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"rows": {}}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)

    def keep() -> None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    with ExitStack() as stack:
        opened = dict(engines(arguments, stack))
        for name, engine in opened.items():
            if arguments.only is None or name in arguments.only:
                found["rows"][name] = measure(name, engine, frames, free, kinds)
                keep()
        found["times"] = times(opened, Preprocessor()(cv2.resize(frames[0][0], (CUT, CUT))))
        found["windows"] = windows()
    if arguments.only is None:
        found["rows"] = {name: row for name, row in found["rows"].items() if name in opened}
    keep()
    picture = arguments.output.with_suffix(".png")
    draw(found, picture)
    given = [f"--checkpoint {Path(source).name}" for source in arguments.checkpoint]
    given += [f'--only "{name}"' for name in arguments.only or ()]
    command = " ".join(["python benchmarks/methods.py SIRST FREE", *["--train-free"] * arguments.train_free, *given])
    arguments.output.write_text(markdown(found, picture.name, command), encoding="utf-8")
    print(arguments.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
