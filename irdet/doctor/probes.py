"""Tries the parts, each by using it as irdet does. Runs in processes of its own: see `irdet.doctor.process`.

A probe yields what it found; what it raises means that its part is broken. Nothing is imported at the top that may
itself be broken.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from irdet.core.errors import IrdetError, MissingDependency
from irdet.core.machine import read_machine
from irdet.doctor.fact import Fact, brief

if TYPE_CHECKING:
    from irdet.engines.base import BaseEngine

#: The oldest OpenCV that irdet runs with, as its extras ask for.
LEAST_OPENCV = (4, 8)

#: The model that runtimes are tried with.
_MODEL = "mlcl-edge"


@dataclass(frozen=True)
class Probe:
    """How a part is tried.

    Attributes:
        module: The package that must be installed for it, by its import name; "" for none.
        run: Tries it.
    """

    module: str
    run: Callable[[], Iterator[Fact]]


def _numpy() -> Iterator[Fact]:
    import numpy

    numpy.ones((2, 2)) @ numpy.ones((2, 2))  # loads its linear algebra
    yield Fact("NumPy", "ok", numpy.__version__)


def _opencv() -> Iterator[Fact]:
    import re

    import cv2

    old = tuple(map(int, re.findall(r"\d+", cv2.__version__)[:2])) < LEAST_OPENCV
    least = ".".join(map(str, LEAST_OPENCV))
    yield Fact("OpenCV", "broken" if old else "ok", cv2.__version__ + f", older than {least}" * old)
    gui = re.search(r"^\s*GUI:[ \t]*(\S+)", cv2.getBuildInformation(), re.M)
    kit = gui[1] if gui else "NONE"
    if kit == "NONE":
        yield Fact("OpenCV: windows", "missing", "built without")
    elif sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        yield Fact("OpenCV: windows", "broken", f"{kit}, but no display (DISPLAY is not set)")
    else:
        yield Fact("OpenCV: windows", "ok", kit)
    backends = {"FFmpeg": cv2.CAP_FFMPEG, "GStreamer": cv2.CAP_GSTREAMER}
    backends |= {"V4L2": cv2.CAP_V4L2} if sys.platform == "linux" else {}
    for name, backend in backends.items():
        there = cv2.videoio_registry.hasBackend(backend)
        yield Fact(f"OpenCV: {name}", "ok" if there else "missing", "built in" if there else "built without")


def _models() -> Iterator[Fact]:
    from irdet.engines.golden import golden_path, read_golden
    from irdet.engines.shipped import shipped_models, shipped_path

    for name in shipped_models():
        if path := shipped_path(name, ".onnx"):
            read_golden(golden_path(path))
    if not shipped_models():
        yield Fact("shipped models", "missing", "none in the package")
        return
    yield Fact("shipped models", "ok", ", ".join(shipped_models()))


def _onnxruntime() -> Iterator[Fact]:
    from irdet.engines.onnx import OnnxEngine

    yield _proven("ONNX Runtime", "onnxruntime", lambda: OnnxEngine(_shipped(".onnx"), "cpu", threads=1))


def _provider(device: str, name: str, *, run: bool) -> Iterator[Fact]:
    """A provider of a GPU. TensorRT's would build an engine for the first frame, so it is only started."""
    import onnxruntime

    from irdet.engines.onnx import PROVIDERS, OnnxEngine

    part = f"ONNX Runtime: {name}"
    if PROVIDERS[device] not in onnxruntime.get_available_providers():
        yield Fact(part, "missing", "not in this build of ONNX Runtime")
    elif run:
        yield _proven(part, "onnxruntime", lambda: OnnxEngine(_shipped(".onnx"), device))
    else:
        with closing(OnnxEngine(_shipped(".onnx"), device)):
            yield Fact(part, "ok", "starts", runs=True)


def _openvino() -> Iterator[Fact]:
    from irdet.engines.openvino import OpenVinoEngine

    yield _proven("OpenVINO", "openvino", lambda: OpenVinoEngine(_shipped(".onnx"), threads=1))


def _torch() -> Iterator[Fact]:
    from irdet.engines.torch import TorchEngine

    yield _proven("torch", "torch", lambda: TorchEngine(_shipped(".pt"), threads=1))


def _gpu() -> Iterator[Fact]:
    """Asks the driver itself, which takes no package."""
    there = read_machine()
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        if there.gpus or gpu_on_bus():
            yield Fact("NVIDIA GPU", "broken", "on the bus, but no driver is loaded")
            yield Fact("NVIDIA driver", "missing", brief(error))
        else:
            yield Fact("NVIDIA GPU", "missing", "none")
        return

    def ask(name: str, kind: Any, *arguments: int) -> Any:
        value = kind()
        code = getattr(driver, name)(ctypes.byref(value), *arguments)
        if code:
            raise IrdetError(f"{name} failed with code {code} of the driver")
        return value.value

    if code := driver.cuInit(0):
        yield Fact("NVIDIA GPU", "broken", f"cuInit failed with code {code} of the driver")
        yield Fact("NVIDIA driver", "broken", f"{there.driver or 'libcuda'} is installed and does not start")
        return
    version = ask("cuDriverGetVersion", ctypes.c_int)
    names = []
    for index in range(ask("cuDeviceGetCount", ctypes.c_int)):
        device = ask("cuDeviceGet", ctypes.c_int, index)
        label = ctypes.create_string_buffer(256)
        driver.cuDeviceGetName(label, len(label), device)
        # The attributes 75 and 76 are the compute capability.
        major, minor = (ask("cuDeviceGetAttribute", ctypes.c_int, number, device) for number in (75, 76))
        memory = ask("cuDeviceTotalMem_v2", ctypes.c_size_t, device) / 2**30
        name = label.value.decode(errors="replace")
        names.append(f"{name} (compute capability {major}.{minor}, {memory:.1f} GiB)")
    yield Fact("NVIDIA GPU", "ok" if names else "missing", ", ".join(names) or "none that the driver shows")
    release = f"{there.driver}, " if there.driver else ""
    yield Fact("NVIDIA driver", "ok", f"{release}CUDA {version // 1000}.{version % 1000 // 10}")


