"""`irdet info`: what a network or a model file is, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irdet.cli.options import ImgszOption, JsonOption, ModelOption, Size, one_model
from irdet.core.errors import ModelError, unknown_name

if TYPE_CHECKING:
    from irdet.core.info import ModelInfo
    from irdet.models.cost import Cost

#: Size that networks are compared at where none is given.
SIZE = Size(512, 512)


@dataclass(frozen=True)
class _Known:
    """What is known of a network or a model file; None where it cannot be told."""

    path: Path | None = None
    record: ModelInfo | None = None
    cost: Cost | None = None
    takes: str | None = None
    notes: tuple[str, ...] = ()
    sizes: str = ""


def info(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="A network, a method, or a model file (.pt, .onnx, .xml, .trt).  [dim]\\[default: mlcl-edge][/dim]",
            show_default=False,
        ),
    ] = None,
    given: ModelOption = None,
    imgsz: ImgszOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows parameters, GFLOP, receptive field and stride of a network, the record of a model file, or a method."""
    from irdet.cli.console import print_json, print_table, tell_notes
    from irdet.engines.classical import METHODS

    model = one_model(name, given) or "mlcl-edge"
    if model in METHODS:
        _method(model, as_json)
        return
    known = _look(model, imgsz)
    path, record, cost = known.path, known.record, known.cost
    facts: dict[str, Any] = {
        "model": model,
        "file": str(path) if path else None,
        "bytes": path.stat().st_size if path else None,
        "parameters": cost.parameters if cost else record.parameters if record else None,
        "gflop": cost.gflop if cost else None,
        "size": f"{cost.width}x{cost.height}" if cost else None,
        "receptive_field": cost.receptive_field if cost else None,
        "stride": cost.stride if cost else record.stride if record else None,
        "takes": known.takes,
        "threshold": record.threshold if record else None,
    }
    if as_json:
        print_json({**facts, "record": asdict(record) if record else None, "notes": known.notes})
        return
    rows = [
        ("file", f"{path} ({path.stat().st_size:,} bytes)" if path else "no weights"),
        ("parameters", f"{facts['parameters']:,}" if facts["parameters"] else None),
        (f"GFLOP at {facts['size'] or 'any size'}", facts["gflop"]),
        ("receptive field", f"{facts['receptive_field']} px" if cost else None),
        ("sizes are multiples of", f"{facts['stride']} px"),
    ]
    if record:
        free = record.height is None and record.width is None
        size = "any size" if free else f"{record.width or 'any'}x{record.height or 'any'}"
        rows += [
            ("network", record.variant),
            ("input", f"{known.takes}, {known.sizes or size}"),
            ("threshold", record.threshold),
            ("precision", record.precision + (f" for {record.target}" if record.target else "")),
            ("opset", record.opset),
            ("written by irdet", record.irdet_version or None),
            ("weights", record.weights_sha256[:16] or None),
            *((f"training: {key}", _brief(value)) for key, value in record.training.items()),
            *((f"metrics: {key}", _brief(value)) for key, value in record.metrics.items()),
        ]
    print_table(model, rows)
    tell_notes(known.notes)


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


def _look(model: str, imgsz: Size | None) -> _Known:
    """Reads a model file or builds a network; its cost is known where torch can tell it."""
    from importlib.util import find_spec

    from irdet.engines import open_engine
    from irdet.engines.shipped import shipped_path
    from irdet.engines.tensorrt.sidecar import PLANS, Sidecar

    torch = find_spec("torch") is not None
    shipped = [shipped_path(model, suffix) for suffix in ((".pt", ".onnx") if torch else (".onnx",))]
    path = next(filter(None, shipped), Path(model))
    if path.suffix in (".pt", ".pth"):
        from irdet.core.extras import require

        require("torch", "train", "reading a checkpoint")
        from irdet.models import load_model

        loaded = load_model(path)
        return _Known(path, loaded.info, _cost(loaded.module, loaded.info, imgsz), "float32")
    if path.suffix.lower() in PLANS:  # its sidecar tells, and what runs it need not be here
        if not path.exists():
            raise ModelError(f"no such file: {path}")
        sidecar = Sidecar.read(path)
        where = sidecar.gpu or ", ".join(f"{major}.{minor}" for major, minor in sidecar.capabilities)
        built = f"built by {sidecar.library} {sidecar.version} for {where}; {sidecar.command}"
        sizes = ""
        if sidecar.profile is not None:
            least, best, most = map(_shape, sidecar.profile)
            sizes = f"{least} to {most}, best at {best}"
        return _Known(path, sidecar.info, None, "float32", (built,), sizes)
    if path.suffix or path.exists():
        with open_engine(path, device="cpu", threads=1) as engine:
            known = _Known(path, engine.info, None, engine.dtype.__name__, engine.notes)
        if not torch:
            untold = "GFLOP and receptive field are measured with torch, which is not here"
            return replace(known, notes=(*known.notes, untold))
        from irdet.models import MODELS

        spec = MODELS.get(engine.info.variant)
        return known if spec is None else replace(known, cost=_cost(spec.build(), engine.info, imgsz))

    from irdet.core.extras import require

    require("torch", "train", "measuring a network")
    from irdet.engines.classical import METHODS
    from irdet.engines.shipped import shipped_models
    from irdet.models import MODELS, create_model

    if model not in MODELS:
        raise unknown_name("model", model, dict.fromkeys((*MODELS, *shipped_models(), *METHODS)))
    return _Known(cost=_cost(create_model(model), None, imgsz))


def _shape(shape: Sequence[int]) -> str:
    """Returns [N, 1, H, W] as it is given on the command line: WxH, or NxWxH."""
    count, _, height, width = shape
    return f"{width}x{height}" if count == 1 else f"{count}x{width}x{height}"


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
