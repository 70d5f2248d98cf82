"""`irdet export`: a checkpoint becomes an ONNX file that was checked against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from irdet.cli.options import ImgszOption, JsonOption
from irdet.core.errors import UsageError

#: Size of the graph's input where neither --imgsz nor --dynamic is given (width, height).
SIZE = (512, 512)


def export(
    ckpt: Annotated[
        str,
        typer.Option("--ckpt", "--model", "-m", metavar="NAME|FILE", help="A checkpoint (.pt), or a shipped model."),
    ] = "mlcl-edge",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE|DIR", help="Default: beside the checkpoint, as .onnx.", show_default=False
        ),
    ] = None,
    imgsz: ImgszOption = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Leave height, width and batch free.", show_default=False)
    ] = False,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Frames at once, for a fixed size.")] = 1,
    opset: Annotated[int, typer.Option("--opset", help="ONNX opset; 17 is what TensorRT 8.6 reads.")] = 17,
    simplify: Annotated[bool, typer.Option("--simplify/--no-simplify", help="Run onnxsim over the graph.")] = True,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Check on a data set too; two frames of it go into the golden frames.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Exports a checkpoint to ONNX, compares it with torch, and stores golden frames for irdet verify.

    The size is fixed (512x512, or --imgsz) unless --dynamic is given. Nothing is written when the exported model does
    not give the probabilities and targets that the network gives in torch.
    """
    from irdet.core.extras import require

    if dynamic and imgsz:
        raise UsageError("--imgsz fixes the size and --dynamic leaves it free: give one of them")
    if Path(ckpt).suffix == ".onnx":
        raise UsageError(f"{ckpt} is exported already: --ckpt takes a checkpoint (.pt) or the name of a shipped model")
    path = _destination(ckpt, output)
    require("torch", "export", "exporting")

    from irdet.cli.console import console, print_json, print_table
    from irdet.export.onnx import OnnxOptions, export_onnx
    from irdet.models import load_model

    options = OnnxOptions(None if dynamic else (imgsz or SIZE), batch, opset, simplify)
    result = export_onnx(load_model(ckpt), path, options, data=data)

    sizes = {str(file): file.stat().st_size for file in (result.path, result.golden)}
    for warning in result.warnings:
        console().print(f"warning: {warning}", markup=False)
    if as_json:
        print_json(
            {
                "onnx": str(result.path),
                "golden": str(result.golden),
                "bytes": sizes,
                "input": [None if dynamic else batch, 1, result.info.height, result.info.width],
                "opset": result.info.opset,
                "variant": result.info.variant,
                "weights_sha256": result.info.weights_sha256,
                "parity": result.parity.to_dict(),
                "warnings": list(result.warnings),
            }
        )
        return
    shape = "any batch and size" if dynamic else f"{batch} x 1 x {result.info.height} x {result.info.width}"
    parity = result.parity
    print_table(
        f"{result.info.variant} -> ONNX",
        [
            *(
                (("model", "golden frames")[i], f"{name} ({size:,} bytes)")
                for i, (name, size) in enumerate(sizes.items())
            ),
            ("input", f"float32, {shape}"),
            ("opset", str(result.info.opset)),
            ("agrees with torch", f"{parity.frames} frames, largest difference {parity.max_difference:.2g}"),
            ("same targets", str(parity.targets)),
        ],
    )


def _destination(ckpt: str, output: Path | None) -> Path:
    """Returns the file to write: beside a checkpoint, in this folder for a shipped model, or as asked."""
    source = Path(ckpt)
    name = f"{source.stem if source.suffix else source.name}.onnx"
    if output is None:
        return source.with_name(name) if source.suffix else Path(name)
    if output.is_dir() or not output.suffix:
        return output / name
    if output.suffix != ".onnx":
        raise UsageError(f"--output {output}: the file is ONNX, so name it .onnx (or give a folder)")
    return output
