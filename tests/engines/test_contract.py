"""One contract for every engine and every network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.core.machine import read_machine
from irdet.engines import open_engine
from irdet.engines.base import BaseEngine, Engine
from irdet.engines.probe import as_batch, probe_frame
from irdet.engines.record import read_record
from irdet.engines.shipped import DEFAULT_MODEL, shipped_path

if TYPE_CHECKING:
    from irdet.models import LoadedModel

if find_spec("torch"):
    from irdet.models import MODELS

    NETWORKS = tuple(MODELS)
else:
    NETWORKS = ()  # a device has the shipped files alone

#: Stand for the shipped ONNX files of the default model.
SHIPPED, SHIPPED_8 = "shipped", "shipped-8-bit"

#: Runtime -> the suffix of its file, and the device that chooses it.
RUNTIMES = {
    "torch": (".pt", "cpu"),
    "onnx": (".onnx", "cpu"),
    "openvino": (".onnx", "openvino"),
    "xml": (".xml", "cpu"),
}


@pytest.fixture(scope="session")
def files(sharp_model: Callable[..., LoadedModel], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a network for a runtime: the checkpoint as it is, or the traced graph with its record."""
    folder = tmp_path_factory.mktemp("models")

    def write(name: str, runtime: str, size: tuple[int, int] | None = None, batch: int = 1) -> Path:
        if runtime in ("openvino", "xml"):
            pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'irdet[openvino]'")
        if name in (SHIPPED, SHIPPED_8):
            shipped = shipped_path(DEFAULT_MODEL + "-int8-cpu" * (name == SHIPPED_8), ".onnx")
            assert shipped is not None
            return shipped
        model = sharp_model(name)
        onnx = pytest.importorskip("onnx", reason="exporting needs onnx: pip install 'irdet[export]'")
        from irdet.export.graph import deployable
        from irdet.export.onnx import OnnxOptions, trace
        from irdet.models import save_checkpoint

        path = folder / f"{name}-{size and 'x'.join(map(str, size))}-{batch}{RUNTIMES[runtime][0]}"
        if path.exists():
            return path
        if runtime == "torch":
            save_checkpoint(path, model.module, model.info)
            return path
        if runtime == "xml":
            import openvino

            openvino.save_model(openvino.convert_model(write(name, "onnx", size, batch)), path, compress_to_fp16=False)
            return path
        width, height = size or (64, 64)
        trace(deployable(model), path, OnnxOptions(size, batch), (height, width))
        graph = onnx.load(path)
        info = model.info.replace(height=size and height, width=size and width)
        onnx.helper.set_model_props(graph, {METADATA_KEY: info.to_json()})
        onnx.save(graph, path)
        return path

    return write


CASES = [(name, runtime) for name in NETWORKS for runtime in RUNTIMES]
CASES += [(name, runtime) for name in (SHIPPED, SHIPPED_8) for runtime in ("onnx", "openvino")]


@pytest.fixture(params=CASES, ids="-".join, scope="module")
def engine(request: pytest.FixtureRequest, files: Callable[..., Path]) -> Iterator[BaseEngine]:
    with opened(files, *request.param) as engine:
        yield engine


def opened(files: Callable[..., Path], name: str, runtime: str, **form: Any) -> BaseEngine:
    return open_engine(files(name, runtime, **form), device=RUNTIMES[runtime][1], threads=1)


def frames(count: int = 1, height: int = 48, width: int = 64) -> NDArray[np.float32]:
    return as_batch(np.stack([probe_frame(height, width, seed) for seed in range(count)]))


def test_fulfils_the_protocol(engine: BaseEngine) -> None:
    assert isinstance(engine, Engine)
    assert engine.notes == ()
    assert engine.max_batch is None
    assert engine.runtime.split()[0] in ("torch", "onnxruntime", "openvino") and engine.runtime.endswith(" cpu")


