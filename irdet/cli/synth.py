"""`irdet synth`: writes synthetic thermal scenes with their truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from irdet.cli.options import JsonOption, QuietOption, SeedOption, Size, parse_size
from irdet.core.errors import UsageError

if TYPE_CHECKING:
    from irdet.data.synth import SceneConfig, Written


class Span(NamedTuple):
    """A range from which each scene draws."""

    low: float
    high: float


def parse_span(text: str) -> Span:
    """Reads a range: `"3,20"`, or `"5"` for exactly that.

    Raises:
        UsageError: It is neither.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(map(math.isfinite, numbers)) or numbers[0] > numbers[-1]:
        raise UsageError(f"range {text!r}: give LOW,HIGH with LOW <= HIGH, for instance 3,20, or one number")
    return Span(numbers[0], numbers[-1])


app = typer.Typer(
    name="synth",
    help="Write synthetic thermal scenes with their truth: a data set, or a clip.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

SizeOption = Annotated[Size, typer.Option("--size", parser=parse_size, metavar="WxH", help="Size of the frames, px.")]
KindOption = Annotated[
    str,
    typer.Option(
        "--kind",
        metavar="KIND,...",
        help="clear, clouds, cumulus, cirrus, sea, ridge, trees, ground, buildings; several to draw from; or random.",
    ),
]
BitsOption = Annotated[
    int, typer.Option("--bits", metavar="8|16", help="8: display output; 16: raw counts of 14 bits.")
]
TargetsOption = Annotated[
    Span, typer.Option("--targets", parser=parse_span, metavar="LO,HI", help="Number of targets.")
]
ScrOption = Annotated[
    Span, typer.Option("--scr", parser=parse_span, metavar="LO,HI", help="Their signal-to-clutter ratio.")
]
AreaOption = Annotated[Span, typer.Option("--area", parser=parse_span, metavar="LO,HI", help="Their area, px.")]
NoiseOption = Annotated[
    Span | None,
    typer.Option(
        "--noise",
        parser=parse_span,
        metavar="LO,HI",
        help="Standard deviation of the noise, counts.  [dim]\\[default: as typical of the depth][/dim]",
        show_default=False,
    ),
]
HotOption = Annotated[
    Span, typer.Option("--hot-pixels", parser=parse_span, metavar="LO,HI", help="Number of stuck pixels.")
]
OverOption = Annotated[bool, typer.Option("--exist-ok", help="Write over what is there.", show_default=False)]


@app.command("dataset")
def dataset(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.", show_default=False)],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of images.")] = 100,
    size: SizeOption = "256",  # type: ignore[assignment]  # Typer parses defaults too
    kind: KindOption = "random",
    bits: BitsOption = 8,
    targets: TargetsOption = "1,3",  # type: ignore[assignment]
    scr: ScrOption = "3,40",  # type: ignore[assignment]
    area: AreaOption = "3,80",  # type: ignore[assignment]
    noise: NoiseOption = None,
    hot_pixels: HotOption = "0,3",  # type: ignore[assignment]
    seed: SeedOption = 0,
    exist_ok: OverOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Writes images/ and masks/ as SIRST has them, truth.csv and scene.json."""
    from irdet.cli.console import progress
    from irdet.data.synth import write_dataset

    config = _config(size, kind, bits, targets, scr, area, noise, hot_pixels)
    with progress("painting", count, quiet) as advance:
        written = write_dataset(folder, count, config, seed, exist_ok=exist_ok, advance=advance)
    _tell(written, "images", as_json)


@app.command("clip")
def clip(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Video (.mkv, .avi: lossless; .mp4), or a folder.", show_default=False),
    ],
    frames: Annotated[int, typer.Option("--frames", "-n", min=1, help="Number of frames.")] = 120,
    fps: Annotated[float, typer.Option("--fps", min=0.1, help="Frames per second.")] = 25.0,
    size: SizeOption = "320x256",  # type: ignore[assignment]
    kind: KindOption = "ridge",
    bits: BitsOption = 8,
    targets: TargetsOption = "6",  # type: ignore[assignment]
    scr: ScrOption = "10,30",  # type: ignore[assignment]
    area: AreaOption = "5,60",  # type: ignore[assignment]
    noise: NoiseOption = None,
    hot_pixels: HotOption = "0,3",  # type: ignore[assignment]
    seed: SeedOption = 23,
    exist_ok: OverOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Writes a clip, its truth as CSV and its recipe as JSON. 16-bit clips are folders of PNG files."""
    from irdet.cli.console import progress
    from irdet.data.synth import write_clip

    config = _config(size, kind, bits, targets, scr, area, noise, hot_pixels)
    with progress("painting", frames, quiet) as advance:
        written = write_clip(file, config, seed, frames, fps, exist_ok=exist_ok, advance=advance)
    _tell(written, "frames", as_json)


def _config(
    size: Size, kind: str, bits: int, targets: Span, scr: Span, area: Span, noise: Span | None, hot_pixels: Span
) -> SceneConfig:
    from irdet.data.synth import SceneConfig

    return SceneConfig(
        width=size.width,
        height=size.height,
        kind=kind,
        bits=bits,
        targets=_whole("targets", targets),
        scr=(scr.low, scr.high),
        area=(area.low, area.high),
        noise=None if noise is None else (noise.low, noise.high),
        hot_pixels=_whole("hot-pixels", hot_pixels),
    )


def _whole(name: str, span: Span) -> tuple[int, int]:
    if not all(value.is_integer() for value in span):
        raise UsageError(f"--{name} {span.low:g},{span.high:g}: must be whole numbers")
    return int(span.low), int(span.high)


def _tell(written: Written, what: str, as_json: bool) -> None:
    from irdet.cli.console import print_json, print_line

    if as_json:
        record: dict[str, Any] = {"path": written.path, "truth": written.truth}
        print_json({**record, "frames": written.frames, "targets": written.targets})
        return
    print_line(f"{written.path}: {written.frames} {what}, {written.targets} targets in them; truth in {written.truth}")
