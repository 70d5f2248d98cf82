"""The models that come in the package."""

from __future__ import annotations

from pathlib import Path

#: The model that every command uses when none is named.
DEFAULT_MODEL = "mlcl-edge"

#: Where the package keeps them: `<name>.onnx` for running, `<name>.pt` for exporting and fine-tuning.
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def shipped_models() -> tuple[str, ...]:
    """Returns the names of the models that come with irdet."""
    return tuple(sorted({path.stem for path in WEIGHTS.glob("*") if path.suffix in (".onnx", ".pt")}))


def shipped_path(name: str, suffix: str) -> Path | None:
    """Returns where a shipped model lies, or None when there is none of that name and kind."""
    path = WEIGHTS / f"{name}{suffix}"
    return path if name in shipped_models() and path.is_file() else None
