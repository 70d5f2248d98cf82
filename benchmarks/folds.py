"""Every fold held out in turn: what the networks of a recipe score on all the frames that they did not train on.

    python benchmarks/folds.py SIRST FREE CHECKPOINT ...

One checkpoint for each fold, as `irdet train --recipe edge-v23 --ckpt EDGE-V21 --mean EDGE-V22 --fold N` leaves them in
last.pt, where EDGE-V22 came in the same way from EDGE-V21, that from EDGE-V20, and that from random weights; which fold
it held out stands in its record. Writes docs/folds.md and docs/folds.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from irdet.cli.console import progress
from irdet.core.frame import Frame
from irdet.data.crops import LabelledFrame
from irdet.data.protocol import resize_protocol
from irdet.data.scenes import FOLDS, known_scenes
from irdet.engines.torch import TorchEngine
from irdet.metrics.accumulator import Metrics, MetricsResult
from irdet.metrics.curves import Curves, CurvesAccumulator
from irdet.models import LoadedModel, load_checkpoint
from irdet.runtime.detector import VIEWS, Detector, resized
from irdet.training.dataset import TrainingData, held_out_alike, load_training_data, stretch
from irdet.training.recipe import Recipe

DOCS = Path(__file__).resolve().parents[1] / "docs"

#: Rows of the table of thresholds.
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

#: Resamples of the scenes.
RESAMPLES = 2000

#: Side of the papers' protocol, px.
SQUARE = 512


@dataclass
class Part:
    """Frames of one form, each with what the network of its fold makes of it."""

    title: str
    maps: list[NDArray[np.float32]] = field(default_factory=list)
    masks: list[NDArray[np.bool_]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)

    def add(self, probability: NDArray[np.float32], mask: NDArray[np.bool_], name: str, fold: int) -> None:
        self.maps.append(probability)
        self.masks.append(mask)
        self.names.append(name)
        self.folds.append(fold)

    def measured(self, threshold: float = 0.5, fold: int | None = None) -> MetricsResult:
        metrics = Metrics(threshold=threshold)
        for probability, mask, name, part in zip(self.maps, self.masks, self.names, self.folds, strict=True):
            if fold in (None, part):
                metrics.add(probability, mask, name)
        return metrics.result()

    def curves(self) -> Curves:
        curves = CurvesAccumulator()
        with progress(f"curves, {self.title}", len(self.maps)) as advance:
            for probability, mask in zip(self.maps, self.masks, strict=True):
                curves.add(probability, mask)
                advance()
        return curves.result()


def resampled(result: MetricsResult) -> dict[str, NDArray[np.float64]]:
    """Each metric over resampled scenes, of which the frames come and go together; the draws are always the same."""
    images = result.per_image
    scenes = np.array(known_scenes([image.name for image in images]))
    columns = np.array(
        [
            (i.tp, i.tp + i.fp + i.fn, i.iou, 1, i.matched, i.matched + i.missed, i.false_pixels, i.pixels)
            for i in images
        ],
        np.float64,
    )
    sums = np.array([columns[scenes == scene].sum(axis=0) for scene in np.unique(scenes)])
    drawn = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    totals = sums[drawn].sum(axis=1)
    values = {"iou": totals[:, :2], "niou": totals[:, 2:4], "pd": totals[:, 4:6], "fa": totals[:, 6:] * (1e6, 1)}
    return {name: pair[:, 0] / pair[:, 1] for name, pair in values.items()}


def interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


def read_checkpoints(paths: Sequence[Path]) -> tuple[str, dict[int, LoadedModel]]:
    """Returns the recipe that all checkpoints are of, and the network of each fold."""
    models = [load_checkpoint(path)[0] for path in paths]
    recipes = [model.info.training["recipe"] for model in models]
    names, held = sorted({str(one["name"]) for one in recipes}), sorted(int(one["fold"]) for one in recipes)
    if len(names) != 1 or 0 in held or len(set(held)) != len(held):
        raise SystemExit(
            f"give checkpoints of one recipe, each with a fold of its own, not {', '.join(names)} for fold "
            f"{', '.join(map(str, held))}"
        )
    return names[0], {int(one["fold"]): model for one, model in zip(recipes, models, strict=True)}


def looking(model: LoadedModel, views: int) -> Detector:
    """A detector with the network in torch, as it was trained, on one thread."""
    return Detector(TorchEngine(model, "cpu", threads=1), views=views)


@dataclass
class Parts:
    """What networks make of the frames that they held out.

    Attributes:
        native: The frames as they come.
        square: The frames stretched, as the papers' protocol has it.
        own: Those probabilities put back on the frames' own pixels, as `irdet infer --resize` does.
        again: The masks found there, stretched as the protocol stretches the true ones.
        free: Target-free frames.
    """

    native: Part = field(default_factory=lambda: Part("native size"))
    square: Part = field(default_factory=lambda: Part(f"{SQUARE}x{SQUARE}"))
    own: Part = field(default_factory=lambda: Part(f"{SQUARE}x{SQUARE}, in own pixels"))
    again: Part = field(default_factory=lambda: Part("these masks, stretched"))
    free: Part = field(default_factory=lambda: Part("target-free"))

    @property
    def labelled(self) -> tuple[Part, ...]:
        """What is measured on frames with targets, in the order of the tables."""
        return self.native, self.square, self.own, self.again

    def add(self, detector: Detector, data: TrainingData, fold: int) -> None:
        """Runs the network of a fold on what it held out."""
        with progress(f"fold {fold}, views {detector.views}", len(data.validation)) as advance:
            for name, frame in zip(data.validation_names, data.validation, strict=True):
                self._add_labelled(detector, frame, name, fold)
                advance()
        for index, frame in enumerate(data.free_validation):
            self.free.add(detector.probability(Frame(frame.pixels)), frame.mask, f"{fold}-{index}", fold)

    def _add_labelled(self, detector: Detector, frame: LabelledFrame, name: str, fold: int) -> None:
        large = stretch(frame, SQUARE)
        probability = detector.probability(Frame(large.pixels))
        own = resized(probability, frame.mask.shape[::-1])
        _, found = resize_protocol(frame.pixels, own >= np.float32(0.5), (SQUARE, SQUARE))
        self.native.add(detector.probability(Frame(frame.pixels)), frame.mask, name, fold)
        self.square.add(probability, large.mask, name, fold)
        self.own.add(own, frame.mask, name, fold)
        self.again.add(found.astype(np.float32), large.mask, name, fold)


def frames_of(models: Mapping[int, LoadedModel], sirst: Path, free: Path) -> Iterator[tuple[int, TrainingData]]:
    """Returns each fold with its frames; refuses networks that did not hold these out."""
    for fold, model in sorted(models.items()):
        data = load_training_data(sirst, free, Recipe(fold=fold))
        if not held_out_alike(model.info, fold, data):
            raise SystemExit(f"the checkpoint of fold {fold} held other frames out, or was trained on other data")
        yield fold, data


def held_out(models: Mapping[int, LoadedModel], sirst: Path, free: Path) -> dict[int, Parts]:
    """Runs each network on what it held out, in as many ways round as each key says."""
    parts = {views: Parts() for views in VIEWS}
    for fold, data in frames_of(models, sirst, free):
        for views, part in parts.items():
            part.add(looking(models[fold], views), data, fold)
    return parts


def draw(path: Path, named: dict[str, Curves]) -> None:
    """Draws Pd over Fa, with a dot where 0.5 lies, and overlap over the threshold."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    alarms, overlap = figure.subplots(1, 2)
    for colour, (title, curves) in zip(("tab:blue", "tab:orange"), named.items(), strict=True):
        floor = 0.5e6 / curves.pixels
        alarms.plot(np.maximum(curves.fa, floor), curves.pd, color=colour, label=title)
        half = int(np.argmin(np.abs(curves.thresholds - 0.5)))
        alarms.plot([curves.fa[half]], [curves.pd[half]], "o", color=colour)
        overlap.plot(curves.thresholds, curves.iou, color=colour, label=f"IoU, {title}")
        overlap.plot(curves.thresholds, curves.niou, color=colour, linestyle="--", label=f"nIoU, {title}")
    alarms.set(xscale="log", xlabel="Fa, 1e-6", ylabel="Pd", ylim=(0.7, 1), title="a dot where the threshold is 0.5")
    overlap.axvline(0.5, color="0.5")
    overlap.set(xlabel="threshold", ylim=(0.5, 0.8), title="overlap over the threshold")
    for axes in (alarms, overlap):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=100)


