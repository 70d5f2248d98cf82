"""`irdet bench`: how long models take on this machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irdet.cli.options import (
    DeviceOption,
    ExistOkOption,
    ImgszOption,
    JsonOption,
    NameOption,
    QuietOption,
    ThreadsOption,
    ViewsOption,
    finite,
)
from irdet.core.errors import IrdetError, MissingDependency, UsageError, unknown_name

if TYPE_CHECKING:
    from irdet.data.sirst import Dataset
    from irdet.engines.base import BaseEngine
    from irdet.evaluation.bench.fresh import FreshRun
    from irdet.evaluation.bench.measure import Bench, Measured
    from irdet.metrics.accumulator import MetricsResult


def _fresh(tell: Callable[[FreshRun], str]) -> Callable[[Measured], str | None]:
    return lambda one: None if one.fresh is None else tell(one.fresh)


def _accurate(tell: Callable[[MetricsResult], str]) -> Callable[[Measured], str | None]:
    return lambda one: None if one.accuracy is None else tell(one.accuracy)


def _stage(name: str) -> Callable[[Measured], str]:
    return lambda one: f"{1e3 * one.stages[name].percentile(50):.2f}"


#: What is told of each model besides its latency; a line that no model has a figure for is left out.
_FIGURES: dict[str, Callable[[Measured], str | None]] = {
    "runtime": lambda one: one.runtime,
    "precision": lambda one: one.precision,
    "input of the engine alone": lambda one: "x".join(map(str, one.input)),
    "frames/s of the engine alone": lambda one: f"{one.throughput:.1f}",
    "preprocess, ms (median)": _stage("preprocess"),
    "inference, ms (median)": _stage("inference"),
    "targets, ms (median)": _stage("targets"),
    "first frame, ms": _fresh(lambda fresh: f"{1e3 * fresh.first:.0f}"),
    "start to first targets, s": _fresh(lambda fresh: f"{fresh.start_to_result:.2f}"),
    "peak memory, MiB": _fresh(lambda fresh: f"{fresh.peak_memory / 2**20:.0f}"),
    "power, W": lambda one: None if one.watts is None else f"{one.watts:.1f} ({one.sensor})",
    "energy per frame, mJ": lambda one: None if one.joules_per_frame is None else f"{1e3 * one.joules_per_frame:.0f}",
    "IoU": _accurate(lambda found: f"{found.iou:.4f}"),
    "nIoU": _accurate(lambda found: f"{found.niou:.4f}"),
    "Pd": _accurate(lambda found: f"{found.pd:.4f}"),
    "Fa, 1e-6": _accurate(lambda found: f"{found.fa:.1f}"),
}


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL[@DEVICE]]...",
            help="Models, methods or files, each on its device where one is named.  [dim]\\[default: mlcl-edge][/dim]",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine", "--model", "-m", "--ckpt", metavar="MODEL[@DEVICE]", help="The same.", show_default=False
        ),
    ] = None,
    imgsz: ImgszOption = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Frames at once, for the engine alone.")] = 1,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    duration: Annotated[
        float, typer.Option("--duration", min=0.0, callback=finite, help="Seconds of each kind per engine.")
    ] = 3.0,
    warmup: Annotated[
        float, typer.Option("--warmup", min=0.0, callback=finite, help="Seconds before anything counts.")
    ] = 0.2,
    iterations: Annotated[int, typer.Option("--iterations", min=1, help="At least so many of each kind.")] = 10,
    idle_ms: Annotated[
        float,
        typer.Option("--idle-ms", min=0.0, callback=finite, help="Rest between two frames, as a camera gives it."),
    ] = 0.0,
    targets: Annotated[int, typer.Option("--targets", min=0, help="Bright spots in each frame.")] = 3,
    views: ViewsOption = 1,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Labelled frames: accuracy stands beside latency.", show_default=False
        ),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Part of the data set.", show_default=False)] = None,
    min_iou: Annotated[
        float | None,
        typer.Option("--min-iou", callback=finite, help="Fail where an engine's IoU is lower.", show_default=False),
    ] = None,
    max_p99_ms: Annotated[
        float | None,
        typer.Option(
            "--max-p99-ms",
            min=0.0,
            callback=finite,
            help="Fail where 1 % of the frames take longer, end to end.",
            show_default=False,
        ),
    ] = None,
    no_fresh: Annotated[
        bool,
        typer.Option(
            "--no-fresh", help="Leave out start-up and memory, measured in new processes.", show_default=False
        ),
    ] = False,
    export_times: Annotated[
        Path | None,
        typer.Option("--export-times", metavar="FILE", help="Write every single time.", show_default=False),
    ] = None,
    name: NameOption = None,
    exist_ok: ExistOkOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measures latency: the engine alone and from frame to targets apart, several engines in turns.

    Engines run in rounds, so that a machine that slows down slows all of them, and are compared with the first one by
    ratio. Writes bench.json and latency.png to runs/bench/NAME. With --min-iou or --max-p99-ms the exit code is 1
    where an engine misses it.
    """
    from irdet.cli.console import print_json, progress, say, tell_notes
    from irdet.cli.rundir import named_after, run_folder
    from irdet.data.sirst import load_dataset
    from irdet.engines import open_engine
    from irdet.evaluation.bench.fresh import run_fresh
    from irdet.evaluation.bench.measure import ROUNDS, BenchOptions
    from irdet.evaluation.bench.measure import bench as run
    from irdet.evaluation.bench.report import save_picture, save_record, save_times

    if min_iou is not None and data is None:
        raise UsageError("--min-iou needs labelled frames: add --data DIR")
    if split is not None and data is None:
        raise UsageError("--split is about labelled frames: add --data DIR")
    named = [*(models or ()), *(engine or ())] or ["mlcl-edge"]
    if twice := {one for one in named if named.count(one) > 1}:
        raise UsageError(f"{', '.join(sorted(twice))} is named twice")
    if export_times is not None and export_times.is_dir():
        raise UsageError(f"--export-times {export_times}: is a folder, not a file")
    options = BenchOptions(
        batch=batch,
        warmup=warmup,
        duration=duration,
        iterations=iterations,
        idle=1e-3 * idle_ms,
        targets=targets,
        views=views,
    )
    dataset = None if data is None else load_dataset(data, split)
    accuracy: dict[str, MetricsResult] = {}
    fresh: dict[str, FreshRun] = {}
    with ExitStack() as closing:
        opened: list[tuple[str, BaseEngine]] = []
        for one in named:
            model, on = _place(one, device)
            opened.append((one, closing.enter_context(open_engine(model, device=on, threads=threads))))
            options = replace(options, size=imgsz or _size(opened[0][1]))
            if not no_fresh:
                fresh[one] = run_fresh(model, on, threads, options.size, targets, views)
        tell_notes((f"{one}: {note}" for one, which in opened for note in which.notes), quiet)
        tell_notes(dataset.notes if dataset else (), quiet)
        # Before the minutes that measuring takes: a folder that cannot be made is told first.
        run_name = name or named_after(Path(named[0]).stem.partition("@")[0])
        folder = closing.enter_context(run_folder(None, "bench", run_name, exist_ok))
        if dataset is not None:
            accuracy = _accuracy(opened, dataset, views, quiet)
        with progress("measuring", ROUNDS, quiet) as advance:
            found = run(opened, options, fresh=fresh, accuracy=accuracy, advance=advance)
        files = [save_record(folder / "bench.json", found)]
        try:
            files.append(save_picture(folder / "latency.png", found))
        except MissingDependency as error:
            if not quiet:
                say(f"latency.png is left out: {error}")
    if export_times is not None:
        files.append(save_times(export_times, found))
    if as_json:
        print_json({**found.to_dict(), "files": files})
    else:
        _show(found)
        if not quiet:
            say(f"written: {', '.join(map(str, files))}")
    if missed := _missed(found, min_iou, max_p99_ms):
        raise IrdetError("; ".join(missed))


