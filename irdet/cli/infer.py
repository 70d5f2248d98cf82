"""`irdet infer`: finds the targets in an image, a folder, a glob or a video."""

from __future__ import annotations

import glob
import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from irdet import __version__
from irdet.cli.console import counted, say
from irdet.cli.options import (
    DeviceOption,
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
)
from irdet.cli.sink_options import (
    CocoOption,
    MasksOption,
    NoVideoOption,
    Results,
    ResumeOption,
    RotateOption,
    StdoutOption,
    UdpOption,
)
from irdet.cli.source_options import (
    FpsOption,
    GiveUpOption,
    LimitOption,
    MaxPixelsOption,
    NormaliseOption,
    NucOption,
    RawDtypeOption,
    RawShapeOption,
    SourceArgument,
    StartOption,
    StrideOption,
    source_options,
)
from irdet.cli.track_options import StabiliseOption, TrackerOption, TrackOption, outcome, tracker_options
from irdet.cli.watch_options import (
    LIVE_HEARTBEAT,
    HeartbeatOption,
    MaxStallOption,
    Signals,
    first_frame,
    signals,
    waited_for,
)
from irdet.core.errors import IrdetError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from irdet.core.targets import Target
    from irdet.engines import BaseEngine
    from irdet.runtime.detector import Detection
    from irdet.runtime.pipeline import RunSummary
    from irdet.runtime.provenance import Provenance
    from irdet.runtime.resume import Done
    from irdet.runtime.sinks import Sink
    from irdet.runtime.sources import Source

#: Rows of the table of targets.
MAX_ROWS = 20

#: Bytes of a source by which it is told from another one of its name.
HEAD_BYTES = 1 << 12


