"""Options about where frames come from, for commands that read a source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irdet.cli.options import Range, Size, parse_size
from irdet.core.errors import UsageError

if TYPE_CHECKING:
    from irdet.core.frame import Preprocessor
    from irdet.runtime.sources import SourceOptions

_PANEL = "Source"

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="An image, a folder, a quoted glob, a TIFF or .npy stack, a video, a camera (0), an address (rtsp://...), "
        "a GStreamer pipeline ('... ! appsink'), or - for raw frames on standard input.",
        show_default=False,
    ),
]
StartOption = Annotated[
    int, typer.Option("--start", min=0, help="Number of the first frame.", rich_help_panel=_PANEL, show_default=False)
]
StrideOption = Annotated[
    int, typer.Option("--stride", min=1, help="Take every Nth frame.", rich_help_panel=_PANEL, show_default=False)
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Take so many frames at most.", rich_help_panel=_PANEL, show_default=False),
]
FpsOption = Annotated[
    float | None,
    typer.Option(
        "--fps",
        help="Frame rate, in place of the source's own; images get one, and a range that runs on, as a sequence has.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
RawShapeOption = Annotated[
    Size | None,
    typer.Option(
        "--raw-shape",
        parser=parse_size,
        metavar="WxH",
        help="The source is raw frames without a header, of this size.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
RawDtypeOption = Annotated[
    str | None,
    typer.Option(
        "--raw-dtype",
        metavar="TYPE",
        help="Their type: uint8, uint16le, uint16be, int16le ...  [dim]\\[default: uint16le][/dim]",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Refuse larger frames.  [dim]\\[default: 67108864][/dim]",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
GiveUpOption = Annotated[
    float | None,
    typer.Option(
        "--give-up",
        metavar="SECONDS",
        help="End the run when a camera or stream is gone for so long; never by default.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
NormaliseOption = Annotated[
    str,
    typer.Option(
        "--normalise",
        metavar="range|local",
        help="How counts become grey: by the range of the frame, or by each pixel's surroundings (wide dynamic range).",
        rich_help_panel=_PANEL,
    ),
]
NucOption = Annotated[
    Path | None,
    typer.Option(
        "--nuc",
        metavar="FILE",
        help="Correct the pixels of the camera first: a file that irdet calibrate wrote.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


def made_preprocessor(range_: Range | None, normalise: str, nuc: Path | None) -> Preprocessor:
    """Returns what maps counts as --range, --normalise and --nuc say."""
    from irdet.core.frame import Preprocessor
    from irdet.core.nuc import read_correction

    return Preprocessor(range_, normalise, None if nuc is None else read_correction(nuc))


def source_options(
    *,
    start: int,
    stride: int,
    limit: int | None,
    fps: float | None,
    raw_shape: Size | None,
    raw_dtype: str | None,
    max_pixels: int | None,
    give_up: float | None,
) -> SourceOptions:
    """Returns the options as sources take them.

    Raises:
        UsageError: They do not fit each other.
    """
    from irdet.runtime.sources import MAX_PIXELS, RawFormat, SourceOptions

    if raw_dtype is not None and raw_shape is None:
        raise UsageError("--raw-dtype is for raw frames: add --raw-shape WxH")
    raw = None if raw_shape is None else RawFormat(*raw_shape, raw_dtype or "uint16le")
    return SourceOptions(start, stride, limit, fps, raw, max_pixels or MAX_PIXELS, give_up)
