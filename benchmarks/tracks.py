"""What tracking costs, and what it makes of real clips.

    python benchmarks/tracks.py [CLIPS] [--model M] [--threads N] [--frames N] [--json FILE]

CLIPS is a folder of videos, each with NAME.csv (frame, x, y, w, h in pixels, frame counted from 0). Each is searched
once, and its targets are followed with several settings; a target is found where a point lies in its box grown by 3 px.

The cost is processor time of one thread, the median over frames; the memory is that of the process after so many
frames of five targets that come and go.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from irdet import Detector, Preprocessor, Target, Tracker, TrackerOptions, open_engine, open_source
from irdet.core.machine import read_machine
from irdet.evaluation.video import ClipScore, Scorer, find_clips, read_truth, total
from irdet.runtime.follow import Follower
from irdet.runtime.sources import FALLBACK_FPS

#: Settings that are compared on clips: name -> options and whether the camera's motion is taken out.
SETTINGS = {
    "3 of 5 (default)": (TrackerOptions(), False),
    "3 of 5, stabilised": (TrackerOptions(), True),
    "6 of 9": (TrackerOptions(confirm=6, window=9), False),
    "6 of 9, stabilised": (TrackerOptions(confirm=6, window=9), True),
}

#: Loads whose cost is measured: name -> moving targets, false ones that jump, and side of the square they are in, px.
LOADS = {
    "1 target": (1, 0, 512),
    "50 targets": (50, 0, 512),
    "45 targets and 5 false ones": (45, 5, 512),
    "500 targets": (500, 0, 512),
    "5,000 false targets": (0, 5000, 512),
    "5,000 false targets on top of each other": (0, 5000, 30),
}


def target(x: float, y: float) -> Target:
    return Target(x, y, (round(x) - 1, round(y) - 1, 3, 3), 9, 1.0, 1.0, 200, 60, 2, 100, 10.0)


def frames(moving: int, false: int, side: float, count: int) -> Iterator[list[Target]]:
    """Targets of so many frames: some move straight, found nine times in ten, some are anywhere."""
    rng = np.random.default_rng(0)
    places, velocities = rng.uniform(0, side, (moving, 2)), rng.normal(0, 1, (moving, 2))
    for _ in range(count):
        places += velocities
        seen = places[rng.random(moving) < 0.9]
        seen = seen + rng.normal(0, 0.3, seen.shape)
        yield [target(*place) for place in [*seen.tolist(), *rng.uniform(0, side, (false, 2)).tolist()]]


def cost(moving: int, false: int, side: float) -> dict[str, float]:
    """Milliseconds of processor time per frame."""
    tracker, spent = Tracker(), []
    for index, targets in enumerate(frames(moving, false, side, 60 if false > 1000 else 400)):
        start = time.thread_time()
        tracker.update(targets, index / 25)
        spent.append(1e3 * (time.thread_time() - start))
    spent = sorted(spent[20:])
    return {"median_ms": statistics.median(spent), "p99_ms": spent[int(0.99 * len(spent))]}


def memory(count: int) -> list[float]:
    """Megabytes of the process at tenths of so many frames."""
    some = list(frames(0, 5, 320, 200))
    tracker, told = Tracker(), []
    for index in range(count):
        tracker.update(some[index % len(some)], index / 25)
        if (index + 1) % (count // 10) == 0:
            told.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return told


def clips(folder: Path, model: str | None, threads: int | None) -> dict[str, list[ClipScore]]:
    """Scores of each setting on each clip, the sum last."""
    scores: dict[str, list[ClipScore]] = {name: [] for name in SETTINGS}
    with open_engine(model, threads=threads) as engine:
        detector = Detector(engine)
        for clip, file in find_clips(folder):
            truth = read_truth(file)
            runs = {name: (Follower(*setting), Scorer(truth)) for name, setting in SETTINGS.items()}
            preprocess = Preprocessor()
            with open_source(clip) as source:
                seconds = 1 / (source.fps or FALLBACK_FPS)
                for raw in source:
                    detection = detector.detect(raw.prepare(preprocess))
                    for follow, scorer in runs.values():
                        scorer.add(follow(detection), seconds)
            for name, (_, scorer) in runs.items():
                scores[name].append(scorer.result(clip.stem))
            print(f"searched {clip.name}", flush=True)
    return {name: [*some, total(some)] for name, some in scores.items()}


def row(*cells: object) -> str:
    shown = ("-" if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells)
    return "| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else f"{cell}" for cell in shown) + " |"


def table(scores: dict[str, list[ClipScore]]) -> str:
    """The settings on all clips together, then the clips with the first setting, as Markdown."""
    rule = "| --- |" + " ---: |" * 8
    heads = ("Pd", "false/frame", "tracks", "false", "false/min", "purity", "switches", "frames to confirm")
    first = next(iter(scores.values()))
    lines = [
        row("clip, targets of single frames", "frames", "Pd", "false/frame", "false/min"),
        "| --- |" + " ---: |" * 4,
    ]
    for score in first:
        one = score.detections
        lines.append(row(score.name, one.frames, one.pd, one.false_per_frame, 60 * one.false / one.seconds))
    for name, some in scores.items():
        lines += ["", row(f"tracks, {name}", *heads), rule]
        for score in some:
            one = score.tracks
            per_minute = 60 * one.false_tracks / one.points.seconds
            lines.append(
                row(
                    *(score.name, one.points.pd, one.points.false_per_frame, one.tracks, one.false_tracks, per_minute),
                    *(one.purity, one.switches, one.frames_to_confirm),
                )
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="?", help="folder of clips with their truth")
    parser.add_argument("--model", help="the shipped model by default")
    parser.add_argument("--threads", type=int, help="CPU threads of the engine")
    parser.add_argument("--frames", type=int, default=100_000, help="frames of the run whose memory is measured")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": read_machine().to_dict(), "cost": {}}
    for name, load in LOADS.items():
        results["cost"][name] = one = cost(*load)
        print(
            f"{name:42} {one['median_ms']:7.2f} ms per frame, one in a hundred above {one['p99_ms']:.2f} ms", flush=True
        )
    if options.frames:
        results["memory_mb"] = told = memory(options.frames)
        print(f"memory of the process over {options.frames} frames, MB: {' '.join(f'{value:.1f}' for value in told)}")
    if options.clips:
        scores = clips(options.clips, options.model, options.threads)
        results["clips"] = {name: [score.to_dict() for score in some] for name, some in scores.items()}
        print(table(scores))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
