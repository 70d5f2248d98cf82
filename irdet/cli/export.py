"""`irdet export`: a checkpoint becomes an ONNX file that was checked, and an ONNX file a TensorRT engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from irdet.cli.build import (
    MOST_BATCH,
    CapabilityOption,
    HardwareOption,
    ProfileOption,
    TimingCacheOption,
    VersionOption,
    Wanted,
    WorkspaceOption,
    build,
    build_where_possible,
    check,
)
from irdet.cli.options import (
    ImgszOption,
    JsonOption,
    PolarityOption,
    QuietOption,
    RangeOption,
    finite,
    one_model,
)
from irdet.cli.source_options import NormaliseOption, NucOption, made_preprocessor
from irdet.core.errors import UsageError
from irdet.export.limits import HALF_SCALE_OPSET

if TYPE_CHECKING:
    from irdet.export.gate import Verdict
    from irdet.export.onnx import Exported, OnnxOptions
    from irdet.export.precision import PrecisionOptions, Reduction
    from irdet.models import LoadedModel

#: Size of the graph's input where neither --imgsz nor --dynamic is given (width, height).
SIZE = (512, 512)

#: ONNX opset where none is asked for: what TensorRT 8.6 reads.
OPSET = 17

#: Frames to calibrate on where no number is given.
CALIB_IMAGES = 128

_PRECISION = "Precision"


def export(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A checkpoint (.pt) or a shipped model to export to ONNX, or an .onnx file to build an engine from.",
            show_default=False,
        ),
    ] = None,
    ckpt: Annotated[
        str | None,
        typer.Option("--ckpt", "--model", "-m", metavar="NAME|FILE", help="The same.", show_default="mlcl-edge"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE|DIR", help="Default: beside the model, by precision.", show_default=False
        ),
    ] = None,
    imgsz: ImgszOption = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Leave height, width and batch free.", show_default=False)
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, max=MOST_BATCH, help="Frames at once, for a fixed size.", show_default="1"),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(
            "--opset",
            min=1,
            help=f"ONNX opset.  [dim]\\[default: {OPSET}; {HALF_SCALE_OPSET} for --int8 --fp16][/dim]",
            show_default=False,
        ),
    ] = None,
    simplify: Annotated[
        bool | None,
        typer.Option("--simplify/--no-simplify", help="Run onnxsim over the graph.", show_default="simplify"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Labelled frames to check on; of --calib a part is held out where this is not given.",
            show_default=False,
        ),
    ] = None,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Half precision.", show_default=False, rich_help_panel=_PRECISION)
    ] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="8-bit convolutions; with --fp16 the rest is half.",
            show_default=False,
            rich_help_panel=_PRECISION,
        ),
    ] = False,
    int8_target: Annotated[
        Literal["tensorrt", "cpu"] | None,
        typer.Option(
            "--int8-target",
            help="What is to run the INT8 graph.",
            show_default="tensorrt",
            rich_help_panel=_PRECISION,
        ),
    ] = None,
    calib: Annotated[
        Path | None,
        typer.Option(
            "--calib",
            metavar="DIR",
            help="Frames to calibrate INT8 on; masks are used where there are some.",
            show_default=False,
            rich_help_panel=_PRECISION,
        ),
    ] = None,
    calib_images: Annotated[
        int | None,
        typer.Option(
            "--calib-images",
            min=1,
            help="Frames to calibrate on.",
            show_default=str(CALIB_IMAGES),
            rich_help_panel=_PRECISION,
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            min=0.0,
            callback=finite,
            help="IoU that may be lost.  [dim]\\[default: 0.01 for INT8, 0.002 for FP16][/dim]",
            show_default=False,
            rich_help_panel=_PRECISION,
        ),
    ] = None,
    polarity: PolarityOption = "white-hot",
    range_: RangeOption = None,
    normalise: NormaliseOption = "range",
    nuc: NucOption = None,
    profile: ProfileOption = None,
    workspace: WorkspaceOption = None,
    timing_cache: TimingCacheOption = None,
    capability: CapabilityOption = None,
    hardware_compatible: HardwareOption = False,
    version_compatible: VersionOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Exports a checkpoint to ONNX, checks it, and stores golden frames for irdet verify; builds TensorRT engines.

    The size is fixed (512x512, or --imgsz) unless --dynamic is given. Nothing is written when the exported model does
    not give the probabilities and targets that the network gives in torch, or when FP16 or INT8 lose more IoU on
    labelled frames than --max-drop allows.

    Frames to calibrate and judge on are mapped as --polarity, --range, --normalise and --nuc say: give what irdet infer
    will be given.

    With --fp16 or --int8 an engine is built from the ONNX file where TensorRT is installed; elsewhere copy the file to
    the device and run irdet export FILE.onnx there, which needs neither torch nor onnx.
    """
    from irdet.cli.console import print_json, say
    from irdet.core.extras import require

    source = one_model(model, ckpt) or "mlcl-edge"
    wanted = Wanted(profile, workspace, timing_cache, capability, hardware_compatible, version_compatible)
    mapped = {
        "--polarity": None if polarity == "white-hot" else polarity,
        "--range": range_,
        "--normalise": None if normalise == "range" else normalise,
        "--nuc": nuc,
    }
    if Path(source).suffix.lower() == ".onnx":
        given = {
            "--imgsz": imgsz,
            "--dynamic": dynamic or None,
            "--batch": batch,
            "--opset": opset,
            "--simplify": simplify,
            "--data": data,
            "--int8-target": int8_target,
            "--calib": calib,
            "--calib-images": calib_images,
            "--max-drop": max_drop,
            **mapped,
        }
        if wrong := next((name for name, value in given.items() if value is not None), None):
            raise UsageError(f"{wrong} is for checkpoints: what {source} computes, in which size, is in the file")
        precision = {(True, False): "fp16", (False, True): "int8", (True, True): "int8+fp16"}.get((fp16, int8))
        facts = build(Path(source), output, precision, wanted, quiet, as_json)
        if as_json:
            print_json(facts)
        return

    if dynamic and imgsz:
        raise UsageError("--imgsz fixes the size and --dynamic leaves it free: give one of them")
    if calib is not None and not int8:
        raise UsageError("--calib is for --int8; frames to check on are given with --data DIR")
    if not int8 and (int8_target is not None or calib_images is not None):
        raise UsageError(f"{'--calib-images' if int8_target is None else '--int8-target'} is for --int8")
    if max_drop is not None and not (fp16 or int8):
        raise UsageError("--max-drop is for --fp16 and --int8: an fp32 graph must agree with torch")
    wrong = next((name for name, value in mapped.items() if value is not None), None)
    if wrong and not (int8 or (fp16 and data)):
        raise UsageError(f"{wrong} is about the frames that --int8, and --fp16 with --data, are measured on")
    batch, target = batch or 1, int8_target or "tensorrt"
    if int8 and target == "cpu" and wanted.any:
        raise UsageError("--int8-target cpu makes no TensorRT engine: leave the builder's options out")
    path = _destination(source, output, _precision_suffix(fp16, int8, target))
    if wanted.profile is not None and not dynamic:
        raise UsageError("--profile is for graphs of free size: add --dynamic")
    require("torch", "export", "exporting")

    from irdet.export.onnx import OnnxOptions
    from irdet.export.precision import PrecisionOptions
    from irdet.models import load_model

    options = OnnxOptions(
        None if dynamic else (imgsz or SIZE),
        batch,
        opset or (HALF_SCALE_OPSET if fp16 and int8 else OPSET),
        simplify is not False,
    )
    reduced = (
        PrecisionOptions(
            fp16,
            target if int8 else None,
            calib,
            calib_images or CALIB_IMAGES,
            max_drop,
            preprocessor=made_preprocessor(range_, normalise, nuc),
            polarity=polarity,
        )
        if fp16 or int8
        else None
    )
    loaded = load_model(source)
    if wanted.any:
        record = {"precision": reduced.name, "target": reduced.int8} if reduced else {}
        check(loaded.info.replace(**record), path, wanted)
    result, reduction = _export(loaded, path, options, reduced, data, quiet)
    for warning in result.warnings:
        say(f"warning: {warning}")
    shape = [None if dynamic else batch, 1, result.info.height, result.info.width]
    if not as_json:
        _report(result, reduction, shape)
    engine = None
    if result.info.target != "cpu" and (reduced or wanted.any):
        engine = build_where_possible(result.path, wanted, quiet, as_json)
    if as_json:
        print_json({**_facts(result, reduction, shape), "engine": engine})


