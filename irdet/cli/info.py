"""`irdet info`: what a network or a model file is, and what it costs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irdet.cli.options import ImgszOption, JsonOption, Size

if TYPE_CHECKING:
    from irdet.core.info import ModelInfo
    from irdet.models.cost import Cost

#: Size that networks are compared at where none is given.
SIZE = Size(512, 512)


def info(
    model: Annotated[
        str, typer.Argument(metavar="[NAME|FILE]", help="A network, a classical method, or a .pt or .onnx file.")
    ] = "mlcl-edge",
    imgsz: ImgszOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows parameters, GFLOP, receptive field and stride of a network, the record of a model file, or a method."""
    from irdet.cli.console import console, print_json, print_table
    from irdet.engines.classical import METHODS

    if model in METHODS:
        _method(model, as_json)
        return
    path, record, cost, notes = _look(model, imgsz)
    facts: dict[str, Any] = {
        "model": model,
        "file": str(path) if path else None,
        "bytes": path.stat().st_size if path else None,
        "parameters": cost.parameters if cost else record.parameters if record else None,
        "gflop": cost.gflop if cost else None,
        "size": f"{cost.width}x{cost.height}" if cost else None,
        "receptive_field": cost.receptive_field if cost else None,
        "stride": cost.stride if cost else record.stride if record else None,
        "threshold": record.threshold if record else None,
    }
    if as_json:
        print_json({**facts, "record": asdict(record) if record else None, "notes": notes})
        return
    rows = [
        ("file", f"{path} ({path.stat().st_size:,} bytes)" if path else "no weights"),
        ("parameters", f"{facts['parameters']:,}" if facts["parameters"] else None),
        (f"GFLOP at {facts['size'] or 'any size'}", facts["gflop"]),
        ("receptive field", f"{facts['receptive_field']} px" if cost else None),
        ("sizes are multiples of", f"{facts['stride']} px"),
    ]
    if record:
        free = record.height is None or record.width is None
        rows += [
            ("network", record.variant),
            ("input", "any size" if free else f"{record.width}x{record.height}"),
            ("threshold", record.threshold),
            ("precision", record.precision + (f" for {record.target}" if record.target else "")),
            ("opset", record.opset),
            ("written by irdet", record.irdet_version or None),
            ("weights", record.weights_sha256[:16] or None),
            *((f"training: {key}", _brief(value)) for key, value in record.training.items()),
            *((f"metrics: {key}", _brief(value)) for key, value in record.metrics.items()),
        ]
    print_table(model, rows)
    for note in notes:
        console().print(note, markup=False)


def _method(name: str, as_json: bool) -> None:
    """A classical method has neither file nor weights: where it comes from, and its settings."""
    import inspect

    from irdet.cli.console import print_json, print_table
    from irdet.engines.classical import create_method

    method = create_method(name)
    paragraphs = (inspect.getdoc(inspect.getmodule(method)) or "").split("\n\n")
    source = " ".join(paragraphs[1].split()).removeprefix("Source: ").removeprefix("Sources: ")
    about = (inspect.getdoc(method) or "").splitlines()[0]
    settings = asdict(method)
    if as_json:
        facts = {"model": name, "about": about, "source": source, "threshold": method.THRESHOLD}
        print_json({**facts, "settings": settings, "main": method.MAIN})
        return
    rows: list[tuple[str, object]] = [
        ("what it computes", about),
        ("source", source),
        ("threshold", method.THRESHOLD),
        *((f"setting: {key}", str(value)) for key, value in settings.items()),
        ("input", "any size"),
        ("training", "none"),
    ]
    print_table(name, rows)


def _look(model: str, imgsz: Size | None) -> tuple[Path | None, ModelInfo | None, Cost | None, list[str]]:
    """Returns the file, its record, the network's cost where torch can tell it, and notes."""
    from importlib.util import find_spec

    from irdet.engines import open_engine
    from irdet.engines.shipped import shipped_path

    torch = find_spec("torch") is not None
    shipped = shipped_path(model, ".pt") if torch else shipped_path(model, ".onnx")
    path = shipped or Path(model)
    if path.suffix in (".pt", ".pth"):
        from irdet.core.extras import require

        require("torch", "train", "reading a checkpoint")
        from irdet.models import load_model

        loaded = load_model(path)
        return path, loaded.info, _cost(loaded.module, loaded.info, imgsz), []
    if path.suffix or path.exists():
        with open_engine(path, device="cpu", threads=1) as engine:
            record, notes = engine.info, list(engine.notes)
        if not torch:
            return path, record, None, [*notes, "GFLOP and receptive field are measured with torch, which is not here"]
        from irdet.models import MODELS

        known = MODELS.get(record.variant)
        return path, record, _cost(known.build(), record, imgsz) if known else None, notes

    from irdet.core.extras import require

    require("torch", "train", "measuring a network")
    from irdet.models import create_model

    return None, None, _cost(create_model(model), None, imgsz), []


def _cost(module: Any, record: ModelInfo | None, imgsz: Size | None) -> Cost:
    from irdet.models.cost import cost

    if imgsz is None and record and record.height and record.width:
        imgsz = Size(record.width, record.height)
    width, height = imgsz or SIZE
    return cost(module, height, width)


def _brief(value: object, limit: int = 300) -> str:
    import json

    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else f"{text[:limit]} ..."
