"""What a build cannot do here, found out before anything takes long."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from irdet.core.errors import IrdetError, UsageError
from irdet.core.info import ModelInfo
from irdet.engines.tensorrt.cuda import Cuda, Device
from irdet.engines.tensorrt.library import Library, find_library

if TYPE_CHECKING:
    from irdet.engines.tensorrt.build import BuildOptions


@dataclass(frozen=True)
class Ground:
    """What a build stands on.

    Attributes:
        library: The TensorRT that builds.
        precision: The precision that it builds in.
        device: The GPU that it builds on; None for a build without one.
    """

    library: Library
    precision: str
    device: Device | None


def check_build(info: ModelInfo, out: Path, options: BuildOptions) -> Ground:
    """Refuses a build that cannot succeed, as far as the model's record and this machine tell.

    Args:
        info: The record of the ONNX file, which need not be there yet.
        out: The plan to write.
        options: How it is to be built.

    Raises:
        UsageError: Options that this TensorRT does not have, or that do not fit the model.
        IrdetError: No GPU to build for, or a place that cannot be written.
        MissingDependency: TensorRT is not installed.
    """
    library = find_library(options.library)
    precision = _precision(info, library, options)
    device = _target(library, options)
    if library.rtx:
        for name, given, why in (
            ("--timing-cache", options.timing_cache is not None, "measures no tactics while it builds"),
            ("--hardware-compatible", options.hardware_compatible, "takes the GPUs by --compute-capability"),
            ("--version-compatible", options.version_compatible, "builds for its own version alone"),
        ):
            if given:
                raise UsageError(f"{library} {why}: leave {name} out")
    _check_profile(info, options)
    for place in (out, options.timing_cache):
        if place is not None:
            _check_place(place)
    return Ground(library, precision, device)


def _precision(info: ModelInfo, library: Library, options: BuildOptions) -> str:
    """The precision to build in; refuses one that the file cannot give."""
    if info.target == "cpu":
        raise UsageError("this INT8 graph is for CPUs; export one for TensorRT: irdet export --int8 --calib DIR")
    asked = options.precision or info.precision
    if "int8+fp16" in (info.precision, asked) and not library.strongly_typed:
        raise UsageError(f"{library} cannot read half scales: export with --int8 alone, and build without --fp16")
    flag = not library.strongly_typed and info.precision == "fp32" and asked == "fp16"
    if asked != info.precision and not flag:
        raise UsageError(
            f"the ONNX file is {info.precision}, and {library} takes the precision from it: "
            f"export it as {asked} first (irdet export --ckpt ... {_options(asked)})"
        )
    return asked


def _options(precision: str) -> str:
    names = {"fp16": "--fp16", "int8": "--int8 --calib DIR", "int8+fp16": "--int8 --fp16 --calib DIR"}
    return names.get(precision, "")


def _target(library: Library, options: BuildOptions) -> Device | None:
    """The GPU that is built on, None for a build without one."""
    if options.capabilities and not library.rtx:
        raise UsageError(f"{library} builds for the GPU that is there; only TensorRT-RTX takes compute capabilities")
    for major, minor in options.capabilities:
        if not hasattr(library.module.ComputeCapability, f"SM{major}{minor}"):
            known = [key for key in vars(library.module.ComputeCapability) if key.startswith("SM")]
            raise UsageError(f"{library} knows no compute capability {major}.{minor}; known: {', '.join(known)}")
    try:
        return Cuda().device()
    except IrdetError as error:
        if options.capabilities:
            return None
        hint = "give --compute-capability, as in 8.6,8.9" if library.rtx else "build on the device itself"
        raise IrdetError(f"no GPU to build for ({error}); {hint}") from error


def _check_profile(info: ModelInfo, options: BuildOptions) -> None:
    for _, height, width in options.profile or ():
        if height % info.stride or width % info.stride:
            raise UsageError(
                f"the profile's {width}x{height} px does not fit the graph: multiples of {info.stride} are needed"
            )


def _check_place(path: Path) -> None:
    folder = next(one for one in path.absolute().parents if one.exists())
    if path.is_dir():
        raise IrdetError(f"cannot write {path}: it is a folder")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise IrdetError(f"cannot write {path}: {folder} is no folder that can be written to")
