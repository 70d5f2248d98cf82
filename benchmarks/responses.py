"""What the methods answer to the same frames, side by side: docs/responses.png.

    python benchmarks/responses.py [FRAME ...] [--model mlcl-edge] [--output docs/responses.png]

Frames are made ones (a cloud, a ridge, buildings) unless images are given. Every response is drawn on its method's own
fixed scale, with its threshold in the middle of the colours, and what lies above it outlined. Beside the methods stand
what the network answers, and the three LCL branches of its first level: the mean over channels of what each gives,
each scaled to its own largest value.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from irdet import Preprocessor
from irdet.core.images import read_image
from irdet.data.synth import SceneConfig, generate_frame
from irdet.engines.classical import METHODS, create_method
from irdet.models import load_model

Map = NDArray[np.float32]

#: Made scenes: background and seed.
SCENES = (("cumulus", 1), ("ridge", 1), ("buildings", 1))

#: Size of the made frames, px: multiples of every network's stride, and small enough to see a target.
WIDTH, HEIGHT = 192, 144

#: Colours of the circles around targets, and of the outlines of what lies above a threshold.
TRUTH, ABOVE = "#57cc99", "#4cc9f0"

#: Panels beside each other; a frame takes two rows.
COLUMNS = 7


def scenes() -> list[tuple[str, Map, NDArray[np.bool_]]]:
    """Returns name, pixels and truth of the made frames."""
    out = []
    for kind, seed in SCENES:
        frame = generate_frame(SceneConfig(WIDTH, HEIGHT, kind, targets=(2, 3), hot_pixels=(0, 0)), seed)
        out.append((kind, Preprocessor()(frame.raw).pixels, frame.mask))
    return out


def given(paths: Sequence[Path]) -> list[tuple[str, Map, NDArray[np.bool_]]]:
    """Returns name and pixels of images; nothing is known of their targets."""
    frames = [(path.stem, Preprocessor()(read_image(path)).pixels) for path in paths]
    return [(name, pixels, np.zeros(pixels.shape, bool)) for name, pixels in frames]


class Network:
    """A network that also tells what the LCL branches of its first level give."""

    def __init__(self, name: str) -> None:
        model = load_model(name)
        self.name, self.threshold, self.module = model.info.variant, model.info.threshold, model.module
        self.branches: list[Map] = []
        module: Any = self.module
        for branch in module.mlcl[0].branches:
            branch.register_forward_hook(lambda _, __, output: self.branches.append(output[0].mean(0).numpy()))

    def __call__(self, pixels: Map) -> tuple[Map, list[Map]]:
        """Returns the probability and the branches' answers, all [H, W]."""
        self.branches.clear()
        height, width = pixels.shape
        pad = [(0, -side % self.module.stride) for side in pixels.shape]
        with torch.inference_mode():
            logits = self.module(torch.from_numpy(np.pad(pixels, pad, mode="reflect"))[None, None])
        whole = logits.shape[:1:-1]
        branches = [cv2.resize(branch, whole, interpolation=cv2.INTER_NEAREST) for branch in self.branches]
        return torch.sigmoid(logits)[0, 0, :height, :width].numpy(), [b[:height, :width] for b in branches]


def panel(axes: Axes, title: str, response: Map, threshold: float | None, truth: NDArray[np.bool_]) -> None:
    """Draws one response; without a threshold it has no fixed scale."""
    top = float(response.max()) or 1.0
    axes.imshow(response, cmap="magma", vmin=0, vmax=top if threshold is None else min(1.0, 2 * threshold))
    if threshold is not None and (response >= threshold).any():
        above = np.kron(response >= threshold, np.ones((4, 4)))
        height, width = response.shape
        axes.contour(above, [0.5], colors=ABOVE, linewidths=0.7, extent=(-0.5, width - 0.5, -0.5, height - 0.5))
    ring(axes, truth)
    axes.set_title(title, fontsize=9, pad=3)


def legend(axes: Axes) -> None:
    """Says what the colours mean."""
    for row, (colour, text) in enumerate(
        ((TRUTH, "true target"), (ABOVE, "above the threshold"), ("#b5367a", "at the threshold (colours)"))
    ):
        axes.text(0.04, 0.7 - 0.2 * row, "\u25cf " + text, color=colour, fontsize=9, transform=axes.transAxes)


def ring(axes: Axes, truth: NDArray[np.bool_]) -> None:
    """Puts a circle around each target."""
    count, _, stats, centroids = cv2.connectedComponentsWithStats(truth.view(np.uint8), connectivity=8)
    for index in range(1, count):
        x, y = centroids[index]
        radius = 6 + 0.5 * max(stats[index, cv2.CC_STAT_WIDTH], stats[index, cv2.CC_STAT_HEIGHT])
        turn = np.linspace(0, 2 * np.pi, 60)
        axes.plot(x + radius * np.cos(turn), y + radius * np.sin(turn), color=TRUTH, linewidth=0.8)


def draw(frames: Sequence[tuple[str, Map, NDArray[np.bool_]]], network: Network, path: Path) -> None:
    """Draws all panels."""
    rows = 2 * len(frames)
    figure = Figure(figsize=(2.05 * COLUMNS, 1.72 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.02)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (name, pixels, truth) in enumerate(frames):
        probability, branches = network(pixels)
        places = iter(grid[2 * number : 2 * number + 2].flat)
        axes = next(places)
        low, high = float(pixels.min()), float(pixels.max())
        axes.imshow(pixels, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        ring(axes, truth)
        axes.set_title(name, fontsize=9, pad=3, fontweight="bold")
        for method_name in METHODS:
            method = create_method(method_name)
            panel(next(places), method_name, method.respond(pixels), method.THRESHOLD, truth)
        for index, branch in enumerate(branches):
            panel(next(places), f"{network.name}: LCL branch {index + 1}", branch, None, truth)
        panel(next(places), network.name, probability, network.threshold, truth)
        legend(next(places))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", nargs="*", type=Path)
    parser.add_argument("--model", default="mlcl-edge", help="an MLCL network: a name or a checkpoint")
    parser.add_argument("--output", type=Path, default=Path("docs/responses.png"))
    arguments = parser.parse_args()
    draw(given(arguments.frames) if arguments.frames else scenes(), Network(arguments.model), arguments.output)


if __name__ == "__main__":
    main()
