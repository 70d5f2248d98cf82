"""Where `irdet infer` puts its results: the options, and the sinks that they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irdet.core.errors import UsageError

if TYPE_CHECKING:
    from irdet.runtime.sinks import Sink
    from irdet.runtime.sources import Source

_PANEL = "Results"

MasksOption = Annotated[
    bool, typer.Option("--masks", help="Write a mask for each frame.", rich_help_panel=_PANEL, show_default=False)
]
NoVideoOption = Annotated[
    bool,
    typer.Option(
        "--no-video", help="Write no annotated video or pictures.", rich_help_panel=_PANEL, show_default=False
    ),
]
CocoOption = Annotated[
    bool, typer.Option("--coco", help="Write coco.json at the end.", rich_help_panel=_PANEL, show_default=False)
]
StdoutOption = Annotated[
    bool,
    typer.Option(
        "--stdout",
        help="Write the lines of targets.jsonl to standard output, too, and nothing else.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
UdpOption = Annotated[
    str | None,
    typer.Option(
        "--udp",
        metavar="HOST:PORT",
        help="Send each frame's targets as a datagram of JSON.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
RotateOption = Annotated[
    str | None,
    typer.Option(
        "--rotate",
        metavar="SIZE|TIME",
        help="Begin new files in part-0001, part-0002 ... after so much, for instance 500MB or 1h.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="DIR",
        help="Go on with a run that was cut off, in its folder; not one with --track, --coco or --rotate.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Results:
    """What is to be written.

    Attributes:
        pictures: The annotated video, or pictures of images.
        masks: A mask for each frame.
        tracks: The tracks' files.
        coco: One file in COCO's form.
        stdout: Lines on standard output.
        udp: Where datagrams go.
        rotate: When new files begin.
        resumed: Files of an earlier run are gone on with.
        stride: Every so many frames one is searched.
    """

    pictures: bool
    masks: bool
    tracks: bool
    coco: bool
    stdout: bool
    udp: str | None
    rotate: str | None
    resumed: bool
    stride: int = 1

    def __post_init__(self) -> None:
        """Refuses what does not go together."""
        for name, given in (("--track", self.tracks), ("--rotate", self.rotate), ("--coco", self.coco)):
            if self.resumed and given:
                raise UsageError(f"{name} needs the whole run, so it does not go with --resume")
        # Read here, too, so that a slip is told before anything is opened.
        if self.rotate is not None:
            from irdet.runtime.rotate import parse_rotation

            parse_rotation(self.rotate)
        if self.udp is not None:
            from irdet.runtime.stream_sinks import parse_address

            parse_address(self.udp)

    def sinks(self, folder: Path, source: Source) -> list[Sink]:
        """Returns the sinks of a run: streams first, since whoever reads them waits, and the video last.

        Args:
            folder: Where files go.
            source: What is searched.
        """
        from irdet.runtime.rotate import RotatingSink, parse_rotation
        from irdet.runtime.stream_sinks import StdoutSink, UdpSink

        sinks: list[Sink] = []
        if self.udp is not None:
            sinks.append(UdpSink(self.udp))
        if self.stdout:
            sinks.append(StdoutSink())
        if self.rotate is None:
            return [*sinks, *self._files(folder, source)]
        return [*sinks, RotatingSink(folder, lambda part: self._files(part, source), parse_rotation(self.rotate))]

    def _files(self, folder: Path, source: Source) -> Sequence[Sink]:
        from irdet.runtime.resume import finished, free_name
        from irdet.runtime.sinks import CsvSink, JsonLinesSink, MaskSink, PictureSink, VideoSink
        from irdet.runtime.stream_sinks import CocoSink
        from irdet.runtime.track_sinks import MotSink, TrackCsvSink, TrackLinesSink

        done: list[tuple[int, str]] = []
        if self.resumed and not source.is_video:
            done = [(one.frame, one.source or "") for one in finished(folder)]
        # A frame is done when its line is there, so what --resume does not make anew comes before it.
        sinks: list[Sink] = [MaskSink(folder / "masks", done, not source.is_video)] if self.masks else []
        if self.pictures and not source.is_video:
            sinks.append(PictureSink(folder / "annotated", done, True))
        sinks += [
            JsonLinesSink(folder / "targets.jsonl", self.resumed),
            CsvSink(folder / "targets.csv", self.resumed),
        ]
        if self.tracks:
            sinks += [
                TrackLinesSink(folder / "tracks.jsonl"),
                TrackCsvSink(folder / "tracks.csv"),
                MotSink(folder / "tracks.mot.txt"),
            ]
        if self.coco:
            sinks.append(CocoSink(folder / "coco.json"))
        if self.pictures and source.is_video:
            video = folder / "annotated.mkv"
            rate = source.fps and source.fps / self.stride  # so that it plays as fast as the source
            sinks.append(VideoSink(free_name(video) if self.resumed else video, rate))
        return sinks
