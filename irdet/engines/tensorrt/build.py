"""An ONNX file becomes a TensorRT plan: one path for TensorRT 8.6 to 11 and for TensorRT-RTX.

Strongly typed from TensorRT 10 on: the precision is the ONNX file's, and nothing else can happen. 8.6 is weakly typed,
so there the flags of the record's precision are set. The engine's own list of layers proves what came of it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irdet.core.errors import IrdetError, ModelError, UsageError
from irdet.core.files import replacing, sha256
from irdet.core.info import ModelInfo
from irdet.engines.external import check_external
from irdet.engines.golden import pass_on
from irdet.engines.record import read_record
from irdet.engines.tensorrt.checks import Ground, check_build
from irdet.engines.tensorrt.library import Library, last_line
from irdet.engines.tensorrt.sidecar import Sidecar
from irdet.engines.tensorrt.signals import held_back

#: Shapes of a graph of free size where none are given: (batch, height, width), smallest, best, largest.
PROFILE = ((1, 64, 64), (1, 512, 512), (1, 1280, 1280))

#: Most memory that tactics may be given, MiB: more than any GPU has.
MOST_WORKSPACE = 1 << 20

#: What the inspector calls a precision -> what we call it.
_FORMATS = {"half": "fp16", "fp16": "fp16", "int8": "int8", "float": "fp32", "fp32": "fp32"}


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        precision: Refused unless it is the ONNX file's (on TensorRT 8.6, `"fp16"` of an fp32 file is a flag). None
            takes what the file says.
        profile: Smallest, best and largest (batch, height, width) for a graph of free size; `PROFILE` where None.
        workspace: Memory that tactics may use, MiB; None leaves it to TensorRT.
        timing_cache: File of measured tactics, read and written, so that the next build is faster.
        capabilities: Compute capabilities to build for, with TensorRT-RTX; empty for the GPU that is there.
        hardware_compatible: Build for every GPU from Ampere on.
        version_compatible: Build for later versions of the same major one, too.
        library: `"tensorrt"` or `"tensorrt_rtx"`; None takes the one that is installed.
        command: The command that builds it, for the sidecar.
    """

    precision: str | None = None
    profile: tuple[tuple[int, int, int], ...] | None = None
    workspace: int | None = None
    timing_cache: Path | None = None
    capabilities: tuple[tuple[int, int], ...] = ()
    hardware_compatible: bool = False
    version_compatible: bool = False
    library: str | None = None
    command: str = "irdet export MODEL.onnx"

    def __post_init__(self) -> None:
        if self.workspace is not None and not 1 <= self.workspace <= MOST_WORKSPACE:
            raise UsageError(f"workspace {self.workspace} MiB: must be 1 to {MOST_WORKSPACE}")
        if self.profile is not None:
            ordered = all(a <= b <= c for a, b, c in zip(*self.profile, strict=True))
            if not ordered or min(self.profile[0]) < 1:
                raise UsageError("the profile's shapes must be positive, and ascend from smallest to largest")


