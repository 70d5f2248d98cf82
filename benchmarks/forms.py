"""Where the levels of mlcl-edge should stand: other forms of it, trained alike (docs/training/forms.md).

    python benchmarks/forms.py SIRST --backgrounds FREE [--form octave ...] [--fold 1] [--epochs 100] [--threads 1]

Each form is trained from random weights by recipe edge-v21 with fewer epochs; one fold is held out, whole scenes. After
every quarter of them it is measured at native size, at the end at 512x512, too, with two thresholds as mlcl-edge has
them, always the averaged weights.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from ablation import trained
from torch import Tensor, nn
from torch.nn import functional as F

from irdet.metrics.accumulator import MetricsResult
from irdet.models.cost import flop
from irdet.models.mlcl import BFPN, MLCL, Hysteresis, MLCLEdge, Network, ResidualBlock, conv, stage
from irdet.training.dataset import TrainingData, load_training_data, stretch
from irdet.training.device import keep_freed_memory
from irdet.training.recipe import Recipe, get_recipe
from irdet.training.validation import validate


def normed(*layers: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU())


class Levels(nn.Module):
    """Levels with local contrast and their pyramid: [N, inputs, H, W] -> [N, pyramid, H, W], or half of H and W."""

    def __init__(self, inputs: int, widths: tuple[int, ...], blocks: tuple[int, ...], pyramid: int, down: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            stage(before, width, count, down=down or level > 0, light=True)
            for level, (before, width, count) in enumerate(zip((inputs, *widths), widths, blocks, strict=False))
        )
        self.mlcl = nn.ModuleList(MLCL(width, light=True) for width in widths)
        self.bfpn = BFPN(widths, pyramid, align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for stage_, mlcl in zip(self.stages, self.mlcl, strict=True):
            x = stage_(x)
            levels.append(mlcl(x))
        return cast(Tensor, self.bfpn(levels))


class Octave(Network):
    """Stem and head at full size; levels at 1/2, 1/4, 1/8 and 1/16: mlcl-edge an octave finer, and a level more."""

    stride = 16

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...], pyramid: int = 16, full: int = 8) -> None:
        super().__init__()
        self.stem = normed(conv(1, full, bias=False), width=full)
        self.levels = Levels(full, widths, blocks, pyramid, down=True)
        self.expand = conv(pyramid, 4 * full, 1)
        self.head = nn.Sequential(conv(full, full), nn.ReLU(), conv(full, 1, 1))
        self.hysteresis = Hysteresis(reach=6)

    def forward(self, x: Tensor) -> Tensor:
        full = self.stem(x)
        context = F.pixel_shuffle(self.expand(self.levels(full)), 2)
        return cast(Tensor, self.hysteresis(self.head(torch.relu(context + full))))


class Ends(Network):
    """Stem and head at full size; levels at 1/4, 1/8 and 1/16, as mlcl-edge has them."""

    stride = 16

    def __init__(self, full: int = 8, fine: int = 16, pyramid: int = 32) -> None:
        super().__init__()
        self.stem = normed(conv(1, full, bias=False), width=full)
        self.down = ResidualBlock(full, fine, down=True, light=True)
        self.levels = Levels(fine, (32, 64, 64), (1, 2, 2), pyramid, down=True)
        self.expand = conv(pyramid, 4 * fine, 1)
        self.refine = nn.Sequential(conv(fine, fine), nn.ReLU(), conv(fine, 4 * full, 1))
        self.head = nn.Sequential(conv(full, full), nn.ReLU(), conv(full, 1, 1))
        self.hysteresis = Hysteresis(reach=6)

    def forward(self, x: Tensor) -> Tensor:
        full = self.stem(x)
        fine = self.down(full)
        context = F.pixel_shuffle(self.expand(self.levels(fine)), 2)
        context = F.pixel_shuffle(self.refine(torch.relu(context + fine)), 2)
        return cast(Tensor, self.hysteresis(self.head(torch.relu(context + full))))


class Half(Network):
    """Stem and head at half size, as mlcl-edge has them; levels at 1/2, 1/4, 1/8 and 1/16."""

    stride = 16

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...], pyramid: int, fine: int = 16) -> None:
        super().__init__()
        self.stem = normed(conv(4, fine, bias=False), width=fine)
        first = widths[0]
        self.widen = nn.Identity() if first == fine else normed(conv(fine, first, bias=False), width=first)
        self.levels = Levels(first, widths, blocks, pyramid, down=False)
        self.expand = conv(pyramid, fine, 1)
        self.head = nn.Sequential(conv(fine, fine), nn.ReLU(), conv(fine, 4, 1))
        self.hysteresis = Hysteresis()

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stem(F.pixel_unshuffle(x, 2))
        context = self.expand(self.levels(self.widen(fine)))
        return F.pixel_shuffle(self.hysteresis(self.head(torch.relu(context + fine))), 2)


FORMS: dict[str, Callable[[], Network]] = {
    "mlcl-edge": MLCLEdge,
    "half-thin": lambda: Half((16, 32, 48, 64), (1, 1, 2, 1), 16),
    "half": lambda: Half((24, 40, 56, 64), (1, 2, 2, 1), 24),
    "ends": Ends,
    "octave-thin": lambda: Octave((16, 32, 48, 64), (1, 1, 2, 1)),
    "octave": lambda: Octave((16, 32, 64, 64), (1, 1, 2, 2)),
}


def told(result: MetricsResult) -> str:
    return f"IoU {result.iou:.3f}  nIoU {result.niou:.3f}  Pd {result.pd:.3f}  Fa {result.fa:.0f}e-6"


def measure(name: str, recipe: Recipe, data: TrainingData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        network = trained(recipe, FORMS[name], data, name, Path(folder))
        log = (Path(folder) / "log.csv").read_text(encoding="utf-8").splitlines()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{name}: {flop(network, 512, 512) / 1e9:.2f} GFLOP at 512x512, {parameters:,} parameters")
    for row in csv.DictReader(log):
        if row["val_iou"]:
            iou, niou, pd, fa = (float(row[f"val_{key}"]) for key in ("iou", "niou", "pd", "fa"))
            after = f"  after {int(row['epoch']) + 1} epochs"
            print(f"{after}: IoU {iou:.3f}  nIoU {niou:.3f}  Pd {pd:.3f}  Fa {fa:.0f}e-6")
    cpu = torch.device("cpu")
    print(f"  at native size: {told(validate(network, data.validation, cpu))}")
    square = [stretch(frame, recipe.square) for frame in data.validation]
    print(f"  at {recipe.square}x{recipe.square}: {told(validate(network, square, cpu))}")
    if data.free_validation:
        free = validate(network, data.free_validation, cpu).false_per_frame
        print(f"  {free:.2f} false targets per target-free frame", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sirst", type=Path)
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--form", action="append", choices=FORMS, help="all of them by default")
    parser.add_argument("--fold", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    recipe = replace(
        get_recipe("edge-v21"),
        epochs=arguments.epochs,
        fold=arguments.fold,
        seed=arguments.seed,
        ema=0.999,  # edge-v21's looks back half as far as this run is long
        validate_every=max(1, arguments.epochs // 4),
    )
    data = load_training_data(arguments.sirst, arguments.backgrounds, recipe)
    for name in arguments.form or FORMS:
        measure(name, recipe, data)


if __name__ == "__main__":
    main()