def _cuda_python() -> Iterator[Fact]:
    from irdet.engines.tensorrt.cuda import Cuda

    try:
        cuda = Cuda()
    except MissingDependency as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        other = "; pycuda is, which irdet does not use" if find_spec("pycuda") else ""
        yield Fact("cuda-python", "missing", f"not installed{other}")
        return
    yield Fact("cuda-python", "ok", f"{_version('cuda-bindings', 'cuda-python')}, finds {cuda.device()}")


def _tensorrt(module: str) -> Iterator[Fact]:
    from irdet.engines.tensorrt.cuda import Cuda
    from irdet.engines.tensorrt.library import find_library

    library = find_library(module)
    log = library.logger()
    library.create("Builder", log)
    part = "TensorRT-RTX" if library.rtx else "TensorRT"
    try:
        library.create("Runtime", log)
        gpu = Cuda().device()
    except IrdetError:
        if not library.rtx:
            raise
        yield Fact(part, "ok", f"{library.version}, builds engines for GPUs elsewhere, runs none here")
        return
    yield Fact(part, "ok", f"{library.version}, builds and runs engines on {gpu}", runs=True)


def _plain(part: str, module: str, distribution: str) -> Probe:
    """A package that is only imported."""

    def run() -> Iterator[Fact]:
        importlib.import_module(module)
        yield Fact(part, "ok", _version(distribution))

    return Probe(module, run)


def _proven(part: str, distribution: str, start: Callable[[], BaseEngine]) -> Fact:
    """Replays the golden frames of the shipped model on an engine."""
    from irdet.engines.golden import golden_path, read_golden, replay

    with closing(start()) as engine:
        result = replay(engine, read_golden(golden_path(_shipped(".onnx"))))
        runtime = engine.runtime
    if not result.passed:
        differs = result.mismatch or f"largest difference {result.max_difference:.2g}"
        return Fact(part, "broken", f"{runtime} does not give back the golden frames of {_MODEL}: {differs}")
    device = runtime.rpartition(" ")[2]
    return Fact(
        part, "ok", f"{_version(distribution)} on {device}, gives back the golden frames of {_MODEL}", runs=True
    )


def _shipped(suffix: str) -> Any:
    from irdet.engines.shipped import shipped_path

    path = shipped_path(_MODEL, suffix)
    if path is None:
        raise IrdetError(f"cannot be tried without the shipped {_MODEL}{suffix}")
    return path


def _version(*distributions: str) -> str:
    """The version by the package's record; JetPack's packages come without some."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            module = sys.modules.get(name)
            if version := getattr(module, "__version__", ""):
                return str(version)
    return "of unknown version"


#: Part -> how it is tried.
PROBES = MappingProxyType(
    {
        "NumPy": Probe("numpy", _numpy),
        "OpenCV": Probe("cv2", _opencv),
        "shipped models": Probe("", _models),
        "ONNX Runtime": Probe("onnxruntime", _onnxruntime),
        "ONNX Runtime: CUDA": Probe("onnxruntime", lambda: _provider("cuda", "CUDA", run=True)),
        "ONNX Runtime: TensorRT": Probe("onnxruntime", lambda: _provider("tensorrt", "TensorRT", run=False)),
        "OpenVINO": Probe("openvino", _openvino),
        "NVIDIA GPU": Probe("", _gpu),
        "cuda-python": Probe("cuda", _cuda_python),
        "TensorRT": Probe("tensorrt", lambda: _tensorrt("tensorrt")),
        "TensorRT-RTX": Probe("tensorrt_rtx", lambda: _tensorrt("tensorrt_rtx")),
        "torch": Probe("torch", _torch),
        "onnx": _plain("onnx", "onnx", "onnx"),
        "onnxsim": _plain("onnxsim", "onnxsim", "onnxsim"),
        "onnxconverter-common": _plain("onnxconverter-common", "onnxconverter_common", "onnxconverter-common"),
        "SciPy": _plain("SciPy", "scipy", "scipy"),
        "matplotlib": _plain("matplotlib", "matplotlib", "matplotlib"),
    }
)

#: What is tried one after the other in one process; the processes run beside each other.
LANES = (
    ("torch", "onnxsim"),
    ("OpenVINO",),
    ("ONNX Runtime", "ONNX Runtime: CUDA", "ONNX Runtime: TensorRT"),
    ("NumPy", "OpenCV", "shipped models"),
    ("NVIDIA GPU", "cuda-python", "TensorRT", "TensorRT-RTX"),
    ("onnx", "onnxconverter-common", "SciPy", "matplotlib"),
)


def try_part(name: str) -> list[Fact]:
    """Tries a part in this process; what it raises makes it broken."""
    probe = PROBES[name]
    try:
        if probe.module and find_spec(probe.module) is None:
            return [Fact(name, "missing", "not installed")]
        return list(probe.run())
    except BaseException as error:  # a package may raise what it likes when it is imported, SystemExit too
        kind = "" if isinstance(error, IrdetError) else f"{type(error).__name__}: "
        return [Fact(name, "broken", kind + brief(error))]


def gpu_on_bus(root: Path = Path("/")) -> bool:
    """Whether a display controller of NVIDIA's sits on the PCI bus, with a driver or without; Linux alone tells.

    Args:
        root: Where the system's files begin.
    """
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False