@dataclass(frozen=True)
class BuildReport:
    """What was built.

    Attributes:
        plan: The file.
        sidecar: The file beside it.
        info: The model's record.
        library: What built it, as text.
        seconds: How long it took.
        size: Bytes of the plan.
        layers: Layers by precision, as the inspector lists them; empty where no GPU could load the plan, or
            nothing could be read of it.
        warnings: What TensorRT warned of, and what else did not go as asked.
    """

    plan: Path
    sidecar: Path
    info: ModelInfo
    library: str
    seconds: float
    size: int
    layers: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def build_engine(
    onnx: Path,
    out: Path,
    options: BuildOptions = BuildOptions(),
    progress: Callable[[str, int, int], object] = lambda phase, step, steps: None,
) -> BuildReport:
    """Builds a plan and its sidecar.

    Args:
        onnx: A file that `irdet export` wrote.
        out: The plan to write, conventionally `.trt`; the sidecar lies beside it.
        options: How.
        progress: Called with phase, step and steps, where this TensorRT tells (10.0 on).

    Returns:
        What was built.

    Raises:
        ModelError: The file is not one of irdet's, or TensorRT cannot take it; says which node.
        UsageError: Options that this TensorRT does not have, or a precision that the file does not hold.
        IrdetError: The build failed, or gave another precision than was asked for.
        MissingDependency: TensorRT is not installed.
    """
    begun = time.monotonic()
    check_external(onnx)
    info = read_record(onnx)
    ground = check_build(info, out, options)
    library, precision, device = ground.library, ground.precision, ground.device
    log = library.logger()
    with held_back() as signals:
        built = _build(ground, onnx, options, log, progress, signals)
        here = device is not None and (not options.capabilities or device.capability in options.capabilities)
        layers = _layers(library, built.plan, options, log) if here else {}
    if _lacks(precision, layers, library):
        raise IrdetError(f"{library} built {onnx} without one layer in {precision} ({_counted(layers)})")
    replaced = out.exists()
    with replacing(out) as temporary:
        temporary.write_bytes(built.plan)
    seconds = time.monotonic() - begun
    info = info.replace(precision=precision)
    sidecar = Sidecar(
        info=info,
        plan_sha256=sha256(out),
        onnx_sha256=sha256(onnx),
        onnx=onnx.name,
        library=library.name,
        version=library.version,
        gpu=None if device is None or options.capabilities else device.name,
        capabilities=options.capabilities or ((device.capability,) if device else ()),
        profile=built.profile,
        hardware_compatible=options.hardware_compatible,
        version_compatible=options.version_compatible,
        command=options.command,
        report={"seconds": round(seconds, 1), "layers": layers, "warnings": log.warnings},
    ).write(out)
    warnings = [line.strip() for line in log.warnings]
    # The engine is there: what fails from here on is told, and takes nothing away.
    if options.timing_cache is not None and built.timing_cache is not None:
        try:
            with replacing(options.timing_cache) as temporary:
                temporary.write_bytes(built.timing_cache)
        except IrdetError as error:
            warnings.append(f"the timing cache is not kept: {error}")
    if said := pass_on(onnx, out, info, replaced):
        warnings.append(said)
    return BuildReport(out, sidecar, info, str(library), seconds, len(built.plan), layers, tuple(warnings))


@dataclass(frozen=True)
class _Built:
    """What the builder gave: the plan, the shapes of its profile, and the timing cache where one is kept."""

    plan: bytes
    profile: tuple[tuple[int, ...], ...] | None
    timing_cache: bytes | None


def _build(
    ground: Ground,
    onnx: Path,
    options: BuildOptions,
    log: Any,
    progress: Callable[[str, int, int], object],
    signals: list[int],
) -> _Built:
    library = ground.library
    builder = library.create("Builder", log)
    network = builder.create_network(_network_flags(library))
    _parse(library, network, onnx, log)
    config = builder.create_builder_config()
    _configure(library, config, ground.precision, options)
    errors: list[BaseException] = []
    if hasattr(library.module, "IProgressMonitor"):
        config.progress_monitor = _monitor(library.module, progress, signals, errors)
    profile = _profile(builder, config, network, options)
    if options.timing_cache is not None:
        _attach_cache(config, options.timing_cache, log)
    plan = builder.build_serialized_network(network, config)
    if errors:
        raise errors[0]
    if plan is None:
        raise IrdetError(f"{library} could not build {onnx}: {last_line(log.errors) or 'it does not say why'}")
    cache = config.get_timing_cache() if options.timing_cache is not None else None
    return _Built(bytes(memoryview(plan)), profile, None if cache is None else bytes(memoryview(cache.serialize())))


def _network_flags(library: Library) -> int:
    """Explicit batch for 8.x; strongly typed where the flag exists. Its values moved in 11."""
    kinds = library.module.NetworkDefinitionCreationFlag
    wanted = "STRONGLY_TYPED" if library.strongly_typed else "EXPLICIT_BATCH"
    return 1 << int(getattr(kinds, wanted)) if hasattr(kinds, wanted) else 0


def _parse(library: Library, network: Any, onnx: Path, log: Any) -> None:
    parser = library.module.OnnxParser(network, log)
    if parser.parse(onnx.read_bytes(), str(onnx)):
        return
    said = [parser.get_error(index) for index in range(parser.num_errors)]
    reason = "; ".join(f"{_node(error)}{error.desc()}" for error in said) or last_line(log.errors)
    raise ModelError(f"{library} cannot read {onnx}: {reason.strip().replace(chr(10), ' ')}")


def _node(error: Any) -> str:
    name = error.node_name() if hasattr(error, "node_name") else ""  # 10.0 on
    return f"node {name}: " if name else ""


