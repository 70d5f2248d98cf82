"""What the mapping to [0, 1] decides on scenes of 14 bits and wide dynamic range: the tables of docs/deep.md.

    python benchmarks/deep.py [--scenes N] [--seed S] [--model NAME] [--json FILE] [--output docs/deep.md]

The scenes are those of `irdet.data.synth.deep`: hot, field and stretched.

The same frames are then searched three times with the same model and threshold: 16 bits mapped by their range, cut to
8 bits (the range of the frame in 256 steps, as a display output has them), and 16 bits mapped locally.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irdet.core.frame import Frame, Preprocessor
from irdet.data.synth.deep import AREA, CONTRAST, PATTERN, SHAPE, WAYS, DeepScene, make_deep_scene
from irdet.engines import open_engine
from irdet.metrics.target import match_targets, poisson_bounds
from irdet.runtime.detector import Detector

#: What the table says, in words.
FINDINGS = (
    "Most false targets of the local path are tufts of cumulus (0.8 to 1.0 a frame in *hot* and *field* scenes of",
    "that kind while the mode was being chosen, 0.1 or less in the others): clutter that is compact and stands",
    "out by the measure that the mode levels. `--normalise local` is for scenes whose range is carried by hot",
    "structures; where everything has contrast, the range of the frame has fewer false targets. Cutting to 8 bits",
    "costs next to nothing beside the mapping itself: what the range of the frame makes too faint for the network",
    "is lost at any depth. The network was trained on such frames mapped locally, of other seeds.",
)

#: What the local path was to reach: Pd at least, and false targets per frame at most.
GOAL = (0.9, 0.1)


#: How the frames become grey, by name.
PATHS: dict[str, Callable[[NDArray[np.uint16]], NDArray[np.float32]]] = {
    "16 bits, range": lambda raw: Preprocessor()(raw).pixels,
    "8 bits, range": lambda raw: np.rint(Preprocessor()(raw).pixels * 255) / np.float32(255),
    "16 bits, local": lambda raw: Preprocessor(mode="local")(raw).pixels,
}


@dataclass
class Row:
    """Counts of one way of scenes on one path at one threshold."""

    way: str
    path: str
    threshold: float
    frames: int = 0
    targets: int = 0
    found: int = 0
    false: int = 0

    @property
    def pd(self) -> float:
        return self.found / self.targets

    @property
    def false_per_frame(self) -> float:
        return self.false / self.frames


def measure(scenes: Iterable[DeepScene], model: str | None, thresholds: tuple[float, ...]) -> list[Row]:
    rows: dict[tuple[str, str, float], Row] = {}
    with open_engine(model, device="cpu") as engine:
        detector = Detector(engine)
        for scene in scenes:
            for path, mapping in PATHS.items():
                probability = detector.probability(Frame(mapping(scene.raw), raw=scene.raw))
                for threshold in thresholds:
                    match = match_targets(probability >= threshold, scene.mask)
                    for way in (scene.way, "hot and field", "all"):
                        if way == "hot and field" and scene.way == "stretched":
                            continue
                        key = (way, path, threshold)
                        row = rows.setdefault(key, Row(*key))
                        row.frames += 1
                        row.targets += len(match.truth)
                        row.found += len(match.pairs)
                        row.false += len(match.false)
    order = (*WAYS[:2], "hot and field", WAYS[2], "all")
    return sorted(rows.values(), key=lambda row: (row.threshold, order.index(row.way), list(PATHS).index(row.path)))


def goal(rows: list[Row]) -> list[str]:
    """Says on which scenes the local path reaches `GOAL`: at the lowest threshold that does, else at the lowest."""
    told: dict[bool, list[str]] = {True: [], False: []}
    for way in (*WAYS, "all"):
        found = [row for row in rows if row.way == way and row.path == "16 bits, local"]
        reached = [row for row in found if row.pd >= GOAL[0] and row.false_per_frame <= GOAL[1]]
        row = (reached or found)[0]
        told[bool(reached)].append(f"*{way}* ({row.pd:.3f} at {row.false_per_frame:.3f}, threshold {row.threshold:g})")
    lines = [f"The goal was a Pd of {GOAL[0]:g} at no more than {GOAL[1]:g} false targets a frame, mapped locally:", ""]
    return [*lines, *(f"- {'met' if met else 'not met'} on {', '.join(those)}" for met, those in told.items() if those)]


def markdown(rows: list[Row], scenes: list[DeepScene], command: str) -> str:
    scrs = [target.scr for scene in scenes for target in scene.targets]
    spans = [scene.span for scene in scenes]
    noises = [scene.noise for scene in scenes]
    lines = [
        "# Deep frames of wide dynamic range",
        "",
        "The backgrounds are those of `irdet synth`, widened so that the counts between the 0.1st and the 99.9th "
        "percentile of each frame span 55 to 90 % of the full scale of 14 bits, in three ways:",
        "",
        "- *hot*: the scene keeps its contrast; land, or a few large structures where there is none, are far hotter",
        "- *field*: the scene keeps its contrast, and a smooth field (warm optics, a warm horizon) lies over it",
        "- *stretched*: the contrast of everything is stretched, down to the smallest scrap of cloud",
        "",
        f"{len(scenes)} frames of {SHAPE[1]}x{SHAPE[0]} px with {len(scrs)} targets of {AREA[0]:g} to {AREA[1]:g} px. "
        f"Measured: span {min(spans):.2f} to {max(spans):.2f} of the full scale (median {np.median(spans):.2f}); "
        f"temporal noise {min(noises):.1f} to {max(noises):.1f} counts, and a fixed pattern of {PATTERN[0]:g} to "
        f"{PATTERN[1]:g} counts beside it; signal-to-clutter ratio {min(scrs):.1f} to {max(scrs):.1f} (median "
        f"{np.median(scrs):.1f}). No stuck pixels: the bad-pixel map takes them. Own contrast of *hot* and *field* "
        f"scenes: standard deviation {CONTRAST[0]:g} to {CONTRAST[1]:g} counts.",
        "",
        *FINDINGS,
        "",
        *goal(rows),
        "",
        "| threshold | scenes | path | Pd | false per frame (90 % bounds) | targets | frames |",
        "|--:|---|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        low, high = (bound / row.frames for bound in poisson_bounds(row.false))
        lines.append(
            f"| {row.threshold:g} | {row.way} | {row.path} | {row.pd:.3f} "
            f"| {row.false_per_frame:.3f} ({low:.3f} to {high:.3f}) | {row.targets} | {row.frames} |"
        )
    return "\n".join([*lines, "", f"Made by `{command}`.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=270)
    parser.add_argument("--seed", type=int, default=50_000, help="number of the first scene")
    parser.add_argument("--model")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.5, 0.9, 0.97, 0.99])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/deep.md"))
    arguments = parser.parse_args()
    scenes = [make_deep_scene(arguments.seed + number) for number in range(arguments.scenes)]
    rows = measure(scenes, arguments.model, tuple(arguments.thresholds))
    command = f"python benchmarks/deep.py --scenes {arguments.scenes} --seed {arguments.seed} --thresholds "
    command += " ".join(f"{value:g}" for value in arguments.thresholds)
    arguments.output.write_text(markdown(rows, scenes, command), encoding="utf-8")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), encoding="utf-8")
    print(arguments.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
