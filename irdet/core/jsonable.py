"""Values in the words that JSON has, so that every reader can read what irdet writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def jsonable(value: Any) -> Any:
    """Returns a value as JSON has words for: null for NaN and infinities, numbers and lists for numpy's.

    Args:
        value: None, bool, int, float, str, Path, numpy scalar or array, or a mapping, list or tuple of such.

    Raises:
        TypeError: There is something else in it.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy's, without importing numpy for it
        return jsonable(value.tolist())
    raise TypeError(f"{type(value).__name__} has no form in JSON")
