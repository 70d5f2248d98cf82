"""What the shipped model gets wrong, with pictures: docs/failures.png.

    python benchmarks/failures.py SIRST FREE CLIPS [--model M] [--output FILE]

One row of missed targets of labelled images (SIRST), one of false targets of frames without any (FREE), one of false
targets of clips (CLIPS, as benchmarks/clips.py takes them): the largest missed ones, and the most confident false ones,
one of a frame and one of a clip's place. Where nothing is wrong there is no row.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from irdet import Detector, Preprocessor, open_engine, open_source
from irdet.core.targets import extract_targets
from irdet.data.sirst import load_dataset
from irdet.evaluation.video import MARGIN, read_truth

#: Pictures of a row, half their side in pixels of the frame, and every so many frames of a clip are looked at.
COLUMNS, HALF, STRIDE = 8, 24, 25

#: A target is found where a centroid lies closer, px.
NEAR = 3.0


@dataclass(frozen=True)
class Failure:
    """One picture: the greater its weight, the worse."""

    weight: float
    told: str
    pixels: NDArray[np.float32]


def cut(pixels: NDArray[np.float32], x: float, y: float) -> NDArray[np.float32]:
    """Returns what lies around a place; beyond the border lies the border."""
    wide = np.pad(pixels, HALF, mode="edge")
    return wide[round(y) : round(y) + 2 * HALF + 1, round(x) : round(x) + 2 * HALF + 1]


def missed(detector: Detector, data: Path) -> Iterator[Failure]:
    """Yields the targets that were not found."""
    preprocess = Preprocessor()
    for sample in load_dataset(data):
        raw, mask = sample.read()
        pixels = preprocess(raw)
        found = detector.detect(pixels).targets
        for target in extract_targets(mask.astype(np.float32), pixels):
            if all(np.hypot(target.x - one.x, target.y - one.y) >= NEAR for one in found):
                yield Failure(
                    target.area, f"{sample.name}\nmissed, {target.area} px", cut(pixels.pixels, target.x, target.y)
                )


def false(detector: Detector, data: Path) -> Iterator[Failure]:
    """Yields the most confident target of each frame that has none."""
    preprocess = Preprocessor()
    for sample in load_dataset(data, empty_truth=True):
        pixels = preprocess(sample.read()[0])
        for one in sorted(detector.detect(pixels).targets, key=lambda target: -target.score)[:1]:
            yield Failure(one.score, f"{sample.name}\nfalse, {one.score:.2f}", cut(pixels.pixels, one.x, one.y))


def of_clips(detector: Detector, folder: Path) -> Iterator[Failure]:
    """Yields false targets of clips, one of each place."""
    for path in sorted(folder.glob("*.mp4")):
        truth, places, preprocess = read_truth(path.with_suffix(".csv")).boxes, [], Preprocessor()
        with open_source(path) as source:
            for frame in source:
                if frame.index not in truth or frame.index % STRIDE:
                    continue
                (box,) = truth[frame.index]
                pixels = preprocess(frame.pixels)
                for one in detector.detect(pixels).targets:
                    known = any(np.hypot(one.x - x, one.y - y) < 4 * NEAR for x, y in places)
                    if not known and not box.holds((one.x, one.y), MARGIN):
                        places.append((one.x, one.y))
                        yield Failure(
                            one.score, f"{path.stem}\nfalse, {one.score:.2f}", cut(pixels.pixels, one.x, one.y)
                        )


def draw(rows: list[list[Failure]], path: Path) -> None:
    figure = Figure(figsize=(1.6 * COLUMNS, 2.0 * len(rows)), layout="constrained")
    for axes, failure in zip(
        figure.subplots(len(rows), COLUMNS).flat,
        (one for row in rows for one in [*row, *[None] * (COLUMNS - len(row))]),
        strict=True,
    ):
        axes.set_axis_off()
        if failure is not None:
            axes.imshow(failure.pixels, cmap="gray")
            axes.set_title(failure.told, fontsize=7)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sirst", type=Path)
    parser.add_argument("free", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--output", type=Path, default=Path("docs/failures.png"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with open_engine(arguments.model, device="cpu") as engine:
        detector = Detector(engine)
        found = (
            missed(detector, arguments.sirst),
            false(detector, arguments.free),
            of_clips(detector, arguments.clips),
        )
        rows = [sorted(row, key=lambda failure: -failure.weight)[:COLUMNS] for row in found]
    draw([row for row in rows if row], arguments.output)


if __name__ == "__main__":
    main()