def test_carries_the_record(engine: BaseEngine, request: pytest.FixtureRequest, files: Callable[..., Path]) -> None:
    name, runtime = request.node.callspec.params["engine"]
    if name in (SHIPPED, SHIPPED_8):
        assert engine.info == read_record(files(name, runtime))
    else:
        assert engine.info == request.getfixturevalue("sharp_model")(name).info


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 48, 64), (3, 112, 80)])
def test_probabilities(engine: BaseEngine, shape: tuple[int, int, int], request: pytest.FixtureRequest) -> None:
    output = engine.run(frames(*shape))
    assert output.shape == (shape[0], 1, *shape[1:])
    assert output.dtype == np.float32 and output.flags.c_contiguous and output.flags.writeable
    assert output.min() >= 0 and output.max() <= 1
    # Those that ship may be as sure as float32 can tell that there is nothing in so small a frame.
    blank = shape[1] == 16 and request.node.callspec.params["engine"][0] in (SHIPPED, SHIPPED_8)
    assert output.min() < output.max() or blank


def test_a_batch_is_its_frames(engine: BaseEngine) -> None:
    batch = frames(3)
    single = np.concatenate([engine.run(frame[None]) for frame in batch])
    np.testing.assert_allclose(engine.run(batch), single, atol=1e-4)  # other kernels, other order of sums


def test_same_frame_same_answer(engine: BaseEngine) -> None:
    batch = frames(2)
    before = batch.copy()
    first = engine.run(batch)
    kept = first.copy()
    other = engine.run(batch[::-1].copy())
    assert np.array_equal(batch, before), "the input was written to"
    assert np.array_equal(first, kept), "an output was overwritten by the next run"
    assert not np.array_equal(first, other)
    assert np.array_equal(engine.run(batch), first)


def test_threads_may_share_an_engine(engine: BaseEngine) -> None:
    """Two cameras, one model: each gets what is in its own frames."""
    sizes = ((64, 64), (64, 64), (96, 64), (64, 96))
    frames = [as_batch(probe_frame(*size, seed)[None]) for seed, size in enumerate(sizes)]
    alone = [engine.run(frame) for frame in frames]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(engine.run, frames * 8))
    for index, found in enumerate(together):
        np.testing.assert_allclose(found, alone[index % 4], atol=1e-5)


def test_layout_makes_no_difference(engine: BaseEngine) -> None:
    batch = frames(2)
    wanted = engine.run(batch)
    assert np.array_equal(engine.run(np.asfortranarray(batch)), wanted)
    padded = np.zeros((2, 1, 52, 82), np.float32)
    padded[:, :, :48, 9:73] = batch
    assert np.array_equal(engine.run(padded[:, :, :48, 9:73]), wanted)
    locked = batch.copy()
    locked.setflags(write=False)
    assert np.array_equal(engine.run(locked), wanted)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 1, 16, 16)),
        np.zeros((1, 1, 16, 16), np.int8),
        np.zeros((16, 16), np.float32),
        np.zeros((1, 16, 16), np.float32),
        np.zeros((1, 3, 16, 16), np.float32),
        np.zeros((0, 1, 16, 16), np.float32),
        np.zeros((1, 1, 0, 16), np.float32),
        np.zeros((1, 1, 17, 16), np.float32),
        np.zeros((1, 1, 16, 18), np.float32),
        [[[[0.0]]]],
    ],
    ids=lambda batch: str(getattr(batch, "shape", "list")) + str(getattr(batch, "dtype", "")),
)
def test_what_does_not_fit_is_refused(engine: BaseEngine, batch: NDArray[np.float32]) -> None:
    with pytest.raises(UsageError) as caught:
        engine.run(batch)
    assert "\n" not in str(caught.value)


def test_counts_are_what_they_stand_for_or_refused(engine: BaseEngine) -> None:
    counts = np.stack([probe_frame(48, 64, seed) for seed in range(2)])[:, None]
    if engine.dtype == np.uint8:
        assert np.array_equal(engine.run(counts), engine.run(counts.astype(np.float32) / np.float32(255)))
    else:
        with pytest.raises(UsageError, match="float32"):
            engine.run(counts)


