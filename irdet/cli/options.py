"""Options that several commands share, as annotations: `def infer(model: ModelOption = None, ...)`."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import typer

from irdet.core.errors import UsageError
from irdet.core.info import MAX_SIDE

_Named = TypeVar("_Named", str, Path)

# Typer takes a plain tuple for an option of two words, hence the two classes.


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


class Range(NamedTuple):
    """Counts that become 0 and 1."""

    low: float
    high: float


def parse_size(text: str) -> Size:
    """Reads a size: `"640x512"` (width x height) or `"512"` for a square.

    Returns:
        Width and height in pixels.

    Raises:
        UsageError: It is neither.
    """
    match = re.fullmatch(r"(\d+)(?:[xX×](\d+))?", text.strip(), re.ASCII)  # noqa: RUF001
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if match and max(width, height) > MAX_SIDE:
        raise UsageError(f"size {text!r}: no side may be longer than {MAX_SIDE} px")
    if not (width and height):
        raise UsageError(
            f"size {text!r}: give WIDTHxHEIGHT in pixels, for instance 640x512, or one number for a square"
        )
    return Size(width, height)


def parse_range(text: str) -> Range:
    """Reads a range of counts: `"7000,9500"`.

    Raises:
        UsageError: It is none.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"range {text!r}: give LOW,HIGH in counts of the source, as in 7000,9500") from None
    return Range(low, high)


def finite(parameter: typer.CallbackParam, value: float | None) -> float | None:
    """Refuses `nan` and `inf`, which the least value of an option lets through."""
    if value is not None and not math.isfinite(value):
        raise UsageError(f"{parameter.opts[0]} {value:g}: give a finite number")
    return value


def above_zero(parameter: typer.CallbackParam, value: float | None) -> float | None:
    """Refuses what neither a length nor a rate can be: 0 and less, `nan` and `inf`."""
    value = finite(parameter, value)
    if value is not None and value <= 0:
        raise UsageError(f"{parameter.opts[0]} {value:g}: must be above 0")
    return value


def one_model(argument: _Named | None, option: _Named | None) -> _Named | None:
    """Returns the model that was named, as the argument or as its option; None where it was not.

    Raises:
        UsageError: It was named as both.
    """
    if argument is not None and option is not None:
        raise UsageError(f"{argument} and {option}: give one model, as the argument or as its option")
    return option if argument is None else argument


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        "--ckpt",
        "--engine",
        metavar="NAME|FILE",
        help="A shipped model or method, or a file (.onnx, .trt, .xml, .pt).  [dim]\\[default: mlcl-edge][/dim]",
        show_default=False,
    ),
]
ThresholdOption = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        metavar="P|mean+Fstd|Fmax",
        help="Response from which on a pixel is a target's, or a rule for each frame; the model's own by default.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|tensorrt|openvino",
        help="Where to compute; auto takes the fastest that works.",
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; all cores by default.", show_default=False)
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.", show_default=False)]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the run's folder in runs/.", show_default=False)
]
ExistOkOption = Annotated[
    bool, typer.Option("--exist-ok", help="Write into the run's folder even if it is there.", show_default=False)
]
ResizeOption = Annotated[
    Size | None,
    typer.Option("--resize", parser=parse_size, metavar="WxH", help="Resize to this first.", show_default=False),
]
ViewsOption = Annotated[
    int,
    typer.Option(
        "--views",
        metavar="1|2|4",
        help="Ways round in which each frame is looked at: surer, at as many times the work.",
    ),
]
DistanceOption = Annotated[
    float | None,
    typer.Option(
        "--distance",
        callback=above_zero,
        help="A target is found when centroids lie closer than this, px.",
        show_default="3",
    ),
]
ImgszOption = Annotated[
    Size | None,
    typer.Option("--imgsz", parser=parse_size, metavar="WxH", help="Size of the input, px.", show_default=False),
]
PolarityOption = Annotated[
    str, typer.Option("--polarity", metavar="white-hot|black-hot", help="Whether targets are bright or dark.")
]
RangeOption = Annotated[
    Range | None,
    typer.Option(
        "--range",
        parser=parse_range,
        metavar="LO,HI",
        help="Counts that become black and white; those of the data by default.",
        show_default=False,
    ),
]
