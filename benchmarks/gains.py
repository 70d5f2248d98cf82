"""What one recipe gains over another on images that neither trained on, with intervals of the difference.

    python benchmarks/gains.py SIRST --before CHECKPOINT ... --after CHECKPOINT ... [--views N]

As many checkpoints on each side, of the same folds; which one a checkpoint held out stands in its record. Prints the
rows of a table. With --views, those after look at each frame in as many ways round as `irdet infer --views`: the same
checkpoints before and after then tell what that gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from folds import Part, Parts, interval, looking, read_checkpoints, resampled

from irdet.models import LoadedModel
from irdet.training.dataset import load_training_data
from irdet.training.recipe import Recipe

#: Metrics of the table, and how they are written.
METRICS = {"iou": ".3f", "niou": ".3f", "pd": ".3f", "fa": ".0f"}


def held_out(models: dict[int, LoadedModel], sirst: Path, views: int) -> tuple[Part, ...]:
    """Runs each network on the images that it held out; returns them by what they are measured at."""
    parts = Parts()
    for fold, model in sorted(models.items()):
        parts.add(looking(model, views), load_training_data(sirst, None, Recipe(fold=fold)), fold)
    return parts.labelled


def rows(before: Sequence[Part], after: Sequence[Part]) -> list[str]:
    """Returns a row for each size: what it was, what it is, and in brackets 95 % of the difference."""
    lines = []
    for old, new in zip(before, after, strict=True):
        was, now = old.measured(), new.measured()
        draws, fresh = resampled(was), resampled(now)
        cells = []
        for name, form in METRICS.items():
            low, high = interval(fresh[name] - draws[name])
            cells.append(
                f"{getattr(was, name):{form}} to {getattr(now, name):{form}} ({low:+{form}} to {high:+{form}})"
            )
        lines.append(f"| {new.title} | {now.images} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sirst", type=Path)
    parser.add_argument("--before", type=Path, nargs="+", required=True)
    parser.add_argument("--after", type=Path, nargs="+", required=True)
    parser.add_argument("--views", type=int, default=1, help="ways round in which those after look at each frame")
    arguments = parser.parse_args()
    names, models = zip(*(read_checkpoints(paths) for paths in (arguments.before, arguments.after)), strict=True)
    if set(models[0]) != set(models[1]):
        raise SystemExit(f"the folds differ: {sorted(models[0])} before, {sorted(models[1])} after")
    print(f"{names[0]} to {names[1]}, folds {', '.join(map(str, sorted(models[0])))}")
    for line in rows(
        *(held_out(one, arguments.sirst, views) for one, views in zip(models, (1, arguments.views), strict=True))
    ):
        print(line)


if __name__ == "__main__":
    main()
