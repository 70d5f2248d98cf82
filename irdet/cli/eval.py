"""`irdet eval`: measures a model on labelled data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from irdet.cli.options import (
    DeviceOption,
    DistanceOption,
    ExistOkOption,
    JsonOption,
    ModelOption,
    PolarityOption,
    QuietOption,
    RangeOption,
    ResizeOption,
    ThreadsOption,
    ThresholdOption,
    ViewsOption,
    above_zero,
)
from irdet.cli.source_options import NormaliseOption, NucOption, made_preprocessor
from irdet.cli.track_options import StabiliseOption, TrackerOption, tracker_options
from irdet.core.errors import IrdetError, MissingDependency, UsageError

if TYPE_CHECKING:
    from irdet.evaluation.evaluate import Evaluation


def eval_(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Images and masks, or an index file (.txt).", show_default=False),
    ] = None,
    model: ModelOption = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Part of the data set, for instance test.", show_default=False)
    ] = None,
    resize: ResizeOption = None,
    views: ViewsOption = 1,
    polarity: PolarityOption = "white-hot",
    range_: RangeOption = None,
    normalise: NormaliseOption = "range",
    nuc: NucOption = None,
    threshold: ThresholdOption = None,
    distance: DistanceOption = None,
    empty: Annotated[
        Literal["zero", "one", "skip"] | None,
        typer.Option(
            "--empty",
            help="What an image with no target and none predicted counts for in nIoU.",
            show_default="zero",
        ),
    ] = None,
    target_free: Annotated[
        bool,
        typer.Option("--target-free", help="The data are images alone, without one target.", show_default=False),
    ] = False,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            callback=above_zero,
            help="Frame rate, to tell false targets per hour; a video tells its own.",
            show_default=False,
        ),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(
            "--video",
            metavar="CLIP|DIR",
            help="In place of --data: a video, or a folder of videos.",
            rich_help_panel="Video",
            show_default=False,
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth",
            metavar="CSV",
            help="Its targets: frame, x, y, w, h and, where several, id.  [dim]\\[default: NAME.csv beside it][/dim]",
            rich_help_panel="Video",
            show_default=False,
        ),
    ] = None,
    stabilise: StabiliseOption = False,
    tracker: TrackerOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder of the results.  [dim]\\[default: runs/eval/DATA][/dim]",
            show_default=False,
        ),
    ] = None,
    exist_ok: ExistOkOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measures a model on labelled data: IoU, nIoU, Pd, Fa and more, curves, and the images that go worst.

    With --resize, images and masks are resized and the metrics measured there: 512x512 is the papers' protocol. One
    row more is of what irdet infer --resize finds, in the images' own pixels.
    With --video, Pd and false targets of single frames are measured on clips, then those of confirmed tracks, with
    purity, switches and the time to confirm; frames are not resized there unless --resize says so.
    """
    from irdet.cli.console import print_json, print_table, progress, say, tell_notes
    from irdet.cli.eval_video import measure_video
    from irdet.cli.rundir import named_after, run_folder
    from irdet.core.threshold import parse_threshold
    from irdet.data.sirst import load_dataset
    from irdet.engines import open_engine
    from irdet.evaluation.evaluate import evaluate
    from irdet.evaluation.report import save_curves, save_figures
    from irdet.evaluation.video import find_clips
    from irdet.metrics.target import DISTANCE
    from irdet.runtime.detector import Detector

    if data is None and video is None:
        raise UsageError("name what to measure on: --data DIR for images and masks, or --video CLIP")
    if data is not None and video is not None:
        raise UsageError(f"--data {data} and --video {video} are measured apart: leave one out")
    of_video = {"--truth": truth, "--stabilise": stabilise or None, "--tracker": tracker}
    of_data = {"--split": split, "--distance": distance, "--empty": empty, "--target-free": target_free or None}
    what, other, foreign = (
        ("--video", f"--data {data}", of_video) if video is None else ("--data", f"--video {video}", of_data)
    )
    if wrong := next((name for name, value in foreign.items() if value is not None), None):
        raise UsageError(f"{wrong} is about {what}, and what is measured is {other}")
    if nuc is not None and resize is not None and video is None:
        raise UsageError("--nuc is of the camera's own size: leave --resize out")
    level = None if threshold is None else parse_threshold(threshold)
    preprocessor = made_preprocessor(range_, normalise, nuc)
    if video is not None:
        clips, follow = find_clips(video, truth), tracker_options(tracker)
        with open_engine(model, device=device, threads=threads) as engine:
            tell_notes(engine.notes, quiet)
            detector = Detector(engine, threshold=level, polarity=polarity, resize=resize, views=views)
            with run_folder(output, "eval", named_after(video.stem or "video"), exist_ok) as folder:
                measure_video(
                    *(detector, clips, folder, follow),
                    stabilise=stabilise,
                    fps=fps,
                    preprocessor=preprocessor,
                    as_json=as_json,
                    quiet=quiet,
                )
        return
    assert data is not None
    reach = DISTANCE if distance is None else distance
    dataset = load_dataset(data, split, empty_truth=target_free)
    with open_engine(model, device=device, threads=threads) as engine:
        tell_notes((*engine.notes, *dataset.notes), quiet)
        detector = Detector(engine, threshold=level, polarity=polarity, views=views)
        record = engine.info
        with run_folder(output, "eval", named_after(dataset.name), exist_ok) as folder:
            with progress("measuring", len(dataset), quiet) as advance:
                evaluation = evaluate(
                    detector,
                    dataset,
                    resize=resize,
                    empty=empty or "zero",
                    distance=reach,
                    preprocessor=preprocessor,
                    progress=advance,
                )
            about = {"model_precision": record.precision, "weights_sha256": record.weights_sha256 or None}
            about |= {"given": model, "polarity": polarity, **preprocessor.to_dict()}
            figures = evaluation.to_dict() | about | {"best": _best(evaluation)} | _per_hour(evaluation, fps)
            files = save_figures(folder, evaluation, figures)
            try:
                files.append(save_curves(folder / "curves.png", evaluation))
            except MissingDependency as error:
                if not quiet:
                    say(f"curves.png is left out: {error}")
    if as_json:
        print_json({**figures, "files": files})
        return
    print_table(f"{evaluation.model} on {evaluation.data} ({evaluation.runtime})", _rows(evaluation, fps))
    if not quiet:
        say(f"{', '.join(file.name for file in files)} in {folder}")


