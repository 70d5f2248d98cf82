"""`irdet verify`: replays a model's golden frames on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from irdet.cli.options import DeviceOption, JsonOption, ModelOption, ThreadsOption, one_model


def verify(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]", help="An exported model, or a shipped one (the default).", show_default=False
        ),
    ] = None,
    given: ModelOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Checks that a model gives here what it gave when it was exported. Exit code 0 for PASS, 1 for FAIL.

    The frames and their outputs lie beside the model, in NAME.golden.npz, where irdet export put them.
    """
    from irdet.cli.console import print_json, tell_notes
    from irdet.engines import open_engine, resolve_model
    from irdet.engines.golden import golden_path, read_golden, replay

    path = resolve_model(one_model(model, given))
    golden = read_golden(golden_path(path))
    with open_engine(path, device=device, threads=threads) as engine:
        result = replay(engine, golden)
        runtime, notes, precision = engine.runtime, engine.notes, engine.info.precision
    tell_notes(notes)
    if as_json:
        print_json({"model": str(path), "runtime": runtime, "precision": precision, **result.to_dict()})
    else:
        told = f"differ ({result.mismatch})" if result.mismatch else f"identical ({result.targets})"
        left = f"; {result.left_out} of sizes that it does not take left out" if result.left_out else ""
        beyond = f"; {result.outliers} of {result.allowed} pixels beyond it that may be" if result.outliers else ""
        print(
            f"{'PASS' if result.passed else 'FAIL'} {path} on {runtime}, {precision}: {result.frames} frames{left}, "
            f"largest difference {result.max_difference:.2g} (allowed {result.tolerance:g}{beyond}), targets {told}"
        )
    if not result.passed:
        raise typer.Exit(1)