def infer(
    source: SourceArgument,
    model: ModelOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder of the results.  [dim]\\[default: runs/infer/SOURCE][/dim]",
            show_default=False,
        ),
    ] = None,
    exist_ok: ExistOkOption = False,
    threshold: ThresholdOption = None,
    min_area: Annotated[int, typer.Option("--min-area", help="Smaller targets are dropped, px.")] = 1,
    max_area: Annotated[
        int | None, typer.Option("--max-area", help="Larger targets are dropped, px.", show_default=False)
    ] = None,
    connectivity: Annotated[
        int, typer.Option("--connectivity", metavar="4|8", help="Which neighbours belong to one target.")
    ] = 8,
    ignore: Annotated[
        Path | None,
        typer.Option(
            "--ignore", metavar="MASK", help="Image as large as the frames; no targets where it is not black."
        ),
    ] = None,
    polarity: PolarityOption = "white-hot",
    resize: ResizeOption = None,
    views: ViewsOption = 1,
    range_: RangeOption = None,
    normalise: NormaliseOption = "range",
    nuc: NucOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    show: Annotated[bool, typer.Option("--show", help="Show the frames in a window.", show_default=False)] = False,
    masks: MasksOption = False,
    no_video: NoVideoOption = False,
    coco: CocoOption = False,
    stdout: StdoutOption = False,
    udp: UdpOption = None,
    rotate: RotateOption = None,
    resume: ResumeOption = None,
    start: StartOption = 0,
    stride: StrideOption = 1,
    limit: LimitOption = None,
    fps: FpsOption = None,
    raw_shape: RawShapeOption = None,
    raw_dtype: RawDtypeOption = None,
    max_pixels: MaxPixelsOption = None,
    give_up: GiveUpOption = None,
    track: TrackOption = False,
    stabilise: StabiliseOption = False,
    tracker: TrackerOption = None,
    max_stall: MaxStallOption = None,
    heartbeat: HeartbeatOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Finds the targets in images, stacks, videos, cameras and streams.

    Writes targets.jsonl (one line a frame), targets.csv (one row a target), the annotated video or pictures, and
    run.json (the model and the options).
    Frames are not resized unless asked: they are padded to the stride of the network, or cut into tiles where the
    model has a fixed size. With --track, tracks.jsonl, tracks.csv and tracks.mot.txt (of the MOT challenge) are written
    too, and the tracks are drawn. Ctrl-C and SIGTERM finish the frame at hand and close the files; --resume goes on
    from there.
    """
    if stdout and as_json:
        raise UsageError("--stdout and --json both want standard output: give one of them")
    if resume is not None and output is not None:
        raise UsageError("--resume goes on in the run's own folder: leave --output out")
    results = Results(not no_video, masks, track, coco, stdout, udp, rotate, resume is not None, stride)
    if not track and (stabilise or tracker):
        raise UsageError(f"{'--stabilise' if stabilise else '--tracker'} is about tracks: add --track")

    from irdet.core.frame import Preprocessor
    from irdet.core.nuc import read_correction
    from irdet.engines import open_engine

    tracking = tracker_options(tracker) if track else None
    correction = None if nuc is None else read_correction(nuc)
    preprocessor = Preprocessor(range_, normalise, correction)
    taken = source_options(
        start=start,
        stride=stride,
        limit=limit,
        fps=fps,
        raw_shape=raw_shape,
        raw_dtype=raw_dtype,
        max_pixels=max_pixels,
        give_up=give_up,
    )
    # It writes to the environment, which a runtime that loads at the same time may be reading: that crashes.
    import cv2  # noqa: F401

    # Beside the source and the imports that follow: most of the time that a runtime takes to load is not Python's.
    beside = ThreadPoolExecutor(1)
    opening = beside.submit(open_engine, model, device=device, threads=threads)
    beside.shutdown(wait=False)

    from irdet.cli.console import print_json, print_line, print_table, progress, tell_skipped
    from irdet.cli.rundir import claimed, named_after, run_folder
    from irdet.core.threshold import parse_threshold, threshold_record
    from irdet.runtime.detector import Detector
    from irdet.runtime.follow import Follower
    from irdet.runtime.pipeline import RunSummary, Stalled, Watch, run
    from irdet.runtime.provenance import NAME as RECORD
    from irdet.runtime.provenance import Provenance
    from irdet.runtime.resume import after, clear
    from irdet.runtime.resume import resume as last_complete
    from irdet.runtime.sinks import WindowSink
    from irdet.runtime.sources import NothingLeft, first_file, open_source, redacted

    def tell(line: str) -> None:
        if not quiet:
            say(line)

    def provenance(engine: BaseEngine) -> Provenance:
        return Provenance(
            irdet=__version__,
            source=redacted(source),
            source_sha256=_head(first_file(source)),
            model=engine.info.variant,
            weights_sha256=engine.info.weights_sha256 or _digest("--model", _file(model)) or "",
            precision=engine.info.precision,
            runtime=engine.runtime,
            threshold=engine.info.threshold if threshold is None else threshold_record(parse_threshold(threshold)),
            min_area=min_area,
            max_area=max_area,
            connectivity=connectivity,
            ignore=None if ignore is None else str(ignore),
            ignore_sha256=_digest("--ignore", ignore),
            polarity=polarity,
            resize=None if resize is None else list(resize),
            views=views,
            range=None if range_ is None else list(range_),
            normalise=normalise,
            nuc=None if nuc is None else str(nuc),
            nuc_sha256=_digest("--nuc", nuc),
            start=start,
            stride=stride,
            frame_rate=fps,
            raw=None if taken.raw is None else str(taken.raw),
            pictures=results.pictures,
            masks=results.masks,
        )

    def model_opened() -> BaseEngine:
        try:
            return waited_for(opening, stop)
        except Stalled as error:
            _give_up(error, stop)

    follower = None if tracking is None else Follower(tracking, stabilise)
    window = WindowSink(f"irdet: {redacted(source)}") if show else None
    with ExitStack() as held:
        stop = held.enter_context(signals())
        done = made = None
        if resume is not None:
            if resume.is_dir():
                held.enter_context(claimed(resume))
                made = provenance(model_opened())
                made.check(resume)
            done = last_complete(resume)
        try:
            wanted = taken if done is None else after(taken, done.frame)
            opened = first_frame(lambda: open_source(source, wanted), stop, max_stall)
        except NothingLeft as error:
            if done is None:
                raise
            if os.path.exists(source) and not Path(source).is_fifo():  # what can be opened again is looked at
                with open_source(source, replace(taken, limit=None)) as whole:
                    _same(whole, done, f"--resume {resume}")
            error.skipped.listen(tell_skipped)
            tell(f"nothing is left to do in {resume}: {error}")
            if as_json:
                skipped = error.skipped
                nothing = RunSummary(redacted(source), skipped=tuple(skipped.named), skipped_frames=skipped.frames)
                print_json({**nothing.to_dict(), "files": []})
            return
        except Stalled as error:
            _give_up(error, stop)
        came = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        frames, engine = held.enter_context(opened), held.enter_context(model_opened())
        if resume is not None and frames.live:
            raise UsageError(f"--resume is for what can be read again, and {frames.name} is live")
        if done is not None:
            _same(frames, done, f"--resume {resume}")
            preprocessor.begin(done.range)
        if correction is not None and correction.gain.shape[::-1] != frames.size:
            (height, width), (wide, high) = correction.gain.shape, frames.size
            raise UsageError(f"--nuc {nuc}: {width}x{height} px does not fit frames of {wide}x{high} px")
        if not frames.live and frames.length != 1:
            engine.spread()  # nobody waits for a single frame
        detector = Detector(
            engine,
            threshold=None if threshold is None else parse_threshold(threshold),
            min_area=min_area,
            max_area=max_area,
            connectivity=connectivity,
            ignore=None if ignore is None else _read_mask(ignore, frames.size, taken.max_pixels),
            polarity=polarity,
            resize=resize,
            views=views,
        )
        tell(f"{engine.info.variant} on {engine.runtime}, threshold {detector.threshold:g}; {_describe(frames)}")
        for note in (*engine.notes, *frames.notes):
            tell(note)
        recipe = engine.info.training.get("recipe")
        if normalise == "local" and isinstance(recipe, dict) and not recipe.get("local_share"):
            tell(f"{engine.info.variant} was not trained on locally normalised frames: expect more false targets")
        folder = resume
        if folder is None:
            folder = held.enter_context(run_folder(output, "infer", named_after(frames.name), exist_ok))
        sinks = results.sinks(folder, frames)
        read = _spare(source, folder, sinks)
        read |= {path.resolve() for path in (ignore, nuc, _file(model)) if path is not None}
        made = replace(made or provenance(engine), started=came)
        if resume is None:
            clear(folder, read)
        if done is None:
            made.write(folder)
        frames.skipped.listen(tell_skipped)
        sample = _Sample()
        watch = Watch(
            stop=stop,
            max_stall=max_stall,
            heartbeat=heartbeat or (LIVE_HEARTBEAT if frames.live and not quiet else None),
            beat=say,
        )
        try:
            with progress("searching", frames.length, quiet) as advance:

                def on_frame(detection: Detection) -> bool:
                    sample.add(detection)
                    advance(1, targets=len(detection.targets))
                    return window is None or not window.closed

                shown = sinks if window is None else [*sinks, window]
                summary = run(
                    *(frames, preprocessor, detector, shown, on_frame, follower, watch, engine.runs),
                    resumed=done is not None,
                )
        except Stalled as error:
            _give_up(error, stop)

    if rest := summary.skipped_frames - sum(skipped.frames for skipped in summary.skipped):
        say(f"skipped: {rest} more")
    files = [path for path in (folder / RECORD, *(sink.path for sink in sinks)) if path is not None and path.exists()]
    if as_json:
        tracked = {} if follower is None else {"tracks": follower.summary().to_dict()}
        print_json({**summary.to_dict(), **made.to_dict(), **tracked, "files": files})
    elif stdout:
        tell(_outcome(summary))
    else:
        if sample.rows:
            title, rows = sample.table(video=frames.is_video)
            print_table(title, rows, ("frame", "time" if frames.is_video else "image", "x", "y", "px", "score", "SCR"))
        if summary.frames and not quiet:
            print_table("Where the time went (stages overlap)", *_stages(summary))
        if follower is not None:
            print_line(outcome(follower.summary(), summary.frames))
        print_line(f"{_outcome(summary)}; written:")
        for file in files:
            print_line(f"  {file}")
    again = "" if frames.live or track or rotate or coco else f"; to go on, add --resume {folder}"
    stop.check(f"{counted(summary.frames, 'frame')}{again}")


def _give_up(error: IrdetError, stop: Signals) -> NoReturn:
    """Ends the process: what hangs can neither be waited for nor closed under its own feet. The results are closed."""
    print(f"irdet: {error}", file=sys.stderr, flush=True)
    os._exit(stop.exit_code or error.exit_code)


def _same(frames: Source, done: Done, what: str) -> None:
    """Refuses to go on with another source than that of the run."""
    try:
        here = frames.name_of(done.frame)
    except IndexError:
        here = "not there"
    if done.source not in (None, here):
        raise UsageError(
            f"{what}: its frame {done.frame} is of {done.source}, that of {frames.name} is {here}: "
            "give the source of that run, as it was"
        )


def _file(model: str | None) -> Path | None:
    """Returns the file of a model that is none of irdet's own; None for a method."""
    path = None if model is None else Path(model)
    return path if path is not None and path.is_file() else None


