"""What the mapping to [0, 1] decides on scenes of 14 bits and wide dynamic range: the tables of docs/deep.md.

    python benchmarks/deep.py [--scenes N] [--seed S] [--model NAME] [--json FILE] [--output docs/deep.md]

The backgrounds are those of `irdet synth`, widened so that the counts between the 0.1st and the 99.9th percentile of
each frame span 55 to 90 % of the full scale of 14 bits, in three ways:

- hot: the scene keeps its contrast, and land, or a few large structures where there is none, are far hotter;
- field: the scene keeps its contrast, and a smooth field (warm optics, a warm horizon) lies over it;
- stretched: the contrast of everything is stretched, down to the smallest scrap of cloud.

The same frames are then searched three times with the same model and threshold: 16 bits mapped by their range, cut to
8 bits (the range of the frame in 256 steps, as a display output has them), and 16 bits mapped locally.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.frame import Frame, Preprocessor
from irdet.data.synth import KINDS, Placed, insert_targets, shape_of_area
from irdet.data.synth.canvas import Canvas, compose, openness
from irdet.data.synth.exposure import TOPS, expose
from irdet.data.synth.fields import log_uniform
from irdet.data.synth.sensor import make_sensor
from irdet.data.synth.targets import SynthTarget
from irdet.engines import open_engine
from irdet.metrics.target import match_targets, poisson_bounds
from irdet.runtime.detector import Detector

WAYS = ("hot", "field", "stretched")

#: Height and width of the frames, px.
SHAPE = (256, 320)

#: Share of the full scale that the scene spans, between these percentiles.
SPAN, PERCENTILES = (0.55, 0.90), (0.1, 99.9)

#: Standard deviations, counts: of the temporal noise, of the fixed pattern that is left, of the scene's own contrast.
NOISE, PATTERN, CONTRAST = (4.0, 25.0), (1.0, 12.0), (5.0, 500.0)

#: Targets of a scene, their area (px), and the ratios asked for; those that come out below the least are not kept.
TARGETS, AREA, SCR, LEAST_SCR = (2, 4), (3.0, 80.0), (5.5, 30.0), 5.0

TOP = TOPS[16]

#: What the table says, in words.
FINDINGS = (
    "Most false targets of the local path are tufts of cumulus (0.8 to 1.0 a frame in *hot* and *field* scenes of",
    "that kind while the mode was being chosen, 0.1 or less in the others): clutter that is compact and stands",
    "out by the measure that the mode levels. `--normalise local` is for scenes whose range is carried by hot",
    "structures; where everything has contrast, the range of the frame has fewer false targets. Cutting to 8 bits",
    "costs next to nothing beside the mapping itself: what the range of the frame makes too faint for the network",
    "is lost at any depth.",
)


@dataclass(frozen=True, eq=False)
class Scene:
    """A frame with its truth."""

    way: str
    kind: str
    noise: float
    span: float
    raw: NDArray[np.uint16]
    mask: NDArray[np.bool_]
    targets: tuple[SynthTarget, ...]


def make_scene(seed: int) -> Scene:
    """Makes the scene of a number: ways and kinds of background in turns."""
    rng = np.random.default_rng([seed, 14])
    way, kind = WAYS[seed % len(WAYS)], tuple(KINDS)[seed // len(WAYS) % len(KINDS)]
    canvas = Canvas(*SHAPE, float(SHAPE[0]))
    exposed = expose(rng, KINDS[kind](rng, canvas), canvas, 16, float(rng.uniform(0.6, 1.4)))
    sky = openness(exposed.layers)
    counts = _widened(rng, way, compose(exposed.layers), sky)
    noise = log_uniform(rng, *NOISE)
    level = float(counts.mean()), float(counts.std())
    sensor = make_sensor(
        rng, SHAPE, TOP, level, noise=noise, fixed_pattern=rng.uniform(*PATTERN), vignetting=0.0, hot_pixels=0
    )
    read = sensor.expose(counts, rng)
    raw, mask, targets = insert_targets(read, _placed(rng, read, sky > 0.5), dtype=np.uint16, top=TOP)
    low, high = np.percentile(raw, PERCENTILES)
    return Scene(way, kind, noise, float(high - low) / TOP, raw.astype(np.uint16), mask, targets)


def _widened(
    rng: np.random.Generator, way: str, counts: NDArray[np.float32], sky: NDArray[np.float32]
) -> NDArray[np.float32]:
    span = rng.uniform(*SPAN) * TOP

    def spanned(values: NDArray[np.float32]) -> float:
        low, high = np.percentile(values, PERCENTILES)
        return float(high - low)

    if way == "stretched":
        counts = counts * np.float32(span / spanned(counts))
    else:
        counts = (counts - counts.mean()) * np.float32(log_uniform(rng, *CONTRAST) / counts.std())
        field = _structures(rng, sky) if way == "hot" else _smooth(rng)
        low, high = 0.0, 4.0 * TOP
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if spanned(counts + np.float32(middle) * field) < span else (low, middle)
        counts = counts + np.float32(low) * field
    room = 0.98 * TOP - span
    floor = np.float32(rng.uniform(0.02 * TOP, room))
    return counts - np.float32(np.percentile(counts, PERCENTILES[0])) + floor


def _structures(rng: np.random.Generator, sky: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 on what is hot: the land, or large ellipses and boxes; edges as soft as optics make them."""
    hot = 1.0 - sky
    if not 0.02 < hot.mean() < 0.98:
        drawn = np.zeros(SHAPE, np.uint8)
        for _ in range(int(rng.integers(1, 4))):
            centre = int(rng.integers(0, SHAPE[1])), int(rng.integers(SHAPE[0] // 2, SHAPE[0]))
            axes = int(rng.integers(18, 60)), int(rng.integers(18, 60))
            if rng.random() < 0.5:
                cv2.ellipse(drawn, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
            else:
                far = centre[0] + axes[0], centre[1] + axes[1]
                cv2.rectangle(drawn, (centre[0] - axes[0], centre[1] - axes[1]), far, 1, -1)
        hot = drawn.astype(np.float32)
    return cv2.GaussianBlur(hot.astype(np.float32), (0, 0), float(rng.uniform(0.6, 1.4)))


def _smooth(rng: np.random.Generator) -> NDArray[np.float32]:
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]] / SHAPE[0]
    field = np.zeros(SHAPE)
    for _ in range(4):
        angle, waves, phase = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.0), rng.uniform(0, 2 * np.pi)
        field += np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return (field / np.ptp(field)).astype(np.float32)


