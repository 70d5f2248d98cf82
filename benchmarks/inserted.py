"""Targets inserted into real frames that a network did not see: how faint, how small and how close they may be.

    python benchmarks/inserted.py SIRST FREE CHECKPOINT ...

One checkpoint for each fold, as for benchmarks/folds.py. The frames are those that its network held out: target-free
ones, and images whose targets are inpainted. Writes docs/inserted.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from folds import DOCS, arguments, frames_of, looking, read_checkpoints
from numpy.typing import NDArray

from irdet.cli.console import progress
from irdet.core.frame import Frame, Preprocessor
from irdet.data.crops import as_counts, without_targets
from irdet.data.synth import Placed, SynthTarget, insert_targets, shape_of_area
from irdet.data.synth.config import Range
from irdet.data.synth.fields import log_uniform
from irdet.data.synth.targets import SHAPES
from irdet.metrics.target import Components, match_components
from irdet.runtime.detector import Detector

Counts = NDArray[np.generic]

#: Targets alone: how many in a frame, how far from each other (px), signal-to-clutter ratio, and area (px).
ALONE, APART, SCR, AREA = 3, 30.0, (4.0, 30.0), (3.0, 80.0)

#: Pairs: free pixels between the two, and what both are like: easily found where they stand alone.
GAP, PAIR_SCR, PAIR_AREA = (1.0, 32.0), (10.0, 30.0), (4.0, 30.0)

#: Pixels that a target keeps from the frame's edge, places that are tried for it, and where shapes have room to show.
EDGE, TRIES, EXTENDED = 12.0, 60, 12.0

#: Rows and columns of the tables, and the ratio from which on a target counts as one that stands out.
RATIOS, AREAS, GAPS = (0, 5, 8, 12, 20, np.inf), (0, 8, 25, np.inf), (1, 2, 4, 8, 16, 32)
CONTRASTS, OUTSTANDING = (0, 8, 16, 32, 64, np.inf), 6.0


@dataclass(frozen=True)
class Inserted:
    """A target that was inserted.

    Attributes:
        scr: Signal-to-clutter ratio as measured in the finished frame.
        area: Pixels of its mask.
        contrast: What its strongest pixel adds, in counts of 256 for the range.
        gap: Free pixels between it and its neighbour; infinite where it stands alone.
        found: Whether a found target stands for it.
    """

    scr: float
    area: float
    contrast: float
    gap: float
    found: bool


def drawn(rng: np.random.Generator, number: int, place: tuple[float, float], area: float, scr: float) -> Placed:
    """Draws a target: a point where it is small, any shape where it is not."""
    kind = str(rng.choice(tuple(SHAPES))) if area >= EXTENDED else "point"
    shape = shape_of_area(kind, area, rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.4), rng.random())
    return Placed(number, shape, *place, scr)


def alone(rng: np.random.Generator, height: int, width: int) -> list[Placed]:
    """Draws targets that are far from each other."""
    placed: list[Placed] = []
    for number in range(ALONE):
        for _ in range(TRIES):
            place = rng.uniform(EDGE, width - EDGE), rng.uniform(EDGE, height - EDGE)
            if all(np.hypot(one.x - place[0], one.y - place[1]) > APART for one in placed):
                placed.append(drawn(rng, number, place, log_uniform(rng, *AREA), log_uniform(rng, *SCR)))
                break
    return placed


def pair(rng: np.random.Generator, height: int, width: int) -> tuple[list[Placed], float]:
    """Draws two targets beside each other, as discs of their areas would lie; and the gap between these, px."""
    areas = log_uniform(rng, *PAIR_AREA), log_uniform(rng, *PAIR_AREA)
    gap = log_uniform(rng, *GAP)
    distance = sum(np.sqrt(area / np.pi) for area in areas) + gap
    for _ in range(TRIES):
        angle = rng.uniform(0, 2 * np.pi)
        x, y = rng.uniform(EDGE, width - EDGE), rng.uniform(EDGE, height - EDGE)
        other = x + distance * np.cos(angle), y + distance * np.sin(angle)
        if EDGE <= other[0] <= width - EDGE and EDGE <= other[1] <= height - EDGE:
            places = enumerate(zip(((x, y), other), areas, strict=True))
            return [drawn(rng, n, place, area, log_uniform(rng, *PAIR_SCR)) for n, (place, area) in places], gap
    return [], gap


@dataclass
class Search:
    """What was inserted in one way, and what was found.

    Attributes:
        targets: Every target.
        false: Found targets that stand for none of them.
        frames: Frames that were searched.
    """

    targets: list[Inserted] = field(default_factory=list)
    false: int = 0
    frames: int = 0

    def add(
        self, detector: Detector, raw: Counts, targets: Sequence[SynthTarget], gap: float, counts: Range | None = None
    ) -> None:
        """Searches a frame whose `counts` become black and white, as `irdet infer` maps it where None."""
        probability = detector.probability(Frame(Preprocessor(counts)(raw).pixels))
        truth = Components(
            np.array([(target.x, target.y) for target in targets]).reshape(-1, 2),
            np.array([target.area for target in targets], np.int64),
        )
        match = match_components(Components.of(probability >= np.float32(0.5)), truth)
        for index, target in enumerate(targets):
            contrast = 255 * target.amplitude / np.iinfo(raw.dtype).max
            self.targets.append(Inserted(target.scr, target.area, contrast, gap, index not in match.missed))
        self.false += len(match.false)
        self.frames += 1

    @property
    def outstanding(self) -> list[Inserted]:
        """The targets that stand out from what is around them, however faint they are."""
        return [target for target in self.targets if target.scr >= OUTSTANDING]


def cell(targets: Sequence[Inserted]) -> str:
    """Returns the share that was found, and of how many."""
    return f"{np.mean([target.found for target in targets]):.3f} of {len(targets)}" if targets else "-"


def per_frame(search: Search) -> str:
    """Returns the false targets per frame."""
    return f"{search.false / search.frames:.3f}"


def bands(edges: Sequence[float]) -> Iterator[tuple[str, float, float]]:
    """Returns what each band of a table is called, and its ends."""
    for low, high in itertools.pairwise(edges):
        name = f"below {high:g}" if low == 0 else f"{low:g} or more" if high == np.inf else f"{low:g} to {high:g}"
        yield name, low, high


def table(
    title: str, edges: Sequence[float], targets: Sequence[Inserted], value: Callable[[Inserted], float]
) -> Iterator[str]:
    """Returns the lines of a table of what was found, by a value and by area."""
    by_area = list(bands(AREAS))
    yield f"| {title} | {' | '.join(f'{name} px' for name, _, _ in by_area)} | all |"
    yield f"| --- |{' ---: |' * (len(by_area) + 1)}"
    for name, low, high in bands(edges):
        row = [target for target in targets if low <= value(target) < high]
        cells = [cell([target for target in row if least <= target.area < most]) for _, least, most in by_area]
        yield f"| {name} | {' | '.join([*cells, cell(row)])} |"


def page(recipe: str, folds: Sequence[int], lone: Search, ranged: Search, paired: Search) -> str:
    """Returns docs/inserted.md."""
    lines = [
        "# Targets inserted into real frames",
        "",
        f"Networks of recipe {recipe}, folds {', '.join(map(str, folds))} held out, each on the frames that it did not "
        "see: target-free ones,",
        f"and images whose targets are inpainted, {lone.frames} in all, at native size. Threshold 0.5; found is what "
        "has a centroid within 3 px.",
        "The signal-to-clutter ratio is that of the finished frame: contrast to a ring of 20 px, by its deviation. "
        "Targets lie",
        "anywhere, on the ground and before trees as well. Made by "
        "`python benchmarks/inserted.py SIRST FREE CHECKPOINT ...`.",
        "",
        f"## Alone: {cell(lone.targets)}",
        "",
        *table("signal-to-clutter ratio", RATIOS, lone.targets, lambda target: target.scr),
        "",
        f"Those of a ratio of {OUTSTANDING:g} and more, by what their strongest pixel adds, in counts of 256 for the "
        "range:",
        "",
        *table("counts", CONTRASTS, lone.outstanding, lambda target: target.contrast),
        "",
        f"## With `--range` from the least to the largest count of each frame: {cell(ranged.targets)}",
        "",
        f"The same frames. {per_frame(ranged)} other targets are found in each, {per_frame(lone)} before. Again those "
        f"of a ratio of {OUTSTANDING:g}",
        "and more, by what they add before:",
        "",
        *table("counts", CONTRASTS, ranged.outstanding, lambda target: target.contrast),
        "",
        "## Two beside each other",
        "",
        f"Both of {PAIR_AREA[0]:g} to {PAIR_AREA[1]:g} px, and of a ratio of {PAIR_SCR[0]:g} to {PAIR_SCR[1]:g} as if "
        "each stood alone.",
        "",
        "| px between them | found |",
        "| --- | ---: |",
    ]
    for name, low, high in bands(GAPS):
        lines.append(f"| {name} | {cell([target for target in paired.targets if low <= target.gap < high])} |")
    return "\n".join([*lines, ""])


def main() -> None:
    given = arguments(__doc__)
    recipe, models = read_checkpoints(given.checkpoints)
    lone, ranged, paired = Search(), Search(), Search()
    for fold, data in frames_of(models, given.sirst, given.free):
        detector = looking(models[fold], 1)
        empty = [*data.free_validation, *map(without_targets, data.validation)]
        with progress(f"fold {fold}", len(empty)) as advance:
            for index, frame in enumerate(empty):
                counts = as_counts(frame.pixels)
                placed = alone(np.random.default_rng([fold, index, 0]), *counts.shape)
                raw, _, targets = insert_targets(counts, placed)
                lone.add(detector, raw, targets, np.inf)
                ranged.add(detector, raw, targets, np.inf, (float(raw.min()), float(raw.max())))
                placed, gap = pair(np.random.default_rng([fold, index, 1]), *counts.shape)
                raw, _, targets = insert_targets(counts, placed)
                paired.add(detector, raw, targets, gap)
                advance()
    (DOCS / "inserted.md").write_text(page(recipe, sorted(models), lone, ranged, paired), encoding="utf-8")


if __name__ == "__main__":
    main()
