"""The part of `irdet export` that turns an ONNX file into a TensorRT engine. It needs neither torch nor onnx."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irdet.cli.options import parse_size
from irdet.core.errors import IrdetError, UsageError

if TYPE_CHECKING:
    from irdet.core.info import ModelInfo
    from irdet.engines.tensorrt.build import BuildOptions, BuildReport

#: Suffix of what is built where no name is given.
SUFFIX = ".trt"

#: Most frames at once: with more, memory ends in the midst of an export or a build.
MOST_BATCH = 256

ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="MIN,OPT,MAX",
        help="Sizes of the engine of a --dynamic graph, as in 64x64,640x512,1280x1024; with a batch as in 4x640x512.",
        show_default=False,
    ),
]
WorkspaceOption = Annotated[
    int | None, typer.Option("--workspace", min=1, help="Memory for TensorRT's tactics, MiB.", show_default=False)
]
TimingCacheOption = Annotated[
    Path | None,
    typer.Option(
        "--timing-cache", metavar="FILE", help="Measured tactics, kept for the next build.", show_default=False
    ),
]
CapabilityOption = Annotated[
    str | None,
    typer.Option(
        "--compute-capability",
        metavar="8.6,8.9",
        help="GPUs to build for, here or not, with TensorRT-RTX.",
        show_default=False,
    ),
]
HardwareOption = Annotated[
    bool, typer.Option("--hardware-compatible", help="Build for every GPU from Ampere on.", show_default=False)
]
VersionOption = Annotated[
    bool, typer.Option("--version-compatible", help="Build for later TensorRTs, too.", show_default=False)
]


@dataclass(frozen=True)
class Wanted:
    """The command line's options of the builder, as they were given."""

    profile: str | None
    workspace: int | None
    timing_cache: Path | None
    capability: str | None
    hardware_compatible: bool
    version_compatible: bool

    @property
    def any(self) -> bool:
        """Whether one was given."""
        return any(vars(self).values())

    def options(self, onnx: Path, out: Path, precision: str | None) -> BuildOptions:
        """Reads them.

        Raises:
            UsageError: One cannot be read.
        """
        from irdet.engines.tensorrt.build import BuildOptions

        given: list[tuple[str, Any]] = [
            ("--output", out),
            ("--profile", self.profile),
            ("--workspace", self.workspace),
            ("--timing-cache", self.timing_cache),
            ("--compute-capability", self.capability),
        ]
        command = ["irdet", "export", str(onnx)]
        command += [part for name, value in given if value is not None for part in (name, str(value))]
        command += [f"--{part}" for part in (precision or "").split("+") if part]
        command += ["--hardware-compatible"] * self.hardware_compatible
        command += ["--version-compatible"] * self.version_compatible
        return BuildOptions(
            precision=precision,
            profile=None if self.profile is None else parse_profile(self.profile),
            workspace=self.workspace,
            timing_cache=self.timing_cache,
            capabilities=() if self.capability is None else parse_capabilities(self.capability),
            hardware_compatible=self.hardware_compatible,
            version_compatible=self.version_compatible,
            command=shlex.join(command),
        )


def parse_profile(text: str) -> tuple[tuple[int, int, int], ...]:
    """Reads `64x64,640x512,1280x1024` as (batch, height, width), three times; one size alone is all three."""
    shapes = []
    for part in text.split(","):
        batched = re.fullmatch(r"\s*(\d+)x(\d+x\d+)\s*", part, re.ASCII)
        size, batch = parse_size(batched[2] if batched else part), int(batched[1]) if batched else 1
        if batch > MOST_BATCH:
            raise UsageError(f"--profile {text!r}: a batch may have {MOST_BATCH} frames at most")
        shapes.append((batch, size.height, size.width))
    if len(shapes) == 1:
        shapes *= 3
    if len(shapes) != 3:
        raise UsageError(f"--profile {text!r}: give the smallest, the best and the largest size, or one")
    return tuple(shapes)


def parse_capabilities(text: str) -> tuple[tuple[int, int], ...]:
    """Reads `8.6,8.9`."""
    found = [re.fullmatch(r"\s*(\d{1,2})\.(\d)\s*", part, re.ASCII) for part in text.split(",")]
    if not all(found):
        raise UsageError(f"--compute-capability {text!r}: give numbers such as 8.6 or 8.6,8.9")
    return tuple((int(match[1]), int(match[2])) for match in found if match)


def build(
    onnx: Path, output: Path | None, precision: str | None, wanted: Wanted, quiet: bool, as_json: bool
) -> dict[str, Any]:
    """Builds an engine; returns the facts, and prints them where they are not wanted as JSON.

    Args:
        onnx: The ONNX file.
        output: The plan, or a folder for it; beside the ONNX file where None.
        precision: What was asked for on the command line.
        wanted: The builder's options.
        quiet: No progress.
        as_json: No table; nor is there any progress.
    """
    from irdet.cli.console import progress
    from irdet.engines.tensorrt.build import build_engine
    from irdet.engines.tensorrt.sidecar import PLANS

    out = onnx.with_suffix(SUFFIX) if output is None else output
    if out.is_dir() or not out.suffix:
        out = out / onnx.with_suffix(SUFFIX).name
    if out.suffix.lower() not in PLANS:
        raise UsageError(f"--output {out}: an engine is named .trt, .engine or .plan")
    with progress("building", None, quiet or as_json) as advance:
        report = build_engine(
            onnx,
            out,
            wanted.options(onnx, out, precision),
            lambda phase, step, steps: advance(1, phase=f"{phase} {step}/{steps}"),
        )
    if not as_json:
        _show(report)
    return {
        "engine": str(report.plan),
        "sidecar": str(report.sidecar),
        "library": report.library,
        "precision": report.info.precision,
        "bytes": report.size,
        "seconds": report.seconds,
        "layers": report.layers,
        "warnings": list(report.warnings),
    }


def check(info: ModelInfo, onnx: Path, wanted: Wanted) -> None:
    """Refuses what `build_where_possible` would refuse after the export, which takes minutes with --int8.

    Args:
        info: The record that the ONNX file will have.
        onnx: That file.
        wanted: The builder's options.
    """
    from irdet.engines.tensorrt.checks import check_build

    out = onnx.with_suffix(SUFFIX)
    check_build(info, out, wanted.options(onnx, out, None))


def build_where_possible(onnx: Path, wanted: Wanted, quiet: bool, as_json: bool) -> dict[str, Any] | None:
    """Builds an engine right after its ONNX file, or says in one line what to run on the device."""
    from irdet.engines.tensorrt.cuda import Cuda
    from irdet.engines.tensorrt.library import find_library

    try:
        library = find_library()
        if not (library.rtx and wanted.capability):
            Cuda().device()
    except IrdetError as error:
        if wanted.any:
            raise
        print(f"no engine is built here ({error}); on the device: irdet export {onnx}", file=sys.stderr)
        return None
    return build(onnx, None, None, wanted, quiet, as_json)


def _show(report: BuildReport) -> None:
    from irdet.cli.console import print_table, say

    for warning in report.warnings:
        say(f"warning: {warning}")
    layers = ", ".join(f"{count} {name}" for name, count in sorted(report.layers.items()))
    print_table(
        f"{report.info.variant} -> {report.library}",
        [
            ("engine", f"{report.plan} ({report.size:,} bytes)"),
            ("sidecar", str(report.sidecar)),
            ("precision", report.info.precision),
            ("layers", layers or "not listed: no GPU here to load the engine, or it tells none"),
            ("built in", f"{report.seconds:.1f} s"),
        ],
    )
