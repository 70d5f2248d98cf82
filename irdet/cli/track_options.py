"""Options about tracks, for commands that follow targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from irdet.cli.console import counted
from irdet.core.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from irdet.runtime.follow import TrackSummary
    from irdet.tracking import TrackerOptions

_PANEL = "Tracks"

TrackOption = Annotated[
    bool,
    typer.Option("--track", help="Follow the targets from frame to frame.", rich_help_panel=_PANEL, show_default=False),
]
StabiliseOption = Annotated[
    bool,
    typer.Option(
        "--stabilise",
        help="Measure how the camera shakes and pans, and take it out of the tracks.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
TrackerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker",
        metavar="NAME=VALUE",
        help="A parameter of the tracker, in px and frames; may be given again: speed=6 (of new targets, px/frame), "
        "acceleration=0.15 (px/frame each frame), noise=0.4 (of centroids, px), noise_per_size=0.1, gate=4 (standard "
        "deviations), reach=20 (px), confirm=3 of window=5 (frames), coast=15 (frames), max_targets=500, "
        "max_tracks=1000, history=32 (frames).",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


def tracker_options(given: list[str] | None) -> TrackerOptions:
    """Reads the parameters of a tracker.

    Args:
        given: Texts as in `"coast=25"`.

    Returns:
        The options; what is not named has its default.

    Raises:
        UsageError: A text is no NAME=VALUE, a name is not known, or a value cannot be.
    """
    from irdet.tracking import TrackerOptions

    defaults = TrackerOptions()
    names = tuple(TrackerOptions.__dataclass_fields__)
    values: dict[str, Any] = {}
    for text in given or ():
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign:
            raise UsageError(f"--tracker {text}: give NAME=VALUE, as in coast=25")
        if name not in names:
            raise unknown_name("parameter of the tracker", name, names)
        kind = type(getattr(defaults, name))
        try:
            values[name] = kind(value)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise UsageError(f"--tracker {text}: {name} must be {what}") from None
    return TrackerOptions(**values)


def outcome(summary: TrackSummary, frames: int) -> str:
    """Returns the line about tracks at the end of a run over so many frames."""
    if not summary.tracks:
        line = "no track was confirmed"
    else:
        tracks = counted(summary.tracks, "confirmed track")
        line = (
            f"{tracks} in {summary.frames_with_tracks} frames, {summary.mean_length:.0f} frames long on average, "
            f"the longest {summary.longest}"
        )
    if summary.left_out:
        line += f"; {summary.left_out} targets were not followed: too many in a frame (--tracker max_targets)"
    if summary.stabilised is not None:
        line += f"; the camera's motion was measured in {summary.stabilised} of {frames} frames"
    return line
