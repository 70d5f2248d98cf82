"""Which TensorRT is found, and what is none."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from irdet.core.errors import MissingDependency
from irdet.engines.tensorrt import library
from irdet.engines.tensorrt.library import find_library

NAME = "irdet_fake_tensorrt"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(library, "LIBRARIES", {NAME: "tensorrt"})
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop(NAME, None)


@pytest.mark.parametrize("name", [None, NAME])
def test_a_folder_of_that_name_is_no_package(folder: Path, name: str | None) -> None:
    (folder / NAME).mkdir()
    with pytest.raises(MissingDependency, match=r"which is not installed: .*pip install 'irdet\[tensorrt\]'"):
        find_library(name)


def test_a_signal_while_the_package_is_imported(folder: Path) -> None:
    (folder / f"{NAME}.py").write_text(
        "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\n"
        "except BaseException as error:\n    raise ImportError('failed') from error\n__version__ = '10.3.0'"
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            find_library()
    finally:
        signal.signal(signal.SIGINT, before)
