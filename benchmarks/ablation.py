"""What the parts of mlcl-edge are worth at equal cost: the table of docs/ablation.md.

    python benchmarks/ablation.py SIRST --backgrounds FREE [--recipe short-v1] [--seeds N] [--output docs/ablation.md]

Each variant has the same backbone, head, crops and number of steps, and as many operations as the others to within a
few percent. One fold is held out, whole scenes; the last averaged weights are measured, not the best epoch's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irdet.cli.console import progress
from irdet.data.crops import LabelledFrame
from irdet.metrics.accumulator import RESAMPLES, MetricsResult
from irdet.models.cost import flop
from irdet.models.mlcl import BFPN, LCL, MLCL, MLCLEdge, Network, conv
from irdet.training.dataset import TrainingData, load_training_data, stretch
from irdet.training.device import keep_freed_memory
from irdet.training.loop import train
from irdet.training.recipe import Recipe, get_recipe
from irdet.training.validation import validate

#: Width of a single LCL branch by the level's, with which it costs what three branches and their fusion do:
#: 9 v^2 + 10 w v = 17.75 w^2.
SINGLE = (np.sqrt(739) - 10) / 18


class SingleLCL(nn.Sequential):
    """One LCL branch, the middle one, as wide as the cost of three allows."""

    def __init__(self, width: int) -> None:
        inner = round(SINGLE * width)
        super().__init__(
            conv(width, inner, 3, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            conv(inner, inner, 3, dilation=2, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            conv(inner, width, 1),
        )  # fmt: skip


class Deepest(nn.Module):
    """No pyramid: the deepest level alone, brought to the finest one's size."""

    def __init__(self, pyramid: BFPN) -> None:
        super().__init__()
        self.lateral = pyramid.laterals[-1]

    def forward(self, levels: list[Tensor]) -> Tensor:
        return F.interpolate(self.lateral(levels[-1]), scale_factor=4.0, mode="bilinear", align_corners=False)


def whole() -> MLCLEdge:
    """The network as it is."""
    return MLCLEdge()


def plain() -> MLCLEdge:
    """No local contrast: the same convolutions without dilation."""
    return dilated((1, 1, 1))


def far() -> MLCLEdge:
    """The dilations that the authors take at four times the resolution."""
    return dilated((1, 3, 5))


def dilated(dilations: tuple[int, int, int]) -> MLCLEdge:
    network = MLCLEdge()
    for mlcl in network.mlcl:
        for branch, dilation in zip(cast(MLCL, mlcl).branches, dilations, strict=True):
            contrast = cast(nn.Conv2d, cast(LCL, branch)[3])
            contrast.dilation = contrast.padding = (dilation, dilation)
    return network


def single() -> MLCLEdge:
    """One branch of MLCL in place of three."""
    network = MLCLEdge()
    widths = [cast(LCL, cast(MLCL, mlcl).branches[0])[0].in_channels for mlcl in network.mlcl]
    network.mlcl = nn.ModuleList(SingleLCL(cast(int, width)) for width in widths)
    return network


def deepest() -> MLCLEdge:
    """No BFPN."""
    network = MLCLEdge()
    network.bfpn = cast(BFPN, Deepest(network.bfpn))
    return network


VARIANTS: dict[str, Callable[[], MLCLEdge]] = {
    "mlcl-edge": whole,
    "no local contrast: MLCL's convolutions without dilation": plain,
    "the authors' dilations, 1, 3, 5": far,
    "one LCL branch per level, wider": single,
    "no BFPN: the deepest level alone": deepest,
}


@dataclass(frozen=True)
class Row:
    """One run. Gains are by the whole network of the same seed, with the bounds of the middle 90 % of the bootstrap."""

    variant: str
    seed: int
    gflop: float
    parameters: int
    iou: float
    niou: float
    pd: float
    fa: float
    iou_square: float
    gain: float
    low: float
    high: float


