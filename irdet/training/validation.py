"""Measuring a network on labelled frames in memory, and a picture of what it sees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from irdet.core.frame import pad_to_multiple
from irdet.core.images import write_png
from irdet.data.crops import LabelledFrame, Mined
from irdet.metrics.accumulator import Metrics, MetricsResult
from irdet.models.mlcl import Network
from irdet.training.device import half_type

#: Frames in the picture, and the side of each in it, px.
SHOWN, SIDE = 12, 256

#: Places at this probability are worth another look in training; so many of each frame at most, so that one busy
#: frame does not take all the crops.
MINED_THRESHOLD, MINED_PER_FRAME = 0.15, 12

#: Side of the square around each pixel of a target in which nothing counts as a false alarm, px.
TRUTH_MARGIN = 15


@torch.inference_mode()
def predict(module: Network, pixels: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
    """Computes one frame's probability map, padded to the stride and cropped back as at run time.

    Args:
        module: A network in evaluation mode, which gives logits.
        pixels: float32 [H, W] in [0, 1].
        device: Where the network is.

    Returns:
        float32 [H, W] in [0, 1].
    """
    height, width = pixels.shape
    padded = torch.from_numpy(np.ascontiguousarray(pad_to_multiple(pixels, module.stride)))
    logits = module(padded[None, None].to(device, memory_format=torch.channels_last))
    return torch.sigmoid(logits.float())[0, 0, :height, :width].cpu().numpy()


def validate(module: Network, frames: Sequence[LabelledFrame], device: torch.device) -> MetricsResult:
    """Measures a network in evaluation mode at threshold 0.5."""
    metrics = Metrics()
    for number, frame in enumerate(frames):
        metrics.add(predict(module, frame.pixels, device), frame.mask, str(number))
    return metrics.result()


def mine(module: Network, frames: Iterable[LabelledFrame], device: torch.device) -> Mined:
    """Finds what a network in evaluation mode takes, or nearly takes, for targets where there are none.

    Computed in the type that training computes in: where to look needs no more, and it is half of the time.

    Returns:
        The `MINED_PER_FRAME` highest places in each frame at `MINED_THRESHOLD`, away from its targets.
    """
    half = half_type(device)
    found = []
    for number, frame in enumerate(frames):
        with torch.autocast(device.type, half, enabled=half is not None):
            probability = predict(module, frame.pixels, device)
        near = cv2.dilate(frame.mask.astype(np.uint8), np.ones((TRUTH_MARGIN, TRUTH_MARGIN), np.uint8))
        probability[near > 0] = 0  # the rim of a target is no false alarm
        height, width = probability.shape
        count, labels = cv2.connectedComponents((probability >= MINED_THRESHOLD).astype(np.uint8), connectivity=8)
        peaks = []
        for label in range(1, count):
            inside = np.where(labels == label, probability, 0)
            y, x = np.unravel_index(int(inside.argmax()), inside.shape)
            peaks.append((float(inside[y, x]), float(x) / width, float(y) / height))
        found += [(number, x, y) for _, x, y in sorted(peaks, reverse=True)[:MINED_PER_FRAME]]
    return tuple(found)


def draw_predictions(module: Network, frames: Sequence[LabelledFrame], device: torch.device, path: Path) -> None:
    """Writes a sheet of frames spread over the validation part: truth outlined green, prediction red."""
    picks = np.unique(np.linspace(0, len(frames) - 1, SHOWN).round().astype(int))
    tiles = [_tile(frames[i], predict(module, frames[i].pixels, device)) for i in picks]
    columns = 4
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    write_png(path, np.vstack(rows))


def _tile(frame: LabelledFrame, probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    height, width = frame.mask.shape
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = np.round(cv2.resize(frame.pixels, size, interpolation=cv2.INTER_LINEAR) * 255).astype(np.uint8)
    tile = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for mask, colour in ((frame.mask, (80, 220, 80)), (probability >= 0.5, (60, 60, 255))):
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, outlines, -1, colour, 1)
    return cv2.copyMakeBorder(tile, 0, SIDE - size[1], 0, SIDE - size[0], cv2.BORDER_CONSTANT)