def _configure(library: Library, config: Any, precision: str, options: BuildOptions) -> None:
    trt: Any = library.module
    # TF32 has 10 bits of mantissa: a model that says fp32 shall compute fp32.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector names no precision
    if not library.strongly_typed:
        for part in precision.split("+"):
            if part != "fp32":
                config.set_flag(getattr(trt.BuilderFlag, part.upper()))
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.capabilities:
        config.num_compute_capabilities = len(options.capabilities)
        for index, (major, minor) in enumerate(options.capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{major}{minor}"), index)


def _attach_cache(config: Any, path: Path, log: Any) -> None:
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        log.warnings.append(f"{path} is not used: it is of another GPU or TensorRT, or damaged; it is begun anew")
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _monitor(
    trt: Any, progress: Callable[[str, int, int], object], signals: list[int], errors: list[BaseException]
) -> Any:
    """Tells of progress, and stops the build after a signal or an error, which goes into `errors`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                progress(phase_name, step + 1, self._steps.get(phase_name, 0))
            except BaseException as error:  # the bindings would print and drop it
                errors.append(error)
            return not (signals or errors)  # whether to go on

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


def _profile(builder: Any, config: Any, network: Any, options: BuildOptions) -> tuple[tuple[int, ...], ...] | None:
    """Adds the optimisation profile of a graph of free size; returns its shapes [N, 1, H, W]."""
    if network.num_inputs != 1:
        raise ModelError(f"the graph has {network.num_inputs} inputs; irdet's have one")
    port = network.get_input(0)
    free = [size < 0 for size in port.shape]
    if not any(free):
        if options.profile is not None:
            raise UsageError("the ONNX file has a fixed size: export it with --dynamic to give a profile")
        return None
    shapes = tuple((n, 1, h, w) for n, h, w in options.profile or PROFILE)
    for shape in shapes:
        fixed = [want for want, size in zip(port.shape, shape, strict=True) if want >= 0 and want != size]
        if fixed:
            raise UsageError(f"the profile's {shape[0]}x{shape[3]}x{shape[2]} does not fit the graph's {port.shape}")
    profile = builder.create_optimization_profile()
    profile.set_shape(port.name, *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise IrdetError(f"TensorRT refuses the profile {shapes}")
    return shapes


def _layers(library: Library, plan: bytes, options: BuildOptions, log: Any) -> dict[str, int]:
    """Counts an engine's layers by precision."""
    runtime = library.create("Runtime", log)
    if options.version_compatible:
        runtime.engine_host_code_allowed = True  # such a plan brings its own runtime
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise IrdetError(f"{library} cannot load what it built: {last_line(log.errors)}")
    try:
        text = engine.create_engine_inspector().get_engine_information(library.module.LayerInformationFormat.JSON)
        return count_layers(text)
    except ValueError:  # a report that cannot be read is no reason to lose an engine
        return {}


def count_layers(text: str) -> dict[str, int]:
    """Counts layers by precision in the inspector's JSON; what has no known one counts as `"other"`.

    That of a layer is its first output's. Of engines of free size the inspector tells no tensor's ("N/A due to dynamic
    shapes"), so there it is that of its weights, where it has some.
    """
    counts: Counter[str] = Counter()
    report = json.loads(text)
    layers = report.get("Layers") if isinstance(report, dict) else None
    for layer in layers if isinstance(layers, list) else []:
        forms = _forms(layer) if isinstance(layer, dict) else []
        known = (ours for form in forms for theirs, ours in _FORMATS.items() if theirs in form)
        counts[next(known, "other")] += 1
    return dict(counts)


def _forms(layer: dict[str, Any]) -> list[str]:
    """What the inspector tells of a layer's precision, the surest first."""
    outputs, weights = layer.get("Outputs"), layer.get("Weights")
    first = outputs[0] if isinstance(outputs, list) and outputs else None
    told = [first.get("Format/Datatype", "")] if isinstance(first, dict) else []
    told += [weights.get("Type", "")] if isinstance(weights, dict) else []
    return [str(one).lower() for one in told]


def _lacks(precision: str, layers: dict[str, int], library: Library) -> bool:
    """Tells whether an engine has no layer in its precision.

    A strongly typed build cannot fall back in silence, so there a layer that tells none is no evidence.
    """
    known = set(layers) - {"other"}
    if precision == "fp32" or not known or known & set(precision.split("+")):
        return False
    return not (library.strongly_typed and "other" in layers)


def _counted(layers: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(layers.items()))
