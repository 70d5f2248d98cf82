"""Doubles of TensorRT and of CUDA's runtime that know no more names than one version does.

`api/` holds the names of each version, read off NVIDIA's sources. A name that is not there raises AttributeError, as
it would on the device.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

API = Path(__file__).parent / "api"
VERSIONS = tuple(sorted(path.stem for path in API.glob("*.json")))


class World:
    """What the doubles do and what was done to them.

    Attributes:
        calls: Every call of TensorRT and CUDA, by name, in order.
        fail: Name of the call that fails, and at which of its uses (from 1).
        alive: Resources of CUDA that are held: memory, stream, events.
        device: Name and compute capability of the GPU.
        profile: Smallest, best and largest input of an engine of free size.
        layers: What the inspector says; the usual where None.
        signal: The signal that comes whenever TensorRT calls back; None for none.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.calls: list[str] = []
        self.fail: tuple[str, int] | None = None
        self.alive: dict[int, Any] = {}
        self.device = ("Orin", 8, 7)
        self.dynamic = False
        self.batch = 1
        self.layer_format = "Half"
        self.flags_set: list[Any] = []
        self.profile = ((1, 1, 16, 16), (1, 1, 32, 48), (2, 1, 64, 64))
        self.layers: str | None = None
        self.signal: int | None = None

    def did(self, name: str) -> bool:
        """Notes a call; False where it is to fail."""
        self.calls.append(name)
        return self.fail != (name, self.calls.count(name))


def fake_tensorrt(world: World) -> ModuleType:
    """A module `tensorrt` with the names of a version."""
    classes = json.loads((API / f"{world.version}.json").read_text())["classes"]
    module = ModuleType("tensorrt")
    module.__version__ = world.version  # type: ignore[attr-defined]
    for name, entry in classes.items():
        if entry["kind"] == "enum":
            setattr(module, name, enum.IntEnum(name, entry["members"], start=0))

    class ILogger:
        Severity = module.Severity

        def __init__(self) -> None:
            self.made = True

    module.ILogger = ILogger  # type: ignore[attr-defined]
    shape: tuple[int, ...] = (-1, 1, -1, -1) if world.dynamic else (world.batch, 1, 32, 48)

    def limited(name: str, **behaviour: Any) -> Any:
        """A class with these members, each of which the version must know."""
        known = set(classes[name]["members"])
        for member in behaviour:
            assert member in known or member.startswith("_"), f"{name}.{member} is not in {world.version}"

        def set_member(self: Any, member: str, value: Any) -> None:
            if member not in known:
                raise AttributeError(f"{world.version}'s {name} has no {member}")
            world.calls.append(f"{name}.{member}=")
            self.__dict__[member] = value

        return type(name, (), {**behaviour, "__setattr__": set_member})()

    def method(name: str, result: Any, failed: Any = None) -> Callable[..., Any]:
        def call(self: Any, *arguments: Any) -> Any:
            return (result(*arguments) if callable(result) else result) if world.did(name) else failed

        return call

    memory = memoryview(b"plan")
    error = limited("ParserError", desc=lambda self: "unsupported", **_node_name(classes))
    config = limited(
        "IBuilderConfig",
        clear_flag=method("clear_flag", None),
        set_flag=method("set_flag", world.flags_set.append),
        set_memory_pool_limit=method("set_memory_pool_limit", None),
        add_optimization_profile=method("add_optimization_profile", 0, -1),
        create_timing_cache=method("create_timing_cache", object()),
        set_timing_cache=method("set_timing_cache", True, False),
        get_timing_cache=method("get_timing_cache", limited("ITimingCache", serialize=lambda self: b"cache")),
    )
    network = limited(
        "INetworkDefinition", num_inputs=1, get_input=method("get_input", SimpleNamespace(name="frame", shape=shape))
    )
    profile = limited("IOptimizationProfile", set_shape=method("set_shape", None))

    def check_flags(flags: int = 0) -> Any:
        world.flags = flags  # type: ignore[attr-defined]
        return network

    def back(call: Callable[..., Any], *arguments: Any) -> Any:
        """Calls back as TensorRT does; what is raised in there, the bindings print and drop."""
        with contextlib.suppress(BaseException):
            if world.signal is not None:  # Python delivers it as the function is entered
                signal.raise_signal(world.signal)
            return call(*arguments)
        return False

    def build(config: Any, logger: Any) -> Any:
        back(logger.log, ILogger.Severity.WARNING, "building")
        if (monitor := vars(config).get("progress_monitor")) is None:
            return memory
        back(monitor.phase_start, "tactics", None, 2)
        go_on = all(back(monitor.step_complete, "tactics", step) for step in range(2))
        back(monitor.phase_finish, "tactics")
        return memory if go_on else None

    def create_builder(logger: Any) -> Any:
        if not world.did("Builder"):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return limited(
            "Builder",
            create_network=method("create_network", check_flags),
            create_builder_config=method("create_builder_config", config),
            create_optimization_profile=method("create_optimization_profile", profile),
            build_serialized_network=method("build_serialized_network", lambda network, config: build(config, logger)),
        )

    def create_parser(network: Any, logger: Any) -> Any:
        return limited("OnnxParser", parse=method("parse", True, False), num_errors=1, get_error=lambda self, i: error)

    module.Builder = create_builder  # type: ignore[attr-defined]
    module.OnnxParser = create_parser  # type: ignore[attr-defined]

    layers: dict[str, Any] = {"Layers": [{"Name": "conv", "Outputs": [{"Format/Datatype": world.layer_format}]}]}
    if world.dynamic:  # then the real inspector tells the weights' type alone
        outputs = [{"Format/Datatype": "N/A due to dynamic shapes"}]
        weights = {"Type": world.layer_format, "Count": 144}
        layers = {"Layers": [{"Name": "conv", "Outputs": outputs, "Weights": weights}, {"Outputs": outputs}, "text"]}
    addresses: dict[str, int] = {}
    current: dict[str, tuple[int, ...]] = {"shape": shape}

    def execute(stream: int) -> bool:
        count = int(np.prod(current["shape"]))
        source, target = (
            np.ctypeslib.as_array((ctypes.c_float * count).from_address(addresses[name]))
            for name in ("frame", "probability")
        )
        np.divide(source, 2, out=target)
        return True

    def set_input_shape(name: str, given: tuple[int, ...]) -> bool:
        current["shape"] = given
        return True

    context = limited(
        "IExecutionContext",
        set_input_shape=method("set_input_shape", set_input_shape, False),
        set_tensor_address=method("set_tensor_address", lambda name, at: addresses.update({name: at}) or True, False),
        execute_async_v3=method("execute_async_v3", execute, False),
    )
    modes = module.TensorIOMode
    engine = limited(
        "ICudaEngine",
        create_execution_context=method("create_execution_context", context),
        create_engine_inspector=method(
            "create_engine_inspector",
            limited("EngineInspector", get_engine_information=lambda self, form: world.layers or json.dumps(layers)),
        ),
        num_io_tensors=2,
        get_tensor_name=lambda self, index: ("frame", "probability")[index],
        get_tensor_mode=lambda self, name: modes.INPUT if name == "frame" else modes.OUTPUT,
        get_tensor_dtype=lambda self, name: module.DataType.FLOAT,
        get_tensor_shape=lambda self, name: shape,
        get_tensor_profile_shape=lambda self, name, index: list(world.profile),
    )

    def create_runtime(logger: Any) -> Any:
        if not world.did("Runtime"):
            raise TypeError("pybind11::init(): factory function returned nullptr")

        def deserialize(self: Any, plan: bytes) -> Any:
            back(logger.log, ILogger.Severity.WARNING, "loading")
            # A plan that is version compatible brings its runtime along, which must be allowed to run.
            refused = module.BuilderFlag.VERSION_COMPATIBLE in world.flags_set and not vars(self).get(
                "engine_host_code_allowed"
            )
            return engine if world.did("deserialize_cuda_engine") and not refused else None

        return limited("Runtime", deserialize_cuda_engine=deserialize)

    module.Runtime = create_runtime  # type: ignore[attr-defined]
    if "IProgressMonitor" in classes:
        module.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})  # type: ignore[attr-defined]
    return module