def page(recipe: str, parts: Mapping[int, Parts]) -> str:
    """Returns docs/folds.md, of the frames as they come and in more ways round, by their number."""
    native, square, empty = parts[1].native, parts[1].square, parts[1].free
    lines = [
        "# Every fold held out in turn",
        "",
        f"Networks of recipe {recipe}, one for each of {len(set(native.folds))} folds of {FOLDS}: it and what it "
        "started from, back to random",
        "weights, were trained on four fifths of the scenes, and it is measured on the fifth that they did not see; "
        f"{len(native.maps)}",
        f"images and {len(empty.maps)} target-free frames in all. Threshold 0.5; in brackets 95 % of {RESAMPLES} "
        "resamples of the scenes. Made by",
        "`python benchmarks/folds.py SIRST FREE CHECKPOINT ...`.",
        "",
        "At 512x512 the protocol compares pixels that no camera took: the true mask is that of the image, stretched, "
        "and the network",
        "cannot tell on which grid. What `irdet infer --resize 512x512` finds is put back on the image's own pixels, "
        "which the third",
        "row measures; the fourth is of the masks found so, stretched as the true ones are. The papers' is the second.",
        "",
        "| | images | targets | IoU | nIoU | Pd | Fa, 1e-6 | false targets per image |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for part in parts[1].labelled:
        whole = part.measured()
        bounds = {name: interval(draws) for name, draws in resampled(whole).items()}
        cells = [
            f"{value:{form}} ({bounds[name][0]:{form}} to {bounds[name][1]:{form}})"
            for name, value, form in (
                ("iou", whole.iou, ".3f"),
                ("niou", whole.niou, ".3f"),
                ("pd", whole.pd, ".3f"),
                ("fa", whole.fa, ".0f"),
            )
        ]
        lines.append(
            f"| {part.title} | {whole.images} | {whole.targets} | {' | '.join(cells)} | {whole.false_per_frame:.2f} |"
        )
    alone = empty.measured()
    lines += [
        "",
        f"On the target-free frames {alone.false_per_frame:.2f} false targets per frame, {alone.false_targets} in all; "
        "the last column below.",
        "",
        "## By fold",
        "",
        "| fold | images | IoU | nIoU | Pd | Fa, 1e-6 | IoU at 512x512 | nIoU | Pd | Fa, 1e-6 | target-free |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for fold in sorted(set(native.folds)):
        cells = [_cells(part.measured(fold=fold)) for part in (native, square)]
        free = empty.measured(fold=fold).false_per_frame
        lines.append(f"| {fold} | {native.folds.count(fold)} | {' | '.join(cells)} | {free:.2f} |")
    lines += [
        "",
        "## The threshold",
        "",
        "| threshold | IoU | nIoU | Pd | Fa, 1e-6 | IoU at 512x512 | nIoU | Pd | Fa, 1e-6 | target-free |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for threshold in THRESHOLDS:
        cells = [_cells(part.measured(threshold)) for part in (native, square)]
        lines.append(f"| {threshold} | {' | '.join(cells)} | {empty.measured(threshold).false_per_frame:.2f} |")
    lines += [
        "",
        "## Ways round",
        "",
        "`--views`: the mean over a frame as it comes, turned by half a turn, and mirrored both ways.",
        "",
        "| views | | IoU | nIoU | Pd | Fa, 1e-6 | false targets per frame |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for views, looked in parts.items():
        for part in looked.labelled:
            whole = part.measured()
            lines.append(f"| {views} | {part.title} | {_cells(whole)} | {whole.false_per_frame:.2f} |")
        lines.append(f"| {views} | target-free | | | | | {looked.free.measured().false_per_frame:.2f} |")
    return "\n".join([*lines, "", "![curves](folds.png)", ""])


def _cells(result: MetricsResult) -> str:
    return f"{result.iou:.3f} | {result.niou:.3f} | {result.pd:.3f} | {result.fa:.0f}"


def arguments(doc: str) -> argparse.Namespace:
    """Reads the command line: the data, and one checkpoint for each fold."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("sirst", type=Path)
    parser.add_argument("free", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    return parser.parse_args()


def main() -> None:
    given = arguments(__doc__)
    recipe, models = read_checkpoints(given.checkpoints)
    parts = held_out(models, given.sirst, given.free)
    (DOCS / "folds.md").write_text(page(recipe, parts), encoding="utf-8")
    draw(DOCS / "folds.png", {part.title: part.curves() for part in (parts[1].native, parts[1].square)})


if __name__ == "__main__":
    main()
