"""`irdet tune`: finds the threshold for a false-alarm budget and writes it into a copy of the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    ViewsOption,
    finite,
)
from irdet.cli.source_options import NormaliseOption, NucOption, made_preprocessor
from irdet.core.errors import UsageError

if TYPE_CHECKING:
    from irdet.metrics.curves import Curves

#: Thresholds shown on each side of the chosen one.
AROUND = 4

_COLUMNS = ("threshold", "pd", "fa", "iou", "niou", "precision", "recall", "false_targets")


def tune(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Images and masks, or an index file (.txt).", show_default=False),
    ],
    model: ModelOption = None,
    max_fa: Annotated[
        float | None,
        typer.Option(
            "--max-fa",
            min=0.0,
            callback=finite,
            help="Budget for Fa, in 1e-6. Without it the best IoU is looked for.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Part of the data set, for instance val.", show_default=False)
    ] = None,
    resize: ResizeOption = None,
    views: ViewsOption = 1,
    polarity: PolarityOption = "white-hot",
    range_: RangeOption = None,
    normalise: NormaliseOption = "range",
    nuc: NucOption = None,
    distance: DistanceOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The copy.  [dim]\\[default: in runs/tune][/dim]", show_default=False
        ),
    ] = None,
    exist_ok: ExistOkOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Finds the threshold with the highest Pd within a false-alarm budget, and writes it into a copy of the model.

    The figures that it prints are measured on the data that the threshold was chosen on: test on others.
    """
    from irdet.cli.console import print_json, print_line, print_table, progress, tell_notes
    from irdet.cli.rundir import named_after, run_folder
    from irdet.data.sirst import load_dataset
    from irdet.engines import open_engine, resolve_model
    from irdet.engines.record import read_record
    from irdet.evaluation.evaluate import evaluate
    from irdet.evaluation.tune import check_copy, choose_threshold, write_threshold
    from irdet.metrics.target import DISTANCE
    from irdet.runtime.detector import Detector

    file = resolve_model(model)
    check_copy(file, output or file)
    if file.suffix.lower() == ".onnx":
        read_record(file)
    if output is not None and output.is_dir():
        raise UsageError(f"{output} is a folder: name a file")
    if output is not None and output.exists() and not exist_ok:
        raise UsageError(f"{output} is there already: choose another name, or add --exist-ok")
    if nuc is not None and resize is not None:
        raise UsageError("--nuc is of the camera's own size: leave --resize out")
    preprocessor = made_preprocessor(range_, normalise, nuc)
    reach = DISTANCE if distance is None else distance
    dataset = load_dataset(data, split)
    with open_engine(file, device=device, threads=threads) as engine:
        tell_notes((*engine.notes, *dataset.notes), quiet)
        with progress("measuring", len(dataset), quiet) as advance:
            evaluation = evaluate(
                *(Detector(engine, polarity=polarity, views=views), dataset),
                resize=resize,
                distance=reach,
                preprocessor=preprocessor,
                progress=advance,
            )
        own = engine.info.threshold
    curves = evaluation.curves
    chosen = choose_threshold(curves, max_fa)
    threshold = round(float(curves.thresholds[chosen]), 6)
    if output is None:
        with run_folder(None, "tune", named_after(file.stem), exist_ok) as folder:
            output = folder / file.name
            write_threshold(file, output, threshold)
    else:
        write_threshold(file, output, threshold)

    old = int(abs(curves.thresholds - own).argmin())
    before, after = _at(curves, old), _at(curves, chosen)
    if as_json:
        print_json(
            {
                "before": before,
                "after": after,
                "max_fa": max_fa,
                "data": dataset.name,
                "resize": resize,
                "polarity": polarity,
                "views": views,
                **preprocessor.to_dict(),
                "images": curves.images,
                "targets": curves.targets,
                "model": output,
            }
        )
        return
    first = max(0, chosen - AROUND)
    around = [_at(curves, step) for step in range(first, min(len(curves.thresholds), chosen + AROUND + 1))]
    size = "native size" if resize is None else f"resized to {resize.width}x{resize.height}"
    print_table(
        f"{evaluation.model} on {dataset.name}: {curves.images} images, {curves.targets} targets, {size}; Fa in 1e-6",
        [
            ("*" if first + row == chosen else "", *(values[name] for name in _COLUMNS))
            for row, values in enumerate(around)
        ],
        ("", *_COLUMNS),
    )
    print_table(
        "Before and after",
        [(name, *(values[column] for column in _COLUMNS)) for name, values in (("before", before), ("after", after))],
        ("", *_COLUMNS),
    )
    print_line(f"threshold {threshold:g} is in {output}; measure it on data that it was not chosen on")


def _at(curves: Curves, step: int) -> dict[str, Any]:
    values = {name: getattr(curves, name)[step].item() for name in _COLUMNS if name != "threshold"}
    return {"threshold": round(float(curves.thresholds[step]), 6), **values}
