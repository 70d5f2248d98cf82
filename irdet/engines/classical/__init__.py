"""The methods before MLCL-Net, as engines: detectors that need no training and no file."""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from irdet.core.errors import UsageError

if TYPE_CHECKING:
    from irdet.engines.classical.method import Method, MethodEngine

__all__ = ["METHODS", "create_method", "open_method"]

#: Name of a method -> the module and the class that compute it.
METHODS = MappingProxyType(
    {
        "bilateral": ("irdet.engines.classical.bilateral", "Bilateral"),
        "tophat": ("irdet.engines.classical.tophat", "TopHat"),
        "spectral-residual": ("irdet.engines.classical.fourier", "SpectralResidual"),
        "phase-spectrum": ("irdet.engines.classical.fourier", "PhaseSpectrum"),
        "flux": ("irdet.engines.classical.flux", "FluxDensity"),
        "lcm": ("irdet.engines.classical.lcm", "LCM"),
        "mpcm": ("irdet.engines.classical.mpcm", "MPCM"),
        "ipi": ("irdet.engines.classical.ipi", "IPI"),
    }
)


def create_method(name: str, **parameters: Any) -> Method:
    """Creates a method by name.

    Args:
        name: A key of `METHODS`.
        **parameters: Fields of its class that are not to have their default.

    Raises:
        UsageError: A parameter that it does not have, or that cannot be.
    """
    module, kind = METHODS[name]
    factory = getattr(importlib.import_module(module), kind)
    try:
        method = factory(**parameters)
    except TypeError as error:
        raise UsageError(f"{name}: {error}") from error
    return method  # type: ignore[no-any-return]


def open_method(name: str, **parameters: Any) -> MethodEngine:
    """Opens a method as an engine; see `create_method`."""
    from irdet.engines.classical.method import MethodEngine

    return MethodEngine(name, create_method(name, **parameters))
