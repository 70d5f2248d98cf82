from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from irdet.core.errors import IrdetError
from irdet.engines import fastest as module
from irdet.engines import open_engine, resolve_model
from irdet.engines.openvino import OpenVinoEngine

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'irdet[openvino]'")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """Whoever was timed; OpenVINO is then said to be twice as fast."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls: list[tuple[str, str]] = []

    def measure(engine: object, rival: object) -> dict[str, float]:
        calls.append((type(engine).__name__, type(rival).__name__))
        return {"onnxruntime": 0.02, "openvino": 0.01}

    monkeypatch.setattr(module, "_measure", measure)
    return calls


def test_the_faster_one_is_taken_said_and_remembered(measured: list[tuple[str, str]]) -> None:
    for _ in range(2):
        with open_engine("mlcl-edge", threads=1) as engine:
            assert engine.runtime.startswith("openvino")
            assert "2.00 times as fast" in engine.notes[-1] and "--device cpu" in engine.notes[-1]
    assert measured == [("OnnxEngine", "OpenVinoEngine")]
    with open_engine("mlcl-edge", threads=2):  # another number of threads is another question
        pass
    assert len(measured) == 2


def test_a_folder_of_that_name_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    with open_engine("mlcl-edge", threads=1) as engine:
        assert engine.runtime.startswith("onnxruntime")


def test_a_small_gain_is_noise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "_measure", lambda *_: {"onnxruntime": 0.0100, "openvino": 0.0095})
    with open_engine("mlcl-edge", threads=1) as engine:
        assert engine.runtime.startswith("onnxruntime")
        assert engine.notes == ("onnxruntime is taken: openvino takes 0.95 times its time here",)


def test_damaged_memory_is_measured_again(measured: list[tuple[str, str]], tmp_path: Path) -> None:
    open_engine("mlcl-edge", threads=1).close()
    (kept,) = (tmp_path / "irdet" / "runtimes").iterdir()
    damaged = (
        *("", "[]", '{"onnxruntime": "x"}', "[" * 100_000, '{"onnxruntime": 0.01, "openvino": 0}'),
        *('{"onnxruntime": 1' + "0" * 400 + ', "openvino": 1}', '{"onnxruntime": NaN, "openvino": 1}'),
    )
    for text in damaged:
        kept.write_text(text)
        open_engine("mlcl-edge", threads=1).close()
    assert len(measured) == 1 + len(damaged)


def test_really_measured() -> None:
    path = resolve_model("mlcl-edge")
    with open_engine(path, device="cpu", threads=1) as one, OpenVinoEngine(path, threads=1) as other:
        times = module._measure(one, other)
    assert all(1e-4 < seconds < 60 for seconds in times.values())


def test_asked_for_devices_and_foreign_models_are_not_measured(
    measured: list[tuple[str, str]], foreign: Callable[..., Path]
) -> None:
    open_engine("mlcl-edge", device="cpu").close()
    open_engine(foreign()).close()
    assert measured == []


def test_a_model_that_openvino_cannot_run(measured: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise IrdetError("no")

    monkeypatch.setattr(OpenVinoEngine, "__init__", refuse)
    with open_engine("mlcl-edge") as engine:
        assert engine.runtime.startswith("onnxruntime") and "cannot run this model: no" in engine.notes[-1]
