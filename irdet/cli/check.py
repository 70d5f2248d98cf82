"""`irdet check`: what a TensorRT will say to an ONNX file, before the file is on the device."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from irdet.cli.options import JsonOption, one_model
from irdet.core.errors import UsageError


def check(
    *,
    model: Annotated[Path | None, typer.Argument(metavar="FILE", help="An .onnx file.", show_default=False)] = None,
    given: Annotated[
        Path | None, typer.Option("--model", "-m", metavar="FILE", help="The same.", show_default=False)
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="8.6|10|11|rtx",
            help="The TensorRT that is to take it; rtx is the one for RTX desktop GPUs. tensorrt-10 is 10, too.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Looks for what TensorRT would refuse, misread or compute slowly. Exit code 1 where there are errors.

    JetPack 6.0 has TensorRT 8.6, JetPack 6.1 to 7 have TensorRT 10. Each finding names the node and the remedy. What
    passes here is most likely to build; irdet verify on the device is what proves it.
    """
    from irdet.cli.console import print_json, print_line
    from irdet.export.limits import LIMITS
    from irdet.export.lint import lint_model

    if (file := one_model(model, given)) is None:
        raise UsageError("name the .onnx file to check")
    version = f"{target.removeprefix('tensorrt-')}."
    # What holds for a version holds for all that begin like it: 8.6.2, 10.3.
    name = next((name for name in LIMITS if version.startswith(f"{name.removeprefix('tensorrt-')}.")), None)
    if name is None:
        raise UsageError(f"--for {target}: choose {', '.join(LIMITS)}")
    findings = lint_model(file, name)
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        print_json({"model": str(file), "for": name, "errors": errors, "findings": [asdict(item) for item in findings]})
    else:
        for finding in findings:
            print_line(finding)
        told = ", ".join(
            f"{count} {what}{'s' * (count != 1)}"
            for what, count in (("error", errors), ("warning", len(findings) - errors))
        )
        print_line(f"{'FAIL' if errors else 'PASS'} {file} for {LIMITS[name].name}: {told}")
    if errors:
        raise typer.Exit(1)
