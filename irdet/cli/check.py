"""`irdet check`: what a TensorRT will say to an ONNX file, before the file is on the device."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from irdet.cli.options import JsonOption


def check(
    model: Annotated[Path, typer.Argument(metavar="FILE", help="An .onnx file.", show_default=False)],
    target: Annotated[
        Literal["tensorrt-8.6", "tensorrt-10", "tensorrt-11", "rtx"],
        typer.Option("--for", help="The TensorRT that is to take it; rtx is the one for RTX desktop GPUs."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Looks for what TensorRT would refuse, misread or compute slowly. Exit code 1 where there are errors.

    JetPack 6.0 has TensorRT 8.6, JetPack 6.1 to 7 have TensorRT 10. Each finding names the node and the remedy. What
    passes here is most likely to build; irdet verify on the device is what proves it.
    """
    from irdet.cli.console import out, print_json
    from irdet.export.limits import LIMITS
    from irdet.export.lint import lint_model

    findings = lint_model(model, target)
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        print_json(
            {"model": str(model), "for": target, "errors": errors, "findings": [asdict(item) for item in findings]}
        )
    else:
        for finding in findings:
            out().print(str(finding), markup=False, soft_wrap=True)
        told = ", ".join(
            f"{count} {what}{'s' * (count != 1)}"
            for what, count in (("error", errors), ("warning", len(findings) - errors))
        )
        print(f"{'FAIL' if errors else 'PASS'} {model} for {LIMITS[target].name}: {told}")
    if errors:
        raise typer.Exit(1)