def _placed(rng: np.random.Generator, read: NDArray[np.float32], sky: NDArray[np.bool_]) -> list[Placed]:
    """Places targets, most of them before the sky; those whose ratio comes out too low are left out."""
    placed: list[Placed] = []
    for number in range(int(rng.integers(TARGETS[0], TARGETS[1] + 1))):
        for _ in range(40):
            x, y = rng.uniform(20, SHAPE[1] - 21), rng.uniform(20, SHAPE[0] - 21)
            if rng.random() > 0.15 and not sky[round(y), round(x)]:
                continue
            if any(np.hypot(other.x - x, other.y - y) < 30 for other in placed):
                continue
            area = log_uniform(rng, *AREA)
            extended = ("ellipse", "plane", "drone", "bird")
            shape = str(rng.choice(extended if area >= 20 else ("point", *extended) if area >= 8 else ("point",)))
            drawn = shape_of_area(shape, area, rng.uniform(0, 2 * np.pi), 0.8, rng.random())
            one = Placed(number, drawn, x, y, log_uniform(rng, *SCR))
            truth = insert_targets(read, [*placed, one], dtype=np.uint16, top=TOP)[2]
            if len(truth) == len(placed) + 1 and min(target.scr for target in truth) >= LEAST_SCR:
                placed.append(one)
                break
    return placed


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


def measure(scenes: Iterable[Scene], model: str | None, thresholds: tuple[float, ...]) -> list[Row]:
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


def markdown(rows: list[Row], scenes: list[Scene], command: str) -> str:
    scrs = [target.scr for scene in scenes for target in scene.targets]
    spans = [scene.span for scene in scenes]
    noises = [scene.noise for scene in scenes]
    lines = [
        "# Deep frames of wide dynamic range",
        "",
        " ".join(__doc__.split("\n\n", 2)[2].split("- hot")[0].split()),
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
        "| threshold | scenes | path | Pd | false per frame (90 % bounds) | targets | frames |",
        "|--:|---|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        low, high = (bound / row.frames for bound in poisson_bounds(row.false))
        lines.append(
            f"| {row.threshold:g} | {row.way} | {row.path} | {row.found / row.targets:.3f} "
            f"| {row.false / row.frames:.3f} ({low:.3f} to {high:.3f}) | {row.targets} | {row.frames} |"
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
    scenes = [make_scene(arguments.seed + number) for number in range(arguments.scenes)]
    rows = measure(scenes, arguments.model, tuple(arguments.thresholds))
    command = f"python benchmarks/deep.py --scenes {arguments.scenes} --seed {arguments.seed} --thresholds "
    command += " ".join(f"{value:g}" for value in arguments.thresholds)
    arguments.output.write_text(markdown(rows, scenes, command), encoding="utf-8")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), encoding="utf-8")
    print(arguments.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