def test_the_shipped_8_bit_model_takes_8_bits(engine: BaseEngine, request: pytest.FixtureRequest) -> None:
    name, _ = request.node.callspec.params["engine"]
    assert engine.dtype == (np.uint8 if name == SHIPPED_8 else np.float32)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_closes_once_and_for_all(files: Callable[..., Path], runtime: str) -> None:
    with opened(files, "mlcl-edge", runtime) as engine:
        engine.run(frames())
    engine.close()
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.run(frames())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_spread_changes_no_answer(files: Callable[..., Path], runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irdet.engines.read_machine", lambda: dataclasses.replace(read_machine(), cores=2))
    path, device = files("mlcl-edge", runtime), RUNTIMES[runtime][1]
    batches = [frames()[:, :, ::step] for step in (1, -1)]
    with open_engine(path, device=device, threads=2) as engine:
        wanted = [engine.run(batch) for batch in batches]
        assert engine.runs == 1
        engine.spread()
        assert engine.runs == (2 if runtime == "onnx" else 1)
        with ThreadPoolExecutor(engine.runs) as pool:
            for answer, alone in zip(pool.map(engine.run, batches * 8), wanted * 8, strict=True):
                np.testing.assert_allclose(answer, alone, atol=1e-6)


@pytest.mark.parametrize(("threads", "runs"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 2), (8, 4), (16, 4)])
def test_runs_share_the_threads(
    files: Callable[..., Path], threads: int, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irdet.engines.read_machine", lambda: dataclasses.replace(read_machine(), cores=16))
    with open_engine(files(SHIPPED, "onnx"), device="cpu", threads=threads) as engine:
        engine.spread()
        assert engine.runs == runs


@pytest.mark.parametrize("name", NETWORKS)
def test_engines_agree(name: str, files: Callable[..., Path]) -> None:
    answers = []
    for runtime in RUNTIMES:
        with opened(files, name, runtime) as engine:
            answers.append(engine.run(frames(2, 112, 80)))
    for answer in answers[1:]:
        assert np.abs(answers[0] - answer).max() <= 1e-4
    assert (answers[0] >= 0.5).any() and (answers[0] < 0.1).any()


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name != "torch"])
@pytest.mark.parametrize("batch", [1, 3])
def test_fixed_size(batch: int, runtime: str, files: Callable[..., Path]) -> None:
    form = {"size": (64, 48), "batch": batch}
    with opened(files, "mlcl-edge", runtime, **form) as engine, opened(files, "mlcl-edge", "torch") as free:
        assert (engine.info.height, engine.info.width, engine.max_batch) == (48, 64, batch)
        for count in range(1, batch + 1):  # a batch that is not full is filled up unseen
            np.testing.assert_allclose(engine.run(frames(count)), free.run(frames(count)), atol=1e-4)
        with pytest.raises(UsageError, match=f"at most {batch} frames"):
            engine.run(frames(batch + 1))
        with pytest.raises(UsageError, match="64x48 px only, not 48x64"):
            engine.run(frames(1, 64, 48))


def test_torch_engine_takes_a_loaded_model_and_leaves_it_alone(sharp_model: Callable[..., LoadedModel]) -> None:
    from irdet.engines.torch import TorchEngine

    model = sharp_model("mlcl-edge")
    with TorchEngine(model, device="cpu") as engine:
        probability = engine.run(frames())
        assert engine.info is model.info
    import torch

    with torch.inference_mode():
        expected = torch.sigmoid(model.module(torch.from_numpy(frames()))).numpy()
    np.testing.assert_allclose(probability, expected, atol=1e-5)


def test_record_and_graph_must_agree(files: Callable[..., Path], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'irdet[export]'")
    from irdet.core.errors import ModelError

    graph = onnx.load(files("mlcl-edge", "onnx", size=(64, 48)))
    onnx.helper.set_model_props(graph, {METADATA_KEY: ModelInfo("mlcl-edge", stride=16, height=64, width=64).to_json()})
    onnx.save(graph, tmp_path / "edited.onnx")
    with pytest.raises(ModelError, match="export again"):
        open_engine(tmp_path / "edited.onnx", device="cpu")
