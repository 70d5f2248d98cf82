"""Pd and false targets per frame of `irdet infer`'s path on clips with one box per frame.

    python benchmarks/clips.py CLIPS [--model M] [--stride N] [--json FILE] [--worst DIR]

CLIPS is a folder of NAME.mp4 with NAME.csv (frame0, x, y, w, h in pixels, frame counted from 0). A target is found
where a centroid lies in the box grown by 3 px; every other target in a labelled frame is false. With --worst, each
clip's frame with the most false targets is written, annotated.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from irdet import Detector, Preprocessor, open_engine, open_source
from irdet.core.targets import Target
from irdet.runtime.detector import Detection
from irdet.runtime.draw import annotate

#: The boxes are loose, and so is the measure: pixels by which they are grown.
MARGIN = 3.0


@dataclass(frozen=True)
class Box:
    """Where the one target of a frame is, px: the left upper corner, and the size."""

    x: float
    y: float
    width: float
    height: float

    def holds(self, target: Target) -> bool:
        """Tells whether a target counts as the one in the box."""
        return (
            -MARGIN <= target.x - self.x <= self.width + MARGIN and -MARGIN <= target.y - self.y <= self.height + MARGIN
        )


def read_boxes(clip: Path) -> dict[int, Box]:
    """Returns the boxes of a clip by frame."""
    with clip.with_suffix(".csv").open(newline="") as file:
        return {int(row["frame0"]): Box(*(float(row[k]) for k in ("x", "y", "w", "h"))) for row in csv.DictReader(file)}


@dataclass(frozen=True)
class ClipResult:
    """Counts over one clip's labelled frames."""

    clip: str
    frames: int
    found: int
    false_targets: int

    @property
    def pd(self) -> float:
        return self.found / max(1, self.frames)

    @property
    def false_per_frame(self) -> float:
        return self.false_targets / max(1, self.frames)


def measure(clip: Path, detector: Detector, stride: int) -> tuple[ClipResult, Detection | None]:
    """Runs a detector over a clip; also returns the frame with the most false targets."""
    boxes, preprocess = read_boxes(clip), Preprocessor()
    frames = found = false = 0
    worst: tuple[int, Detection | None] = (0, None)
    with open_source(clip) as source:
        for raw in source:
            if raw.index % stride or raw.index not in boxes:
                continue
            detection = detector.detect(raw.prepare(preprocess))
            inside = [boxes[raw.index].holds(target) for target in detection.targets]
            frames += 1
            found += any(inside)
            false += len(inside) - sum(inside)
            if len(inside) - sum(inside) > worst[0]:
                worst = len(inside) - sum(inside), detection
    return ClipResult(clip.stem, frames, found, false), worst[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", help="the shipped model by default")
    parser.add_argument("--stride", type=int, default=1, help="measure every Nth frame")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--worst", type=Path, help="write each clip's worst frame into this folder")
    options = parser.parse_args()
    results = []
    with open_engine(options.model) as engine:
        detector = Detector(engine)
        for clip in sorted(options.clips.glob("*.mp4")):
            result, worst = measure(clip, detector, options.stride)
            results.append(result)
            print(
                f"{result.clip:24} {result.frames:5} frames  Pd {result.pd:.3f}  "
                f"{result.false_per_frame:.3f} false targets per frame",
                flush=True,
            )
            if options.worst and worst is not None:
                options.worst.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(options.worst / f"{result.clip}.png"), annotate(worst.frame, worst.targets))
    frames = sum(result.frames for result in results)
    print(
        f"{'all':24} {frames:5} frames  Pd {sum(r.found for r in results) / frames:.3f}  "
        f"{sum(r.false_targets for r in results) / frames:.3f} false targets per frame"
    )
    if options.json:
        rows = [{**asdict(r), "pd": r.pd, "false_per_frame": r.false_per_frame} for r in results]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
