"""The real builder and parser of TensorRT-RTX, which need no GPU: engines for cards that are not here."""

from __future__ import annotations

import inspect
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from irdet.core.errors import ModelError, UsageError
from irdet.engines.tensorrt import build, checks
from irdet.engines.tensorrt.build import BuildOptions, build_engine
from irdet.engines.tensorrt.cuda import Device
from irdet.engines.tensorrt.sidecar import Sidecar

pytest.importorskip("torch", reason="the networks need torch: pip install 'irdet[train]'")
trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'irdet[tensorrt-rtx]'")

from irdet.models import MODELS, LoadedModel  # noqa: E402 - needs torch

CARDS = ((7, 5), (8, 6), (8, 9), (12, 0))

PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")


@pytest.fixture(scope="session")
def exported(sharp_model: Callable[..., LoadedModel], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a network's graph in a precision, as `irdet export` does, without the accuracy gate."""
    import onnx

    from irdet.engines.probe import as_batch, probe_frame
    from irdet.export import fp16, int8
    from irdet.export.calibration import observe
    from irdet.export.onnx import OnnxOptions, export_onnx, label
    from irdet.export.precision import fixed

    folder = tmp_path_factory.mktemp("graphs")
    drafts: dict[str, tuple[Any, Any, Any]] = {}

    def write(name: str, precision: str, size: tuple[int, int] | None) -> Path:
        if name not in drafts:
            made = export_onnx(sharp_model(name), folder / f"{name}.onnx", OnnxOptions(size=None, opset=19))
            graph = onnx.load(str(made.path))
            drafts[name] = graph, made.info, observe(graph, [as_batch(probe_frame(64, 96)[None])])
        graph, info, ranges = drafts[name]
        kept = int8.convolutions(graph, 64, 96)[-1:]
        half = "fp16" in precision
        if "int8" in precision:
            graph = int8.quantise(graph, ranges, "tensorrt", [layer.name for layer in kept], half=half)
        if half:
            graph = fp16.to_half(graph, fp16.plan_half(graph, ranges).kept)
        path = folder / f"{name}-{precision}-{size}.onnx"
        onnx.save(fixed(graph, size, 1), str(path))
        target = "tensorrt" if "int8" in precision else None
        height, width = size or (None, None)
        label(path, path, info.replace(precision=precision, target=target, height=height, width=width))
        return path

    return write


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["mlcl-edge", "mlcl-small", "mlcl-base"])
def test_engines_are_built(exported: Callable[..., Path], tmp_path: Path, name: str, precision: str) -> None:
    assert name in MODELS
    for size in ((64, 96), None):
        steps: list[str] = []
        report = build_engine(
            exported(name, precision, size),
            tmp_path / "a.trt",
            BuildOptions(capabilities=CARDS),
            lambda phase, step, count, steps=steps: steps.append(phase),  # type: ignore[misc]
        )
        assert report.size == report.plan.stat().st_size > 100_000
        sidecar = Sidecar.read(report.plan)
        assert sidecar.info.precision == precision and sidecar.capabilities == CARDS and sidecar.gpu is None
        assert sidecar.profile == (None if size else tuple((n, 1, h, w) for n, h, w in build.PROFILE))
        assert steps, "it tells how far it is"


