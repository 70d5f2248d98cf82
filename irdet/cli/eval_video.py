"""The part of `irdet eval` that measures on video: tables and files of what was found, alone and with tracking."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irdet.core.frame import Preprocessor
    from irdet.evaluation.video import ClipScore
    from irdet.runtime.detector import Detector
    from irdet.tracking import TrackerOptions

_DETECTED = ("clip", "frames", "targets", "Pd", "false/frame", "false/h", "at 95 % below")
_TRACKED = (
    *("clip", "Pd", "false/frame", "tracks", "false", "false/h", "at 95 % below"),
    *("purity", "switches", "frames to confirm", "lost"),
)


def measure_video(
    detector: Detector,
    clips: Sequence[tuple[Path, Path]],
    folder: Path,
    options: TrackerOptions,
    *,
    stabilise: bool,
    fps: float | None,
    preprocessor: Preprocessor,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measures a detector on clips, prints the table and writes `video.json`.

    Args:
        detector: What finds the targets.
        clips: Clips and their truths.
        folder: Where the file goes.
        options: What the tracker goes by.
        stabilise: Take the camera's motion out of the tracks.
        fps: Frames per second, in place of what the clips tell.
        preprocessor: Maps the frames.
        as_json: Print JSON in place of the table.
        quiet: Show no progress.

    Raises:
        IrdetError: A clip or a truth cannot be used.
    """
    from irdet.cli.console import counted, print_json, print_table, progress, say, ways_round
    from irdet.core.files import write_text
    from irdet.core.threshold import threshold_record
    from irdet.evaluation.video import evaluate_clip, read_truth, total

    truths = [read_truth(truth) for _, truth in clips]  # what is wrong with them is told before anything is run
    scores = []
    with progress("measuring", quiet=quiet) as advance:
        for (clip, _), truth in zip(clips, truths, strict=True):
            score = evaluate_clip(
                *(detector, clip, truth, options),
                stabilise=stabilise,
                fps=fps,
                preprocessor=preprocessor,
                progress=advance,
            )
            scores.append(score)
    for score in scores:
        told = list(score.notes)
        if score.skipped:
            told.append(
                f"{score.name}: {counted(score.skipped, 'frame')} could not be read; their targets count for nothing"
            )
        if score.beyond:
            told.append(
                f"{score.name}: the truth has {counted(score.beyond, 'target')} behind the last frame, which count for "
                "nothing; is the clip cut off, or the truth of another?"
            )
        for line in told:
            say(line)
    if len(scores) > 1:
        scores.append(total(scores))
    info = detector.engine.info
    figures: dict[str, Any] = {
        "model": info.variant,
        "model_precision": info.precision,
        "weights_sha256": info.weights_sha256 or None,
        "runtime": detector.engine.runtime,
        "threshold": threshold_record(detector.threshold),
        "resize": None if detector.resize is None else list(detector.resize),
        "views": detector.views,
        "tracker": vars(options),
        "stabilise": stabilise,
        "polarity": detector.polarity,
        **preprocessor.to_dict(),
        "clips": [score.to_dict() for score in scores],
    }
    file = folder / "video.json"
    write_text(file, json.dumps(figures, indent=1) + "\n")
    if as_json:
        print_json({**figures, "files": [file]})
        return
    size = "" if detector.resize is None else ", resized to {}x{}".format(*detector.resize)
    size += ways_round(detector.views)
    how = f"{info.precision}, {detector.engine.runtime}, threshold {detector.threshold:g}{size}"
    title = f"{info.variant} on {counted(len(clips), 'clip')} ({how})"
    print_table(f"{title}: targets of single frames", [_detected(score) for score in scores], _DETECTED)
    print_table("Confirmed tracks", [_tracked(score) for score in scores], _TRACKED)
    if not quiet:
        say(f"{file.name} in {folder}")


def _detected(score: ClipScore) -> tuple[object, ...]:
    one = score.detections
    rates = one.to_dict()
    return (
        *(score.name, one.frames, one.boxes, _ratio(one.pd), _ratio(one.false_per_frame)),
        *(_whole(rates["false_per_hour"]), _whole(rates["false_per_hour_upper"])),
    )


def _tracked(score: ClipScore) -> tuple[object, ...]:
    one = score.tracks
    rates = one.to_dict()
    return (
        *(score.name, _ratio(one.points.pd), _ratio(one.points.false_per_frame), one.tracks, one.false_tracks),
        *(_whole(rates["false_tracks_per_hour"]), _whole(rates["false_tracks_per_hour_upper"])),
        *(_ratio(one.purity), one.switches, _ratio(one.frames_to_confirm, 1), f"{one.lost} of {one.targets}"),
    )


def _ratio(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _whole(value: float) -> str:
    return f"{value:.0f}"
