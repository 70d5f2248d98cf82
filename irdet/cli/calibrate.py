"""`irdet calibrate`: measures the pixels of a camera, for `irdet infer --nuc`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irdet.cli.options import JsonOption, QuietOption
from irdet.cli.source_options import (
    LimitOption,
    MaxPixelsOption,
    RawDtypeOption,
    RawShapeOption,
    StartOption,
    StrideOption,
    source_options,
)
from irdet.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from irdet.runtime.sources import SourceOptions


def calibrate(
    output: Annotated[Path, typer.Argument(metavar="FILE", help="The correction to write (.npz).", show_default=False)],
    cold: Annotated[
        str | None, typer.Option("--cold", metavar="SOURCE", help="Frames of a uniform surface.", show_default=False)
    ] = None,
    hot: Annotated[
        str | None, typer.Option("--hot", metavar="SOURCE", help="Frames of a warmer one.", show_default=False)
    ] = None,
    shutter: Annotated[
        str | None,
        typer.Option(
            "--shutter", metavar="SOURCE", help="Frames of the closed shutter: new offsets.", show_default=False
        ),
    ] = None,
    scene: Annotated[
        str | None,
        typer.Option(
            "--scene", metavar="SOURCE", help="A sequence of a moving scene, to find bad pixels in.", show_default=False
        ),
    ] = None,
    nuc: Annotated[
        Path | None,
        typer.Option("--nuc", metavar="FILE", help="Go on from this correction instead of none.", show_default=False),
    ] = None,
    start: StartOption = 0,
    stride: StrideOption = 1,
    limit: LimitOption = None,
    raw_shape: RawShapeOption = None,
    raw_dtype: RawDtypeOption = None,
    max_pixels: MaxPixelsOption = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Write over FILE.", show_default=False)] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measures gain, offset and bad pixels of a camera.

    --cold and --hot together give gain and offset (two-point), --shutter new offsets (one-point), --scene the bad
    pixels. A source is what irdet infer takes; its frames are averaged as raw counts.
    """
    import numpy as np

    from irdet.cli.console import print_json, print_line
    from irdet.core import nuc as correction_of

    if (cold is None) != (hot is None):
        raise UsageError("--cold and --hot belong together: two uniform temperatures")
    if cold is not None and nuc is not None:
        raise UsageError("--cold and --hot make a correction from nothing: leave --nuc out")
    if cold is None and shutter is None and scene is None:
        raise UsageError("nothing to measure: give --cold and --hot, --shutter or --scene")
    if output.suffix != ".npz":
        raise UsageError(f"{output}: the correction is a .npz file")
    if output.exists() and not exist_ok:
        raise UsageError(f"{output} is there already: choose another name, or add --exist-ok")
    taken = source_options(
        start=start,
        stride=stride,
        limit=limit,
        fps=None,
        raw_shape=raw_shape,
        raw_dtype=raw_dtype,
        max_pixels=max_pixels,
        give_up=None,
    )
    correction = None if nuc is None else correction_of.read_correction(nuc)
    if cold is not None and hot is not None:
        means = (correction_of.mean_frame(_frames(one, taken, quiet)) for one in (cold, hot))
        correction = correction_of.two_point(*means)
    if shutter is not None:
        mean = correction_of.mean_frame(_frames(shutter, taken, quiet))
        correction = (correction or correction_of.identity(mean.shape)).with_shutter(mean)
    if scene is not None:
        known = correction
        counts = (
            frame.astype(np.float32) if known is None else known.apply(frame.astype(np.float32), scene)
            for frame in _frames(scene, taken, quiet)
        )
        bad = correction_of.find_bad(counts)
        correction = (correction or correction_of.identity(bad.shape)).with_bad(bad)
    assert correction is not None
    correction.write(output)
    height, width = correction.gain.shape
    good = ~correction.bad
    record = {
        "file": output,
        "width": width,
        "height": height,
        "bad_pixels": int(correction.bad.sum()),
        "gain_std": float(correction.gain[good].std()),
        "offset_std": float(correction.offset[good].std()),
    }
    if as_json:
        print_json(record)
    else:
        print_line(
            f"{output}: {width}x{height} px, {record['bad_pixels']} bad; gain differs by {record['gain_std']:.4f}, "
            f"offset by {record['offset_std']:.2f} counts (standard deviations)"
        )


def _frames(source: str, options: SourceOptions, quiet: bool) -> Iterator[NDArray[np.generic]]:
    """Yields the raw grey frames of a source, and shows how far it is."""
    from irdet.cli.console import progress, tell_skipped
    from irdet.core.frame import to_grey
    from irdet.runtime.sources import open_source, redacted

    with open_source(source, options) as frames:
        if frames.live and options.limit is None:
            raise UsageError(f"{redacted(source)} never ends: add --limit N")
        frames.skipped.listen(tell_skipped)
        with progress(f"reading {frames.name}", frames.length, quiet) as advance:
            for frame in frames:
                yield to_grey(frame.pixels, f"{frame.name} (frame {frame.index})")
                advance()