def test_an_engine_for_another_card_is_not_loaded_on_the_one_that_is_here(
    exported: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_target", lambda library, options: Device("RTX 4090", (8, 9)))
    report = build_engine(
        exported("mlcl-edge", "fp32", (64, 96)), tmp_path / "a.trt", BuildOptions(capabilities=((12, 0),))
    )
    assert report.layers == {} and Sidecar.read(report.plan).capabilities == ((12, 0),)


def test_refusals(exported: Callable[..., Path], tmp_path: Path) -> None:
    fixed, free = exported("mlcl-edge", "fp32", (64, 96)), exported("mlcl-edge", "fp32", None)
    with pytest.raises(UsageError, match=r"knows no compute capability 8\.7; known: .*SM86"):
        build_engine(free, tmp_path / "a.trt", BuildOptions(capabilities=((8, 7),)))
    with pytest.raises(UsageError, match="leave --timing-cache out"):
        build_engine(free, tmp_path / "a.trt", BuildOptions(capabilities=CARDS, timing_cache=tmp_path / "cache"))
    with pytest.raises(UsageError, match="has a fixed size"):
        build_engine(fixed, tmp_path / "a.trt", BuildOptions(capabilities=CARDS, profile=((1, 64, 96),) * 3))
    with pytest.raises(UsageError, match="multiples of 16"):
        build_engine(free, tmp_path / "a.trt", BuildOptions(capabilities=CARDS, profile=((1, 60, 96),) * 3))
    damaged = tmp_path / "damaged.onnx"
    data = fixed.read_bytes()
    damaged.write_bytes(data.replace(b"Conv", b"Cnvo"))
    with pytest.raises(ModelError, match=r"cannot read .*damaged.onnx: .*Cnvo"):
        build_engine(damaged, tmp_path / "a.trt", BuildOptions(capabilities=CARDS))
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.onnx"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_a_build(exported: Callable[..., Path], tmp_path: Path, number: signal.Signals) -> None:
    class Ended(BaseException):
        pass

    def handler(number: int, _: object) -> None:
        raise Ended(number)

    before = signal.signal(number, handler)
    steps: list[str] = []

    def progress(phase: str, step: int, count: int) -> None:
        steps.append(phase)
        os.kill(os.getpid(), number)

    try:
        with pytest.raises(Ended):
            build_engine(
                exported("mlcl-edge", "fp32", (64, 96)), tmp_path / "a.trt", BuildOptions(capabilities=CARDS), progress
            )
    finally:
        signal.signal(number, before)
    assert steps and list(tmp_path.iterdir()) == []


#: Class of the real bindings -> the calls that irdet makes on it, with the number of arguments.
CALLS: dict[str, dict[str, int | None]] = {
    "Builder": {
        "create_network": 1,
        "create_builder_config": 0,
        "create_optimization_profile": 0,
        "build_serialized_network": 2,
    },
    "IBuilderConfig": {
        "clear_flag": 1,
        "set_flag": 1,
        "set_memory_pool_limit": 2,
        "add_optimization_profile": 1,
        "create_timing_cache": 1,
        "set_timing_cache": 2,
        "get_timing_cache": 0,
        "set_compute_capability": 2,
    },
    "OnnxParser": {"parse": 2, "get_error": 1},
    "INetworkDefinition": {"get_input": 1},
    "IOptimizationProfile": {"set_shape": 4},
    "ITimingCache": {"serialize": 0},
    "Runtime": {"deserialize_cuda_engine": None},
    "ICudaEngine": {
        "create_execution_context": None,
        "create_engine_inspector": 0,
        "get_tensor_name": 1,
        "get_tensor_mode": 1,
        "get_tensor_dtype": 1,
        "get_tensor_shape": 1,
        "get_tensor_profile_shape": 2,
    },
    "IExecutionContext": {"set_input_shape": None, "set_tensor_address": 2, "execute_async_v3": 1},
    "EngineInspector": {"get_engine_information": 1},
    "ParserError": {"desc": 0, "node_name": 0},
}

#: Properties that irdet reads or sets.
PROPERTIES: dict[str, tuple[str, ...]] = {
    "IBuilderConfig": (
        "profiling_verbosity",
        "hardware_compatibility_level",
        "num_compute_capabilities",
        "progress_monitor",
    ),
    "OnnxParser": ("num_errors",),
    "INetworkDefinition": ("num_inputs",),
    "ICudaEngine": ("num_io_tensors",),
    "Runtime": ("engine_host_code_allowed",),
}


@pytest.mark.parametrize("kind", CALLS)
def test_calls_exist_with_these_arguments(kind: str) -> None:
    for name, count in CALLS[kind].items():
        call = getattr(getattr(trt, kind), name)
        if count is None:  # overloaded or without a signature
            continue
        signature = inspect.getdoc(call).splitlines()[0]  # type: ignore[union-attr]
        inside = re.search(r"\(self: [\w.]+(.*)\) -> ", signature)
        assert inside, signature
        given = [part for part in re.findall(r", (\w+): ", inside[1])]
        needed = len(re.findall(r", \w+: (?:(?!, \w+: |=).)*(?=, \w+: |$)", inside[1]))
        assert needed <= count <= len(given), f"{kind}.{name}{inside[1]} is called with {count}"


@pytest.mark.parametrize("kind", PROPERTIES)
def test_properties_exist(kind: str) -> None:
    for name in PROPERTIES[kind]:
        assert isinstance(getattr(getattr(trt, kind), name), property), f"{kind}.{name}"


def test_the_sources_call_nothing_else() -> None:
    """What looks like a call of TensorRT in the sources stands in the tables above."""
    known = {name for calls in CALLS.values() for name in calls} | {
        name for names in PROPERTIES.values() for name in names
    }
    folder = Path(inspect.getfile(build)).parent
    text = "".join((folder / name).read_text() for name in ("build.py", "engine.py"))
    owners = "builder|network|config|parser|profile|engine|runtime|self._context|inspector|error"
    used = set(re.findall(rf"(?:(?<=\s)|(?<=[(=\[]))(?:{owners})\.([a-z]\w+)", text))
    ours = {"name", "capability"}
    assert used - known - ours == set()
    assert len(used) > 20