def _node_name(classes: Any) -> dict[str, Any]:
    known = "node_name" in classes["ParserError"]["members"]
    return {"node_name": lambda self: "/head/conv"} if known else {}


class Error(enum.IntEnum):
    """CUDA's error codes."""

    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2


def fake_cudart(world: World) -> ModuleType:
    """CUDA's runtime on the host's memory: pointers are real, copies copy."""
    module = ModuleType("cuda.bindings.runtime")
    kinds = enum.IntEnum("kinds", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2})
    module.cudaMemcpyKind = kinds  # type: ignore[attr-defined]

    def define(name: str, action: Callable[..., Any]) -> None:
        def call(*arguments: Any) -> tuple[Any, ...]:
            if not world.did(name):
                return (Error.cudaErrorMemoryAllocation, None)
            result = action(*arguments)
            return (Error.cudaSuccess,) if result is None else (Error.cudaSuccess, result)

        setattr(module, name, call)

    def allocate(size: int, flags: int = 0) -> int:
        block = ctypes.create_string_buffer(size)
        world.alive[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def create() -> int:
        handle = len(world.calls) + 10
        world.alive[handle] = "handle"
        return handle

    def free(what: int) -> None:
        del world.alive[what]

    name, major, minor = world.device
    define("cudaGetDevice", lambda: 0)
    define(
        "cudaGetDeviceProperties", lambda index: SimpleNamespace(name=name.encode() + b"\0\0", major=major, minor=minor)
    )
    define("cudaHostAlloc", allocate)
    define("cudaMalloc", allocate)
    define("cudaFreeHost", free)
    define("cudaFree", free)
    define("cudaStreamCreate", create)
    define("cudaStreamDestroy", free)
    define("cudaEventCreate", create)
    define("cudaEventDestroy", free)
    define("cudaEventRecord", lambda event, stream: None)
    define("cudaEventElapsedTime", lambda start, end: 1.5)
    define("cudaMemcpyAsync", lambda target, source, size, kind, stream: ctypes.memmove(target, source, size) and None)
    define("cudaStreamSynchronize", lambda stream: None)
    return module


@pytest.fixture(params=VERSIONS)
def world(request: pytest.FixtureRequest) -> World:
    return World(str(request.param))


@pytest.fixture
def installed(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], World]:
    """Installs the doubles as `tensorrt` and cuda-python."""

    def install() -> World:
        module = fake_tensorrt(world)
        module.__spec__ = SimpleNamespace(origin="here")  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        for name in ("cuda", "cuda.bindings"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake_cudart(world))
        return world

    return install
