"""Heavy packages are imported where they are used, and their absence is told in one line."""

from __future__ import annotations

import importlib
from types import ModuleType

from irdet.core.errors import MissingDependency

#: Packages that modules import at their top, by import name -> the extra that brings them.
EXTRAS = {"cv2": "cpu", "onnxruntime": "cpu", "torch": "train", "onnx": "export", "matplotlib": "plot"}


def explained(error: ModuleNotFoundError, purpose: str) -> Exception:
    """Returns the error to raise when an import failed: one that names the extra, where it was a package of an extra.

    Args:
        error: What the import raised.
        purpose: What was to be done, as in "irdet infer".

    Returns:
        A `MissingDependency`, or `error` itself where no extra would help.
    """
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        return error
    return MissingDependency(
        f"{purpose} needs {package}, which is not installed: pip install 'irdet[{EXTRAS[package]}]'"
    )


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports a package that belongs to an extra.

    Args:
        module: Import name, for instance `"onnxruntime"`.
        extra: The extra of irdet that installs it, for instance `"cpu"`.
        purpose: What it is needed for, as in "running ONNX models".

    Returns:
        The imported module.

    Raises:
        MissingDependency: The package is not installed, or is installed and cannot be loaded.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module and not module.startswith(f"{error.name}."):
            raise MissingDependency(f"{module} is installed but cannot be loaded ({error})") from error
        raise MissingDependency(
            f"{purpose} needs {module}, which is not installed: pip install 'irdet[{extra}]'"
        ) from error
    except (ImportError, OSError) as error:  # OSError: a shared library that the package wants is not there
        raise MissingDependency(f"{module} is installed but cannot be loaded ({error})") from error
