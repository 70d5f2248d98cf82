"""irdet finds small targets in infrared frames.

The names below are imported when they are first used, so `import irdet` costs nothing:

    >>> import irdet
    >>> engine = irdet.open_engine()                  # doctest: +SKIP
    >>> detector = irdet.Detector(engine)             # doctest: +SKIP
    >>> detector.detect(frame).targets                # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

# Set here, before there are threads: whoever reads the environment while it is written to crashes. What is set stays.
# ONNX Runtime's builds report to their maker unless told not to, before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# FFmpeg in OpenCV writes on stderr what is said in our one line (-8: nothing). Read once, when OpenCV first uses it.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from irdet.core.errors import IrdetError
    from irdet.core.frame import Frame, Preprocessor
    from irdet.core.info import ModelInfo
    from irdet.core.targets import Target
    from irdet.engines import open_engine
    from irdet.models import create_model, load_model
    from irdet.runtime.detector import Detection, Detector
    from irdet.runtime.sources import open_source
    from irdet.tracking import Track, Tracker, TrackerOptions

__all__ = [
    "Detection",
    "Detector",
    "Frame",
    "IrdetError",
    "ModelInfo",
    "Preprocessor",
    "Target",
    "Track",
    "Tracker",
    "TrackerOptions",
    "create_model",
    "load_model",
    "open_engine",
    "open_source",
]

_HOME = {
    "Detection": "irdet.runtime.detector",
    "Detector": "irdet.runtime.detector",
    "Frame": "irdet.core.frame",
    "IrdetError": "irdet.core.errors",
    "ModelInfo": "irdet.core.info",
    "Preprocessor": "irdet.core.frame",
    "Target": "irdet.core.targets",
    "Track": "irdet.tracking",
    "Tracker": "irdet.tracking",
    "TrackerOptions": "irdet.tracking",
    "create_model": "irdet.models",
    "load_model": "irdet.models",
    "open_engine": "irdet.engines",
    "open_source": "irdet.runtime.sources",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'irdet' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        from irdet.core.extras import explained

        raise explained(error, f"irdet.{name}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
