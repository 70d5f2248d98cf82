from __future__ import annotations

import sys
from pathlib import Path

import pytest

from irdet.core.errors import MissingDependency
from irdet.core.extras import explained, require


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `pretend` on the path, to be given contents."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "pretend"]:
        monkeypatch.delitem(sys.modules, name)
    folder = tmp_path / "pretend"
    folder.mkdir()
    return folder / "__init__.py"


def test_gives_the_module() -> None:
    import json.decoder

    assert require("json.decoder", "cpu", "reading") is json.decoder


def test_names_the_purpose_and_the_extra() -> None:
    with pytest.raises(MissingDependency) as caught:
        require("no_such_package", "cpu", "running ONNX models")
    assert str(caught.value) == (
        "running ONNX models needs no_such_package, which is not installed: pip install 'irdet[cpu]'"
    )


@pytest.mark.parametrize("module", ["no_such_package.part", "pretend.part"])
def test_a_part_that_is_not_there_is_not_installed(package: Path, module: str) -> None:
    package.touch()
    with pytest.raises(MissingDependency, match=rf"needs {module}, which is not installed"):
        require(module, "cpu", "this")


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("raise ImportError('libfoo.so.1: cannot open shared object file')", "libfoo.so.1"),
        ("raise OSError('libfoo.so.1: cannot open shared object file')", "libfoo.so.1"),
    ],
)
def test_what_is_installed_and_broken_is_told_apart(package: Path, contents: str, reason: str) -> None:
    package.write_text(contents)
    with pytest.raises(MissingDependency, match="pretend is installed but cannot be loaded") as caught:
        require("pretend", "cpu", "this")
    assert reason in str(caught.value)


def test_a_failed_import_names_the_extra_where_there_is_one() -> None:
    error = explained(ModuleNotFoundError("no", name="torch.nn"), "irdet train")
    assert isinstance(error, MissingDependency)
    assert str(error) == "irdet train needs torch, which is not installed: pip install 'irdet[train]'"
    bug = ModuleNotFoundError("no", name="irdet.no_such_module")
    assert explained(bug, "irdet train") is bug