def _head(file: Path | None) -> str | None:
    """Returns the digest of the first bytes of a file, which a recording that still grows keeps; else None."""
    if file is None:
        return None
    try:
        with file.open("rb") as head:
            return hashlib.sha256(head.read(HEAD_BYTES)).hexdigest()
    except OSError:
        return None  # the source says so, or skips it


def _digest(option: str, path: Path | None) -> str | None:
    if path is None:
        return None
    from irdet.core.files import sha256

    try:
        return sha256(path)
    except OSError as error:
        raise UsageError(f"{option}: cannot read {path}: {error.strerror or error}") from error


def _read_mask(path: Path, size: tuple[int, int], max_pixels: int) -> NDArray[np.bool_]:
    from irdet.core.images import read_image

    pixels = read_image(path, max_pixels)
    if pixels.shape[1::-1] != size:
        raise UsageError(
            f"--ignore {path}: {pixels.shape[1]}x{pixels.shape[0]} px does not fit frames of {size[0]}x{size[1]} px"
        )
    return pixels != 0 if pixels.ndim == 2 else (pixels[:, :, :3] != 0).any(axis=2)


def _spare(source: str, folder: Path, sinks: list[Sink]) -> set[Path]:
    """Refuses to write over what is read, which --exist-ok would allow; returns it: files, and folders of pictures."""
    read = {Path(one) for one in ([source] if os.path.exists(source) else glob.glob(source, recursive=True))}
    read = {one for one in read if one.exists()}  # not links into nowhere
    read |= {one.parent for one in read if one.is_file() and one.parent.resolve() != folder.resolve()}
    for sink in sinks:
        if sink.path is not None and sink.path.exists() and any(map(sink.path.samefile, read)):
            raise UsageError(f"{source} would be overwritten by its own results: choose another --output")
    return {one.resolve() for one in read}


