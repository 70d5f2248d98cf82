"""Packages that are broken in every way are a line, and hurt nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from irdet.doctor.process import try_lane

BROKEN = {
    "raises": ("raise ImportError('libfoo.so.9: cannot open shared object file')", "ImportError: libfoo.so.9"),
    "raises much": ("raise RuntimeError('a\\nb ' + 'x' * 999)", "RuntimeError: a b xxx"),
    "leaves": ("raise SystemExit(3)", "SystemExit: 3"),
    "lacks another": ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    "aborts": ("import os; os.abort()", "crashes (SIGABRT)"),
    "faults": ("import ctypes; ctypes.string_at(0)", "crashes (SIGSEGV)"),
    "ends": ("import os; print('no licence', flush=True); os._exit(5)", "crashes (exit code 5): no licence"),
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that packages are found in first."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_package_is_a_line_and_the_next_one_is_tried(package: Path, way: str) -> None:
    source, told = BROKEN[way]
    (package / "matplotlib.py").write_text(source)
    (package / "scipy.py").write_text("")
    broken, good = try_lane(("matplotlib", "SciPy"), 60)
    assert (broken.part, broken.state) == ("matplotlib", "broken") and broken.found.startswith(told)
    assert "\n" not in broken.found and len(broken.found) < 300
    assert (good.part, good.state) == ("SciPy", "ok")


def test_a_package_that_hangs(package: Path) -> None:
    (package / "matplotlib.py").write_text("import time; time.sleep(600)")
    (package / "scipy.py").write_text("")
    started = time.monotonic()
    before, broken, good = try_lane(("shipped models", "matplotlib", "SciPy"), 6)
    assert time.monotonic() - started < 30
    assert (broken.state, broken.found) == ("broken", "hangs: no answer within 6 s")
    assert before.state == good.state == "ok"


def test_what_packages_print_goes_nowhere(package: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (package / "scipy.py").write_text("import os, sys; print('{}'); os.write(1, b'noise'); os.write(2, b'more')")
    (fact,) = try_lane(("SciPy",), 60)
    assert fact.state == "ok" and capfd.readouterr() == ("", "")


def test_a_package_that_cannot_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from irdet.doctor import probes

    monkeypatch.setattr(probes, "find_spec", lambda name: None)
    for part, probe in probes.PROBES.items():
        if probe.module:
            (fact,) = probes.try_part(part)
            assert (fact.part, fact.state, fact.found) == (part, "missing", "not installed")


@pytest.mark.parametrize("part", ["NumPy", "OpenCV", "ONNX Runtime", "OpenVINO", "TensorRT", "TensorRT-RTX", "torch"])
def test_each_runtime_may_abort(package: Path, part: str) -> None:
    from irdet.doctor.probes import PROBES

    (package / f"{PROBES[part].module}.py").write_text("import os; os.abort()")
    (fact,) = try_lane((part,), 60)
    assert (fact.part, fact.state, fact.found) == (part, "broken", "crashes (SIGABRT)")


def test_numpy_that_aborts_breaks_what_needs_it_and_not_the_doctor(package: Path) -> None:
    (package / "numpy.py").write_text("import os; os.abort()")
    facts = try_lane(("NumPy", "ONNX Runtime", "onnxconverter-common", "NVIDIA GPU"), 60)
    states = {fact.part: fact.state for fact in facts}
    assert states["NumPy"] == "broken" and states["ONNX Runtime"] != "ok"
    assert "NVIDIA GPU" in states
