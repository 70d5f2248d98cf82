"""A fresh interpreter finds what this one finds, and nothing in the current folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from irdet.core.child import python


def ran(program: str, *args: str, folder: Path) -> str:
    done = subprocess.run(python(program, *args), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_of_the_current_folder_are_not_run(tmp_path: Path) -> None:
    for name in ("json", "numpy", "irdet"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the one of the current folder')")
    program = "import json, numpy, irdet.core.child; print(json.dumps([irdet.__file__, *sys.argv[1:]]))"
    import irdet

    assert json.loads(ran(program, "a b", "ü", folder=tmp_path)) == [irdet.__file__, "a b", "ü"]


def test_packages_are_looked_for_where_this_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "wo 'ü"
    other.mkdir()
    (other / "only_there.py").write_text("told = 7")
    monkeypatch.setattr(sys, "path", ["", str(other), *sys.path])
    assert ran("import only_there; print(only_there.told, '' in sys.path)", folder=tmp_path) == "7 False\n"


def test_irdet_is_found_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.setattr(sys, "path", ["", *(part for part in sys.path if Path(part).resolve() != root)])
    monkeypatch.setenv("PYTHONPATH", "")
    assert ran("import irdet.core.child; print(sys.path[-1])", folder=tmp_path) == f"{root}\n"