def trained(recipe: Recipe, build: Callable[[], Network], data: TrainingData, name: str, folder: Path) -> Network:
    """Returns the averaged network of a run, whose log stays in the folder."""
    torch.manual_seed(recipe.seed)
    network = build()
    steps = -(-len(data.train) // recipe.batch) * recipe.epochs
    with progress(name, steps) as advance:
        last = train(recipe, data, folder, initial=network, advance=advance).last
    # Not load_checkpoint: the variants are no networks of irdet's.
    network.load_state_dict(torch.load(last, weights_only=True)["model"])
    return network.eval()


def interval(ours: MetricsResult, whole_: MetricsResult) -> tuple[float, float]:
    """Bounds of the difference in IoU over resampled images."""
    rng = np.random.default_rng(0)
    counts = np.array(
        [[[i.tp, i.tp + i.fp + i.fn] for i in result.per_image] for result in (ours, whole_)], np.float64
    )  # [2, images, (TP, union)]
    picks = rng.integers(counts.shape[1], size=(RESAMPLES, counts.shape[1]))
    sums = counts[:, picks].sum(axis=2)
    ious = sums[..., 0] / sums[..., 1]
    low, high = np.percentile(ious[0] - ious[1], (5, 95))
    return float(low), float(high)


def measure(data: TrainingData, recipe: Recipe, seed: int) -> list[Row]:
    cpu = torch.device("cpu")
    square: list[LabelledFrame] = [stretch(frame, recipe.square) for frame in data.validation]
    rows: list[Row] = []
    reference: MetricsResult | None = None
    for name, build in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            network = trained(replace(recipe, seed=seed), build, data, f"{name}, seed {seed}", Path(folder))
        native, stretched = validate(network, data.validation, cpu), validate(network, square, cpu)
        reference = reference or native
        low, high = interval(native, reference)
        rows.append(
            Row(
                name,
                seed,
                flop(network, 512, 512) / 1e9,
                sum(parameter.numel() for parameter in network.parameters()),
                native.iou,
                native.niou,
                native.pd,
                native.fa,
                stretched.iou,
                native.iou - reference.iou,
                low,
                high,
            )
        )
        print(rows[-1], flush=True)
    return rows


def markdown(rows: list[Row], recipe: Recipe, data: TrainingData, command: str) -> str:
    crops = -(-len(data.train) // recipe.batch) * recipe.batch * recipe.epochs
    lines = [
        "# What the parts are worth",
        "",
        f"`mlcl-edge` and {len(VARIANTS) - 1} variants of it, each trained from random weights on the same {crops:,} "
        f"crops (recipe {recipe.name}, fold {recipe.fold} held out), measured on {len(data.validation)} images of "
        "other scenes at threshold 0.5. So short a training says what a part does for learning fast, not what it is "
        "worth in the end. Gains are in IoU at native size by the whole network of the same seed; in brackets the "
        f"middle 90 % over {RESAMPLES:,} resamples of the images.",
        "",
        "| network | seed | GFLOP | parameters | IoU | gain | nIoU | Pd | Fa, 1e-6 | IoU at 512x512 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        gain = "" if row.variant == rows[0].variant else f"{row.gain:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
        lines.append(
            f"| {row.variant} | {row.seed} | {row.gflop:.2f} | {row.parameters:,} | {row.iou:.3f} | {gain} "
            f"| {row.niou:.3f} | {row.pd:.3f} | {row.fa:.0f} | {row.iou_square:.3f} |"
        )
    return "\n".join([*lines, "", f"Made by `{command}`.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sirst", type=Path)
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--recipe", default="short-v1", help="a recipe of mlcl-edge")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("docs/ablation.md"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/ablation.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    recipe = get_recipe(arguments.recipe)
    data = load_training_data(arguments.sirst, arguments.backgrounds, recipe)
    rows = [row for seed in range(arguments.seeds) for row in measure(data, recipe, seed)]
    command = f"python benchmarks/ablation.py SIRST --backgrounds FREE --recipe {recipe.name} --seeds {arguments.seeds}"
    arguments.output.write_text(markdown(rows, recipe, data, command), encoding="utf-8")
    arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