def _place(named: str, device: str) -> tuple[str, str]:
    """Returns the model and the device of `MODEL@DEVICE`; a name without a device gets the one that all have."""
    from irdet.engines import shipped_models
    from irdet.engines.base import DEVICES
    from irdet.engines.classical import METHODS

    model, _, where = named.rpartition("@")
    if model and where in DEVICES:
        return model, where
    if model in {*shipped_models(), *METHODS}:
        raise unknown_name("device", where, DEVICES)
    return named, device


def _size(engine: BaseEngine) -> tuple[int, int]:
    """The size of a fixed engine's input; the commonest thermal camera's otherwise."""
    from irdet.evaluation.bench.measure import BenchOptions

    width, height = BenchOptions().size
    return engine.info.width or width, engine.info.height or height


def _accuracy(
    engines: list[tuple[str, BaseEngine]], dataset: Dataset, views: int, quiet: bool
) -> dict[str, MetricsResult]:
    from irdet.cli.console import progress
    from irdet.evaluation.evaluate import evaluate
    from irdet.runtime.detector import Detector

    found = {}
    for name, engine in engines:
        with progress(f"accuracy of {name}", len(dataset), quiet) as advance:
            found[name] = evaluate(Detector(engine, views=views), dataset, progress=advance).metrics
    return found