def _best(evaluation: Evaluation) -> dict[str, float] | None:
    """What `irdet tune` would choose; chosen on these very data, so what it gives elsewhere is less."""
    from irdet.evaluation.tune import choose_threshold

    curves = evaluation.curves
    try:
        step = choose_threshold(curves, None)
    except IrdetError:
        return None  # there is no target, or none is found
    return {name: round(float(getattr(curves, name)[step]), 6) for name in ("thresholds", "iou", "niou", "pd", "fa")}


def _told(best: dict[str, float] | None) -> str:
    if best is None:
        return "-"
    return "{thresholds:.4g}, chosen on these data: IoU {iou:.4f}, Pd {pd:.4f}, Fa {fa:.2f}e-6".format(**best)


def _per_hour(evaluation: Evaluation, fps: float | None) -> dict[str, Any]:
    if fps is None:
        return {}
    rate, lower, upper = evaluation.metrics.false_per_hour(fps)
    return {"false_per_hour": rate, "false_per_hour_lower": lower, "false_per_hour_upper": upper}


def _rows(evaluation: Evaluation, fps: float | None) -> list[tuple[str, str]]:
    from irdet.cli.console import ways_round

    metrics, curves = evaluation.metrics, evaluation.curves
    size = "native" if evaluation.resize is None else "resized to {}x{}, masks too".format(*evaluation.resize)

    def interval(name: str) -> str:
        low, high = evaluation.intervals[name]
        return "no interval" if math.isnan(low) else f"{low:.4f} to {high:.4f} at 95 %"

    vanished = f" ({evaluation.vanished} fewer than at native size)" if evaluation.vanished else ""
    rows = [
        ("threshold", f"{metrics.threshold:g}"),
        ("size", size + ways_round(evaluation.views)),
        ("images", f"{metrics.images}"),
        ("targets", f"{metrics.targets}{vanished}"),
        ("IoU", f"{metrics.iou:.4f} ({interval('iou')})"),
        ("nIoU", f"{metrics.niou:.4f} ({interval('niou')}; empty images: {metrics.empty})"),
        ("Pd", f"{metrics.pd:.4f} ({metrics.matched} of {metrics.targets}, closer than {metrics.distance:g} px)"),
        ("Fa", f"{metrics.fa:.2f}e-6"),
        (
            "false targets",
            f"{metrics.false_targets}, {metrics.false_per_frame:.4g} per frame "
            f"(above {metrics.false_per_frame_lower:.4g}, below {metrics.false_per_frame_upper:.4g} at 95 % each)",
        ),
        ("precision", f"{metrics.precision:.4f}"),
        ("recall", f"{metrics.recall:.4f}"),
        ("F1", f"{metrics.f1:.4f}"),
        ("average precision", f"{curves.average_precision:.4f}"),
        ("best threshold", _told(_best(evaluation))),
    ]
    if (own := evaluation.own_pixels) is not None:
        overlap = f"IoU {own.iou:.4f}, nIoU {own.niou:.4f}, Pd {own.pd:.4f}, " if own.targets else ""
        rows.append(
            ("in own pixels", f"{overlap}Fa {own.fa:.2f}e-6, {own.false_per_frame:.4g} false targets per frame")
        )
    if fps is not None:
        hourly = "{:.4g} per hour (above {:.4g}, below {:.4g}) at {:g} frames/s"
        rows.insert(9, ("", hourly.format(*metrics.false_per_hour(fps), fps)))
    return [(name, value if "nan" not in value else "-") for name, value in rows]
