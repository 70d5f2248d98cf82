"""Build and run against doubles of each supported version: only names that exist, and every failure on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irdet.cli.build import Wanted
from irdet.core.errors import IrdetError, ModelError, UsageError
from irdet.core.files import replacing
from irdet.engines import open_engine
from irdet.engines.golden import Golden, GoldenSet, golden_path, read_golden, replay, write_golden
from irdet.engines.tensorrt import build
from irdet.engines.tensorrt.build import BuildOptions, build_engine
from irdet.engines.tensorrt.sidecar import Sidecar, sidecar_path

Install = Callable[[], object]
WriteOnnx = Callable[..., Path]


def weak(world: Any) -> bool:
    return world.version.startswith("8.")


@pytest.mark.parametrize("dynamic", [False, True])
def test_build_and_run(world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path, dynamic: bool) -> None:
    world.dynamic = dynamic
    installed()
    cache = tmp_path / "timing.cache"
    size = {} if dynamic else {"height": 32, "width": 48}
    options = BuildOptions(
        profile=((1, 16, 16), (1, 32, 48), (2, 64, 64)) if dynamic else None,
        workspace=256,
        timing_cache=cache,
        hardware_compatible=True,
        version_compatible=True,
        command="irdet export best.onnx",
    )
    report = build_engine(write_onnx(**size), tmp_path / "best.trt", options)
    assert report.plan.read_bytes() == b"plan" and cache.read_bytes() == b"cache"
    assert (
        report.layers == ({"fp16": 1, "other": 2} if dynamic else {"fp16": 1})
        and report.library == f"TensorRT {world.version}"
    )
    sidecar = Sidecar.read(report.plan)
    assert sidecar.gpu == "Orin" and sidecar.capabilities == ((8, 7),) and sidecar.version == world.version
    assert sidecar.profile == (((1, 1, 16, 16), (1, 1, 32, 48), (2, 1, 64, 64)) if dynamic else None)
    assert world.flags != 0 or world.version.startswith("11"), "explicit batch or strongly typed"
    assert ("set_flag" in world.calls) and world.calls.count("set_flag") == 1 + weak(world), (
        "FP16 is a flag on 8.6 alone"
    )

    with open_engine(report.plan) as engine:
        assert engine.runtime == f"tensorrt {world.version} Orin" and engine.info.precision == "fp16"
        assert engine.max_batch == (2 if dynamic else 1)
        assert engine.sides == (((16, 16), (64, 64)) if dynamic else None)
        for seed in range(2):
            batch = np.random.default_rng(seed).random((1, 1, 32, 48), np.float32)
            np.testing.assert_array_equal(engine.run(batch), batch / 2)
        times = dict(engine.device_times)  # type: ignore[attr-defined]
        assert 0 < times.pop("enqueue") < 1
        assert times == {"h2d": 1.5e-3, "compute": 1.5e-3, "d2h": 1.5e-3}
        if dynamic:
            batch = np.random.default_rng(3).random((2, 1, 64, 64), np.float32)
            np.testing.assert_array_equal(engine.run(batch), batch / 2)
            with pytest.raises(UsageError, match="1 to 2 frames of 16x16 to 64x64 px, not 1 of 72x64"):
                engine.run(np.zeros((1, 1, 64, 72), np.float32))
        assert len(world.alive) == 4 + 1 + 4, "two buffers on both sides, a stream, four events"
    assert not world.alive
    engine.close()


BUILD = ("parse", "build_serialized_network", "deserialize_cuda_engine", "Builder", "cudaGetDevice")


@pytest.mark.parametrize("call", BUILD)
def test_build_fails_at_each_step(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path, call: str
) -> None:
    world.fail = (call, 1)
    installed()
    said = {
        "parse": "cannot read .*best.onnx: .*unsupported",
        "build_serialized_network": "could not build",
        "deserialize_cuda_engine": "cannot load what it built",
        "Builder": "does not start here: no NVIDIA driver",
        "cudaGetDevice": "no GPU to build for .cudaGetDevice failed: cudaErrorMemoryAllocation",
    }[call]
    with pytest.raises(IrdetError, match=said) as caught:
        build_engine(write_onnx(), tmp_path / "best.trt")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["best.onnx"], "no half file"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_a_build_and_the_loading_of_an_engine(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path, number: signal.Signals
) -> None:
    """Its handler acts once TensorRT is done, and not inside a callback, where what it raises is dropped."""

    class Ended(BaseException):
        pass

    def handler(number: int, _: object) -> None:
        raise Ended(number)

    installed()
    plan = build_engine(write_onnx(height=32, width=48), tmp_path / "before.trt").plan
    world.signal = number
    before = signal.signal(number, handler)
    try:
        with pytest.raises(Ended):
            build_engine(write_onnx(), tmp_path / "best.trt")
        with pytest.raises(Ended):
            open_engine(plan)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert not (tmp_path / "best.trt").exists() and not world.alive


def test_what_the_progress_raises_ends_a_build(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path
) -> None:
    def progress(phase: str, step: int, steps: int) -> None:
        raise KeyboardInterrupt

    installed()
    if weak(world):  # it has no progress to tell
        assert build_engine(write_onnx(), tmp_path / "best.trt", progress=progress).plan.is_file()
        return
    with pytest.raises(KeyboardInterrupt):
        build_engine(write_onnx(), tmp_path / "best.trt", progress=progress)
    assert [path.name for path in tmp_path.iterdir()] == ["best.onnx"]


@pytest.mark.parametrize("place", ["out", "timing_cache"])
def test_places_are_tried_before_the_build(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path, place: str
) -> None:
    installed()
    model = write_onnx()
    for wrong, said in ((tmp_path, "it is a folder"), (model / "x", "no folder that can be written to")):
        places = {"out": tmp_path / "best.trt", "timing_cache": tmp_path / "cache", place: wrong}
        with pytest.raises(IrdetError, match=f"cannot write {wrong}: .*{said}"):
            build_engine(model, places["out"], BuildOptions(timing_cache=places["timing_cache"]))
    assert "build_serialized_network" not in world.calls


def test_a_cache_that_cannot_be_written_takes_no_engine_away(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed()
    cache = tmp_path / "caches" / "timing.cache"

    @contextlib.contextmanager
    def full(path: Path) -> Iterator[Path]:
        if path == cache:
            raise IrdetError(f"cannot write {path}: No space left on device")
        with replacing(path) as temporary:
            yield temporary

    monkeypatch.setattr(build, "replacing", full)
    report = build_engine(write_onnx(), tmp_path / "best.trt", BuildOptions(timing_cache=cache))
    assert report.plan.is_file() and report.sidecar.is_file()
    assert any("timing cache is not kept: cannot write" in line for line in report.warnings)


def test_a_timing_cache_of_another_gpu_is_begun_anew(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path
) -> None:
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"another GPU's")
    world.fail = ("set_timing_cache", 1)
    installed()
    report = build_engine(write_onnx(), tmp_path / "best.trt", BuildOptions(timing_cache=cache))
    assert world.calls.count("set_timing_cache") == 2 and cache.read_bytes() == b"cache"
    assert any(f"{cache} is not used" in line for line in report.warnings)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Layers": 1}', '{"Layers": [{"Outputs": {"a": 1}, "Weights": 3}]}'])
def test_a_report_that_cannot_be_read_takes_no_engine_away(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path, text: str
) -> None:
    world.layers = text or "\n"
    installed()
    report = build_engine(write_onnx(), tmp_path / "best.trt")
    assert report.plan.is_file() and report.layers in ({}, {"other": 1})


def test_a_silent_fp32_engine_is_an_error(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path
) -> None:
    world.layer_format = "Float"
    installed()
    with pytest.raises(IrdetError, match=r"without one layer in fp16 \(1 fp32\)"):
        build_engine(write_onnx(), tmp_path / "best.trt")
    assert not (tmp_path / "best.trt").exists()


RUN = (
    *(("cudaHostAlloc", n) for n in (1, 2)),
    *(("cudaMalloc", n) for n in (1, 2)),
    ("cudaStreamCreate", 1),
    *(("cudaEventCreate", n) for n in (1, 4)),
    ("set_tensor_address", 2),
    ("create_execution_context", 1),
    ("deserialize_cuda_engine", 2),
    ("Runtime", 2),
)


@pytest.mark.parametrize("fail", RUN, ids=str)
def test_opening_fails_at_each_step(
    world: Any,
    installed: Install,
    write_onnx: WriteOnnx,
    tmp_path: Path,
    fail: tuple[str, int],
) -> None:
    installed()
    plan = build_engine(write_onnx(height=32, width=48), tmp_path / "best.trt").plan
    world.fail = fail
    with pytest.raises(IrdetError) as caught:
        open_engine(plan)
    assert not world.alive, "everything made before is released"
    assert fail[0] in str(caught.value) or fail[0] in ("deserialize_cuda_engine", "Runtime")


def test_layers_that_tell_nothing_are_no_evidence(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path
) -> None:
    world.dynamic, world.layer_format = True, "N/A due to dynamic shapes"
    installed()
    assert build_engine(write_onnx(), tmp_path / "best.trt").layers == {"other": 3}
    world.layer_format = "Float"
    installed()
    if weak(world):
        with pytest.raises(IrdetError, match=r"without one layer in fp16 \(1 fp32, 2 other\)"):
            build_engine(write_onnx(), tmp_path / "best.trt")
    else:  # a strongly typed build cannot fall back, and another layer may be the half one
        assert build_engine(write_onnx(), tmp_path / "best.trt").layers == {"fp32": 1, "other": 2}


@pytest.mark.parametrize("call", ["cudaMemcpyAsync", "execute_async_v3", "cudaStreamSynchronize", "cudaEventRecord"])
def test_running_fails_at_each_step(
    world: Any,
    installed: Install,
    write_onnx: WriteOnnx,
    tmp_path: Path,
    call: str,
) -> None:
    installed()
    plan = build_engine(write_onnx(height=32, width=48), tmp_path / "best.trt").plan
    batch = np.ones((1, 1, 32, 48), np.float32)
    with open_engine(plan) as engine:
        world.fail = (call, 1)
        with pytest.raises(IrdetError, match=f"{call} failed"):
            engine.run(batch)
        np.testing.assert_array_equal(engine.run(batch), batch / 2)  # it goes on
    assert not world.alive


@pytest.mark.parametrize("call", ["cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaEventDestroy"])
def test_closing_releases_the_rest(
    world: Any,
    installed: Install,
    write_onnx: WriteOnnx,
    tmp_path: Path,
    call: str,
) -> None:
    installed()
    engine = open_engine(build_engine(write_onnx(height=32, width=48), tmp_path / "best.trt").plan)
    world.fail = (call, 1)
    with pytest.raises(IrdetError, match=f"{call} failed"):
        engine.close()
    assert len(world.alive) == 1, "only what could not be freed is left"
    engine.close()


def test_a_fixed_batch_is_filled_up(world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path) -> None:
    world.batch = 3
    installed()
    with open_engine(build_engine(write_onnx(height=32, width=48), tmp_path / "best.trt").plan) as engine:
        batch = np.random.default_rng(0).random((2, 1, 32, 48), np.float32)
        np.testing.assert_array_equal(engine.run(batch), batch / 2)
        with pytest.raises(UsageError, match="at most 3 frames"):
            engine.run(np.zeros((4, 1, 32, 48), np.float32))


def test_a_batch_below_the_profile_is_filled_up(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path
) -> None:
    world.dynamic, world.profile = True, ((4, 1, 32, 48),) * 3
    installed()
    plan = build_engine(write_onnx(), tmp_path / "best.trt", BuildOptions(profile=((4, 32, 48),) * 3)).plan
    with open_engine(plan) as engine:
        for count in (1, 4):
            batch = np.random.default_rng(count).random((count, 1, 32, 48), np.float32)
            np.testing.assert_array_equal(engine.run(batch), batch / 2)
        with pytest.raises(UsageError, match="4 to 4 frames of 48x32 to 48x32 px, not 1 of 64x32"):
            engine.run(np.zeros((1, 1, 32, 64), np.float32))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "10.99.0"}, "was built by version 10.99.0, here is TensorRT"),
        ({"library": "tensorrt_rtx"}, None),
        ({"gpu": "Xavier"}, r"was built for Xavier, here is Orin \(compute capability 8.7\)"),
        ({"gpu": None, "capabilities": ((8, 9),)}, "was built for compute capability 8.9, here is Orin"),
        ({"plan_sha256": "0" * 64}, "is not the file that its sidecar describes"),
    ],
)
def test_plans_that_do_not_fit(
    world: Any,
    installed: Install,
    write_onnx: WriteOnnx,
    tmp_path: Path,
    changes: dict[str, object],
    said: str | None,
) -> None:
    installed()
    plan = build_engine(
        write_onnx(height=32, width=48),
        tmp_path / "best.trt",
        BuildOptions(command="irdet export best.onnx -o best.trt"),
    ).plan
    dataclasses.replace(Sidecar.read(plan), **changes).write(plan)  # type: ignore[arg-type]
    with pytest.raises(IrdetError, match=said) as caught:
        open_engine(plan)
    if said is not None:
        assert str(caught.value).endswith("build it here: irdet export best.onnx -o best.trt")
    assert not world.alive


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "comes without best.trt.json"),
        ("{", "not valid JSON"),
        ("[]", "not a sidecar"),
        ('{"format": 1}', "missing or unknown"),
        ('{"format": 99}', "not a sidecar of this version"),
    ],
)
def test_damaged_sidecars(
    world: Any,
    installed: Install,
    write_onnx: WriteOnnx,
    tmp_path: Path,
    text: str | None,
    said: str,
) -> None:
    installed()
    plan = build_engine(write_onnx(height=32, width=48), tmp_path / "best.trt").plan
    sidecar_path(plan).unlink() if text is None else sidecar_path(plan).write_text(text)
    with pytest.raises(ModelError, match=said):
        open_engine(plan)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Sidecar) if field.name != "report"])
def test_sidecars_with_a_wrong_field(
    world: Any,
    installed: Install,
    write_onnx: WriteOnnx,
    tmp_path: Path,
    name: str,
) -> None:
    installed()
    plan = build_engine(write_onnx(height=32, width=48), tmp_path / "best.trt").plan
    values = json.loads(sidecar_path(plan).read_text())
    sidecar_path(plan).write_text(json.dumps({**values, name: {"a": [1.5]}}))
    with pytest.raises(ModelError, match=r"best.trt.json: "):
        open_engine(plan)


def test_golden_frames_of_sizes_beyond_the_profile_are_left_out(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path
) -> None:
    """What runs is compared; where nothing runs, the engine says what it takes."""
    world.dynamic = True
    installed()

    def stored(*sizes: tuple[int, int]) -> Golden:
        frames = [np.full((2, *size), 200, np.uint8) for size in sizes]
        sets = tuple(GoldenSet(one, one / np.float32(510)) for one in frames)
        return Golden(info.weights_sha256, info.threshold, sets)

    with open_engine(build_engine(write_onnx(), tmp_path / "best.trt").plan) as engine:
        info = engine.info
        result = replay(engine, stored((16, 32), (64, 80), (64, 64)))
        assert result.passed and (result.frames, result.left_out) == (4, 2)
        with pytest.raises(UsageError, match="1 to 2 frames of 16x16 to 64x64 px, not 1 of 80x64"):
            replay(engine, stored((64, 80)))


def test_golden_frames_go_along_under_the_engines_name(
    world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path
) -> None:
    """Never over those of another model: `best.onnx` and `other.ONNX` differ in their weights."""
    installed()
    frames = np.full((1, 32, 48), 200, np.uint8)
    stored = Golden("a", 0.5, (GoldenSet(frames, frames / np.float32(510)),), "fp16")
    model = write_onnx(height=32, width=48, weights_sha256="a")

    def built(name: str) -> str:
        return " ".join(build_engine(model, tmp_path / name).warnings)

    assert f"no golden frames at {tmp_path / 'best.golden.npz'}" in built("copy.trt")
    write_golden(golden_path(model), stored)
    assert "golden" not in built("best.trt") + built("copy.trt") + built("new/copy.trt")
    for engine in ("copy.trt", "new/copy.trt"):
        assert read_golden(golden_path(tmp_path / engine)).weights_sha256 == "a"

    other = tmp_path / "other.ONNX"
    other.write_bytes(model.read_bytes())
    write_golden(golden_path(other), dataclasses.replace(stored, weights_sha256="b"))
    for _ in range(2):  # the engine that is there now does not own them either
        assert "other.golden.npz belongs to other.ONNX" in built("other.trt")
    assert read_golden(golden_path(other)).weights_sha256 == "b"
    write_golden(golden_path(other), stored)
    assert "golden" not in built("other.trt"), "they fit"

    write_golden(tmp_path / "lone.golden.npz", dataclasses.replace(stored, weights_sha256="b"))
    assert "lone.golden.npz belongs to another model" in built("lone.trt")
    write_golden(golden_path(tmp_path / "copy.trt"), dataclasses.replace(stored, weights_sha256="b"))
    assert "golden" not in built("copy.trt"), "what they belonged to was replaced"
    assert read_golden(golden_path(tmp_path / "copy.trt")).weights_sha256 == "a"
    (tmp_path / "folder.golden.npz").mkdir()
    (tmp_path / "folder.trt").touch()
    assert "the golden frames are not copied" in built("folder.trt")


def test_the_gpu_alone(world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path) -> None:
    installed()
    plan = build_engine(write_onnx(height=32, width=48), tmp_path / "best.trt").plan
    with pytest.raises(UsageError, match="runs on the GPU alone"):
        open_engine(plan, device="cpu")
    with pytest.raises(UsageError, match="only TensorRT-RTX takes compute capabilities"):
        build_engine(write_onnx(), tmp_path / "b.trt", BuildOptions(capabilities=((8, 9),)))


def test_precision_comes_from_the_file(world: Any, installed: Install, write_onnx: WriteOnnx, tmp_path: Path) -> None:
    installed()
    out = tmp_path / "b.trt"
    if weak(world):
        wanted = Wanted(None, None, None, None, False, False)
        report = build_engine(write_onnx("fp32"), out, wanted.options(Path("best.onnx"), out, "fp16"))
        assert report.layers == {"fp16": 1} and report.info.precision == "fp16"
        assert Sidecar.read(out).command == f"irdet export best.onnx --output {out} --fp16"
        for precision, asked in (("int8+fp16", None), ("int8", "int8+fp16"), ("fp16", "int8+fp16")):
            with pytest.raises(UsageError, match="half scales: export with --int8 alone, and build without --fp16"):
                build_engine(write_onnx(precision), out, BuildOptions(precision=asked))
    else:
        with pytest.raises(UsageError, match=r"the ONNX file is fp32, .* export it as fp16 first .*--fp16"):
            build_engine(write_onnx("fp32"), out, BuildOptions(precision="fp16"))
    with pytest.raises(UsageError, match="for CPUs"):
        build_engine(write_onnx("int8", target="cpu"), out)