def _export(
    loaded: LoadedModel,
    path: Path,
    options: OnnxOptions,
    precision: PrecisionOptions | None,
    data: Path | None,
    quiet: bool,
) -> tuple[Exported, Reduction | None]:
    from irdet.cli.console import progress
    from irdet.export.onnx import export_onnx
    from irdet.export.precision import export_reduced

    if precision is None:
        return export_onnx(loaded, path, options, data=data), None

    @contextmanager
    def stage(what: str, total: int) -> Iterator[Callable[[], object]]:
        with progress(what, total, quiet) as advance:
            yield advance

    return export_reduced(loaded, path, options, precision, data=data, stage=stage)


def _facts(result: Exported, reduction: Reduction | None, shape: list[int | None]) -> dict[str, Any]:
    return {
        "onnx": str(result.path),
        "golden": str(result.golden),
        "bytes": {str(file): file.stat().st_size for file in (result.path, result.golden)},
        "input": shape,
        "opset": result.info.opset,
        "variant": result.info.variant,
        "precision": result.info.precision,
        "target": result.info.target,
        "weights_sha256": result.info.weights_sha256,
        "parity": result.parity.to_dict(),
        "reduction": reduction and reduction.to_dict(),
        "warnings": list(result.warnings),
    }


def _report(result: Exported, reduction: Reduction | None, shape: list[int | None]) -> None:
    from irdet.cli.console import print_table

    info, parity = result.info, result.parity
    kind = "uint8" if info.target == "cpu" else "float32"
    against = "agrees with torch" if reduction is None else "ONNX Runtime agrees"
    rows = [
        *(
            (name, f"{file} ({file.stat().st_size:,} bytes)")
            for name, file in (("model", result.path), ("golden frames", result.golden))
        ),
        ("input", f"{kind}, {'any batch and size' if shape[0] is None else ' x '.join(map(str, shape))}"),
        ("opset", str(info.opset)),
        (against, f"{parity.frames} frames, largest difference {parity.max_difference:.2g}"),
        ("same targets", str(parity.targets)),
    ]
    if reduction is not None:
        rows.insert(2, ("precision", info.precision + (f" for {info.target}" if info.target else "")))
        if half := reduction.half:
            rows.append(("largest value", f"{half.peak:.4g} in {half.peak_tensor} (half holds 65504)"))
            rows.append(("in float32", ", ".join(half.kept) or "nothing"))
        if known := reduction.calibration:
            rows.append(("calibrated on", f"{known.frames} frames{', ranges from the cache' * known.cached}"))
    print_table(f"{info.variant} -> ONNX", rows)
    if reduction is not None and reduction.verdict is not None:
        _compare(reduction.verdict, info.precision)