def _show(bench: Bench) -> None:
    from irdet.cli.console import counted, print_line, print_table, ways_round

    width, height = bench.options.size
    spots = counted(bench.options.targets, "bright spot")
    seen = ways_round(bench.options.views)
    for kind, title in (
        ("engine", "Engine alone, array to array, ms"),
        ("end_to_end", f"End to end, frame of {width}x{height} px with {spots} to targets{seen}, ms"),
    ):
        rows = []
        for one, against in zip(bench.results, bench.ratios(kind), strict=True):
            told = getattr(one, kind).to_dict()
            figures = [f"{told[key]:.2f}" for key in ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "min_ms", "max_ms")]
            means = [f"{told['mean_ms']:.2f}", f"{100 * told['cov']:.1f} %", str(told["count"])]
            by = "1" if one is bench.results[0] else f"{against.value:.3f} ({against.low:.3f} to {against.high:.3f})"
            rows.append((one.name, *figures, *means, by))
        columns = ("model", "p50", "p90", "p95", "p99", "min", "max", "mean", "CoV", "n", "by the first's")
        print_table(title, rows, columns)
    table = {name: tuple(figure(one) for one in bench.results) for name, figure in _FIGURES.items()}
    known = [(name, *cells) for name, cells in table.items() if any(cell is not None for cell in cells)]
    print_table("Models", known, ("", *(one.name for one in bench.results)))
    for one in bench.results:
        if one.device:
            medians = ", ".join(f"{name} {1e3 * times.percentile(50):.3f}" for name, times in one.device.items())
            print_line(f"{one.name} on the device, medians in ms: {medians}")
    print_line(f"{bench.machine}; {bench.machine.system}, {bench.date}")


def _missed(bench: Bench, min_iou: float | None, max_p99_ms: float | None) -> list[str]:
    missed = []
    for one in bench.results:
        p99 = 1e3 * one.end_to_end.percentile(99)
        if max_p99_ms is not None and p99 > max_p99_ms:
            missed.append(f"{one.name} takes {p99:.2f} ms end to end at p99, more than --max-p99-ms {max_p99_ms:g}")
        if min_iou is not None and one.accuracy is not None and not one.accuracy.iou >= min_iou:
            missed.append(f"{one.name} has an IoU of {one.accuracy.iou:.4f}, less than --min-iou {min_iou:g}")
    return missed
