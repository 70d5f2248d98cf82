"""A small part of benchmarks/fuzz.py: damaged files of every kind give a result or an error in one line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "fuzz.py"
if not SCRIPT.is_file():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)

_SPEC = importlib.util.spec_from_file_location("irdet_fuzz", SCRIPT)
assert _SPEC is not None and _SPEC.loader is not None
fuzz: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["irdet_fuzz"] = fuzz
_SPEC.loader.exec_module(fuzz)

#: Inputs of each format; fewer of those that take long.
COUNT, FEW = 40, {"checkpoint": 3}

#: Formats whose native parser is not trusted with this process: benchmarks/fuzz.py runs them in children.
APART = {"ONNX (OpenVINO)", "JPEG 2000"}

FORMATS = sorted(set(fuzz.FORMATS) - APART)


@pytest.mark.parametrize("name", FORMATS)
def test_good_files_are_read(name: str, tmp_path: Path) -> None:
    chosen = fuzz.FORMATS[name]
    for index, data in enumerate(chosen.make(tmp_path)):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / f"input{chosen.suffix}").write_bytes(chosen.mend(data))
        assert fuzz.outcome_of(chosen.read, folder / f"input{chosen.suffix}") == "result"


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_give_a_result_or_one_line(name: str, tmp_path: Path) -> None:
    chosen = fuzz.FORMATS[name]
    seeds = chosen.make(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / f"input{chosen.suffix}"
    for number in range(FEW.get(name, COUNT)):
        path.write_bytes(fuzz.input_of(name, seeds, 1, number))
        outcome = fuzz.outcome_of(chosen.read, path)
        assert outcome in ("result", "error"), f"input {number}: {outcome}"


def test_the_script_counts_crashes_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a child that dies on its third input."""
    child = tmp_path / "child.py"
    child.write_text(
        "import os, sys\n"
        "first, stop = map(int, sys.argv[sys.argv.index('--range') + 1 :][:2])\n"
        "for i in range(first, stop):\n"
        "    if i == 2:\n        os.abort()\n"
        "    print(i, 'result', sep='\\t', flush=True)\n"
    )
    monkeypatch.setattr(fuzz, "__file__", str(child))
    tally = fuzz.fuzz("model record", 0, 5, tmp_path / "kept")
    assert dict(tally.outcomes) == {"result": 4, "crash": 1}
    assert tally.faults == [(2, "crash: SIGABRT")]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["model-record-0-2-crash.json"]
    assert "| model record | 5 | 4 | 0 | 0 | 1 | 0 | 0 |" in fuzz.markdown([tally], 0)
