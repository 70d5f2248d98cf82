"""Pd and false targets per frame of `irdet infer`'s path on clips with one box per frame.

    python benchmarks/clips.py CLIPS [--model M] [--views N] [--stride N] [--json FILE] [--worst DIR]

CLIPS is a folder of NAME.mp4 with NAME.csv (frame0, x, y, w, h in pixels, frame counted from 0). A target is found
where a centroid lies in the box grown by 3 px; every other target in a labelled frame is false. With --worst, each
clip's frame with the most false targets is written, annotated.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from irdet import Detector, Preprocessor, open_engine, open_source
from irdet.evaluation.video import MARGIN, read_truth
from irdet.runtime.detector import Detection
from irdet.runtime.draw import annotate


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
    boxes, preprocess = read_truth(clip.with_suffix(".csv")).boxes, Preprocessor()
    frames = found = false = 0
    worst: tuple[int, Detection | None] = (0, None)
    with open_source(clip) as source:
        for raw in source:
            if raw.index % stride or raw.index not in boxes:
                continue
            detection = detector.detect(raw.prepare(preprocess))
            (box,) = boxes[raw.index]
            inside = [box.holds((target.x, target.y), MARGIN) for target in detection.targets]
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
    parser.add_argument("--views", type=int, default=1, help="ways round in which each frame is looked at")
    parser.add_argument("--stride", type=int, default=1, help="measure every Nth frame")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--worst", type=Path, help="write each clip's worst frame into this folder")
    options = parser.parse_args()
    results = []
    with open_engine(options.model) as engine:
        detector = Detector(engine, views=options.views)
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