def _compare(verdict: Verdict, precision: str) -> None:
    """Prints the accuracy gate's figures side by side."""
    from irdet.cli.console import print_line, print_table

    before, after = verdict.before, verdict.after
    names = {"iou": "IoU", "niou": "nIoU", "pd": "Pd", "fa": "Fa, 1e-6"}
    print_table(
        f"Accuracy gate: {before.images} frames, {before.targets} targets, native size, threshold {before.threshold:g}",
        [
            (name, f"{one:.4f}", f"{other:.4f}", f"{other - one:+.4f}")
            for key, name in names.items()
            for one, other in [(getattr(before, key), getattr(after, key))]
        ],
        ("", "fp32", precision, "difference"),
    )
    kept = f"in float: {', '.join(verdict.kept)}" if verdict.kept else "no layer in float"
    form = "half" if precision == "fp16" else "INT8"
    print_line(
        f"IoU may drop by {verdict.max_drop:g}; {kept}; {verdict.share:.1%} of the convolutions' work is {form}; "
        f"largest difference of a probability {verdict.max_difference:.3f}"
    )


def _precision_suffix(fp16: bool, int8: bool, target: str) -> str:
    """Returns what the file's name carries: `-fp16`, `-int8`, `-int8-cpu`, `-int8-fp16`, or nothing for fp32."""
    return "-int8" * int8 + "-cpu" * (int8 and target == "cpu") + "-fp16" * fp16


def _destination(source: str, output: Path | None, reduced: str) -> Path:
    """Returns the file to write: beside a checkpoint, in this folder for a shipped model, or as asked."""
    model = Path(source)
    name = f"{model.stem if model.suffix else model.name}{reduced}.onnx"
    if output is None:
        return model.with_name(name) if model.suffix else Path(name)
    if output.is_dir() or not output.suffix:
        return output / name
    if output.suffix.lower() != ".onnx":
        raise UsageError(f"--output {output}: the file is ONNX, so name it .onnx (or give a folder)")
    return output
