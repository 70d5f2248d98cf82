"""Files of a bench: the record, the single times, and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from irdet.core.extras import require
from irdet.core.files import replacing, write_text
from irdet.core.jsonable import jsonable
from irdet.evaluation.bench.measure import STAGES, Bench


def save_record(path: Path, bench: Bench) -> Path:
    """Writes everything but the single times as JSON; returns the file."""
    write_text(path, json.dumps(jsonable(bench.to_dict()), indent=1) + "\n")
    return path


def save_times(path: Path, bench: Bench) -> Path:
    """Writes every single time in ms as JSON: engine -> kind -> rounds -> iterations; returns the file."""
    times = {
        one.name: {
            kind: [[round(1e3 * seconds, 5) for seconds in part] for part in samples.rounds]
            for kind, samples in {
                "engine": one.engine,
                "end_to_end": one.end_to_end,
                **{f"stage_{name}": samples for name, samples in one.stages.items()},
                **{f"device_{name}": samples for name, samples in one.device.items()},
            }.items()
        }
        for one in bench.results
    }
    write_text(path, json.dumps(times) + "\n")
    return path


def save_picture(path: Path, bench: Bench) -> Path:
    """Draws how the times are distributed, and accuracy over latency, or the stages where there is no accuracy.

    Returns:
        The file.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    require("matplotlib", "plot", "drawing latencies")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 4.8), layout="constrained")
    width, height = bench.options.size
    figure.suptitle(f"{width}x{height} px on {bench.machine}")
    spread, other = figure.subplots(1, 2)
    for one in bench.results:
        times = np.sort(1e3 * one.end_to_end.seconds)
        share = np.arange(1, len(times) + 1) / len(times)
        (line,) = spread.step(times, share, where="post", label=f"{one.name}, {one.runtime}")
        spread.axvline(1e3 * one.end_to_end.percentile(50), color=line.get_color(), alpha=0.35, linewidth=1)
    spread.set(xlabel="end to end, ms", ylabel="share of frames", title="Latency", ylim=(0, 1.02))
    if max(one.end_to_end.percentile(50) for one in bench.results) > 5 * min(
        one.end_to_end.percentile(50) for one in bench.results
    ):
        spread.set_xscale("log")
    spread.legend(loc="lower right", fontsize=8)
    if any(one.accuracy is not None for one in bench.results):
        for one in bench.results:
            if one.accuracy is not None:
                latency = 1e3 * one.end_to_end.percentile(50)
                other.plot(latency, one.accuracy.iou, "o")
                other.annotate(one.name, (latency, one.accuracy.iou), (4, 4), textcoords="offset points", fontsize=8)
        other.set(xlabel="end to end, ms (median)", ylabel="IoU", title="Accuracy")
        other.margins(0.2)
    else:
        left = np.zeros(len(bench.results))
        names = [one.name for one in bench.results]
        for stage in STAGES:
            values = [1e3 * one.stages[stage].percentile(50) for one in bench.results]
            other.barh(names, values, left=left, label=stage)
            left += values
        other.invert_yaxis()
        other.set(xlabel="ms (medians)", title="Where the time goes")
        other.legend(fontsize=8)
    for axes in (spread, other):
        axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path
