"""What users get: the wheel, built from the sdist, in an environment that has [cpu] and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import irdet

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "onnx", "onnxruntime", "cv2", "matplotlib")


def _run(command: Sequence[object], folder: Path, code: int = 0) -> str:
    """Runs a command in a folder away from the checkout and gives its output; a failure shows all it said.

    Where another exit code than 0 is expected, it gives what stands on stderr.
    """
    strange = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")
    environment = {name: value for name, value in os.environ.items() if name not in strange}
    words = [str(word) for word in command]
    result = subprocess.run(
        words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8"
    )
    if result.returncode != code:
        pytest.fail(f"{' '.join(words)}\nexit code {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stderr if code else result.stdout


def _need_packages(folder: Path) -> None:
    """Skips where pip reaches no package index; in CI it must reach one."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "setuptools>=77"]
    if subprocess.run(command, capture_output=True).returncode and not os.environ.get("CI"):
        pytest.skip("pip reaches no package index, so the wheel cannot be built and installed")


def _build(folder: Path) -> Path:
    """Builds the sdist from a copy of the tree (a build leaves files behind), and the wheel from the sdist."""
    source = folder / "source"
    other = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
    shutil.copytree(ROOT, source, symlinks=True, ignore=other)
    _run([sys.executable, "-m", "build", "--outdir", folder / "dist", source], folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def test_the_wheel_from_the_sdist_works_with_cpu_alone(tmp_path: Path) -> None:
    _need_packages(tmp_path)
    wheel = _build(tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"irdet", f"irdet-{irdet.__version__}.dist-info"}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "irdet").rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    shipped = {f"irdet/weights/mlcl-edge.{suffix}" for suffix in ("pt", "onnx", "golden.npz", "md")}
    assert (files | shipped) - set(names) == {"irdet/weights/mlcl-base.pt"}
    weights = [entry for entry in zipfile.ZipFile(wheel).infolist() if entry.filename.startswith("irdet/weights/")]
    assert sum(entry.file_size for entry in weights) < 10e6
    assert any(name.endswith("licenses/LICENSE") for name in names)

    home = tmp_path / "clean"
    venv.create(home, with_pip=True, symlinks=os.name != "nt")
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    python, command = scripts / "python", scripts / "irdet"
    _run([python, "-m", "pip", "install", "--quiet", wheel], tmp_path)
    assert "irdet[cpu]" in _run([command, "infer", "clip.mkv"], tmp_path, code=1)
    _run([python, "-m", "pip", "install", "--quiet", f"{wheel}[cpu]"], tmp_path)
    absent = "import importlib.util as u; print([m for m in ('torch', 'onnx', 'matplotlib') if u.find_spec(m)])"
    assert _run([python, "-c", absent], tmp_path).strip() == "[]"

    assert "Usage" in _run([command, "--help"], tmp_path)
    assert _run([command, "--version"], tmp_path).strip() == f"irdet {irdet.__version__}"
    _run([python, "-c", "from irdet import Detector, open_engine, open_source, Target"], tmp_path)
    assert "irdet[train]" in _run([python, "-c", "from irdet import load_model"], tmp_path, code=1)

    _run([command, "synth", "clip", "clip.mkv", "--frames", 12, "--seed", 1], tmp_path)
    _run([command, "infer", "clip.mkv", "--output", "found"], tmp_path)
    lines = (tmp_path / "found" / "targets.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(12))

    _run([command, "synth", "dataset", "data", "--count", 4, "--seed", 1], tmp_path)
    figures = json.loads(_run([command, "eval", "--data", "data", "--json"], tmp_path))
    assert {"iou", "niou", "pd", "fa", "precision", "recall", "f1"} <= figures.keys()
    assert "mlcl-edge" in _run([command, "info", "mlcl-edge"], tmp_path)
    assert "PASS" in _run([command, "verify"], tmp_path)


@pytest.mark.parametrize(
    "statement",
    [
        "import irdet",
        "import irdet; dir(irdet); irdet.__version__; irdet.IrdetError",
        "from irdet.cli import main; assert main(['--help']) == 0",
        "from irdet.cli import main; assert main(['--version']) == 0",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path: Path, statement: str) -> None:
    program = f"import sys\n{statement}\nprint('loaded:', *sorted({{*sys.modules}} & {{*{HEAVY}, 'numpy'}}))"
    assert _run([sys.executable, "-c", program], tmp_path).splitlines()[-1].strip() == "loaded:"


def test_the_public_names_are_there() -> None:
    for name in irdet.__all__:
        value = getattr(irdet, name)
        assert value.__name__ == name and value.__module__.startswith("irdet.")
    assert set(irdet.__all__) <= set(dir(irdet))
    with pytest.raises(AttributeError, match="no attribute 'Dectector'"):
        irdet.Dectector  # noqa: B018
