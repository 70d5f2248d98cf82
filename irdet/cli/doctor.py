"""`irdet doctor`: what is installed and usable on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from irdet.cli.options import JsonOption

if TYPE_CHECKING:
    from irdet.doctor.examine import Finding

_COLOURS = {"ok": "green", "missing": "yellow", "broken": "bold red"}


def doctor(as_json: JsonOption = False) -> None:
    """Shows what irdet can use here, what each missing piece costs, and the command that adds it.

    Runtimes are tried with the shipped model, in processes of their own. Exit code 0 where models run on one of them,
    1 where they run on none.
    """
    from irdet import __version__
    from irdet.cli.console import print_json, print_line
    from irdet.doctor.examine import examine

    report = examine()
    if as_json:
        print_json({"irdet": __version__, **report.to_dict()})
    else:
        print_line(f"irdet {__version__} on {report.machine}, {report.machine.system}")
        width = max(len(finding.part) for finding in report.findings)
        for finding in report.findings:
            _show(finding, width)
        told = f"models run here on {', '.join(report.runtimes)}" if report.runtimes else "models run here on nothing"
        print_line(told)
    if not report.runtimes:
        raise typer.Exit(1)


def _show(finding: Finding, width: int) -> None:
    from rich.text import Text

    from irdet.cli.console import out

    state = (f"{finding.state:<8}", _COLOURS[finding.state])
    lines = [Text.assemble(state, f"{finding.part:<{width}}  {finding.found}")]
    indent = " " * (8 + width + 2)
    lines += [Text(f"{indent}lost: {finding.cost}", "dim")] * bool(finding.cost)
    lines += [Text(f"{indent}run:  {finding.command}", "dim")] * bool(finding.command)
    for line in lines:
        out().print(line, soft_wrap=True)