def _describe(source: Source) -> str:
    width, height = source.size
    count = "frames" if source.length is None else counted(source.length, "frame")
    rate = f" at {source.fps:g} frames/s" if source.fps else ""
    return f"{source.name}: {count} of {width}x{height} px{rate}"


def _outcome(summary: RunSummary) -> str:
    lost = [("skipped", summary.skipped_frames), ("dropped", summary.dropped_frames)]
    more = ", ".join(f"{count} more {what}" for what, count in lost if count)
    return (
        f"{counted(summary.frames, 'frame')}{f' ({more})' if more else ''}, {counted(summary.targets, 'target')} in "
        f"{counted(summary.frames_with_targets, 'frame')}, {summary.fps:.1f} frames/s"
    )


def _stages(summary: RunSummary) -> tuple[list[tuple[Any, ...]], tuple[str, ...]]:
    rows = [
        (stage, f"{1e3 * seconds / summary.frames:.2f}", f"{seconds:.2f}", f"{100 * seconds / summary.seconds:.0f} %")
        for stage, seconds in summary.times.items()
    ]
    return rows, ("stage", "ms per frame", "s", "of the run")


class _Sample:
    """What of a run is shown: all targets while they are few, else the best of some frames, evenly spread."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Target]] = []
        self._all: list[tuple[str, Target]] = []
        self._seen = 0
        self._step = 1

    def add(self, detection: Detection) -> None:
        """Takes a frame; keeps a bounded number of targets."""
        named = [(detection.frame.source, target) for target in detection.targets]
        if len(self._all) <= MAX_ROWS:
            self._all += named
        if named:
            if self._seen % self._step == 0:
                self.rows.append(named[0])
            self._seen += 1
            if len(self.rows) > MAX_ROWS:
                self.rows, self._step = self.rows[::2], 2 * self._step

    def table(self, *, video: bool) -> tuple[str, list[tuple[Any, ...]]]:
        """Returns the title and the rows."""
        few = len(self._all) <= MAX_ROWS
        some = "each frame that has one" if self._step == 1 else f"one in {self._step} of the frames that have one"
        title, shown = ("Targets", self._all) if few else (f"Best target of {some}", self.rows)
        if not few and self._seen == 1:
            title, shown = f"The best {MAX_ROWS} of {len(self._all)} targets", self._all[:MAX_ROWS]
        rows = [
            (
                target.frame,
                f"{target.time:.2f}" if video and target.time is not None else name,
                f"{target.x:.1f}",
                f"{target.y:.1f}",
                target.area,
                f"{target.score:.2f}",
                f"{target.scr:.1f}",
            )
            for name, target in shown
        ]
        return title, rows
