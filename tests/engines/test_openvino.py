from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from irdet.core.errors import ModelError, UsageError
from irdet.engines import open_engine
from irdet.engines.openvino import OpenVinoEngine
from irdet.engines.probe import as_batch, probe_frame

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'irdet[openvino]'")


@pytest.mark.parametrize("ending", ["logits", "flat", "two probabilities", "deep supervision"])
def test_foreign_models_are_read_as_onnx_runtime_reads_them(foreign: Callable[..., Path], ending: str) -> None:
    path = foreign((1, 3, 256, 256), ending)
    frame = as_batch(probe_frame(256, 256)[None])
    with open_engine(path, device="cpu") as one, open_engine(path, device="openvino") as other:
        assert one.info == other.info and one.notes == other.notes
        np.testing.assert_allclose(one.run(frame), other.run(frame), atol=1e-4)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no <net>"),
        (b"hello", "no <net>"),
        (b"<net", "no <net>"),
        (b"<?xml version='1.0'?><net name='x' version='11'></net>", "0 inputs"),
    ],
)
def test_damaged_files_are_told_in_one_line(
    tmp_path: Path, data: bytes, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.xml"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=told) as caught:
        open_engine(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_damaged_onnx(foreign: Callable[..., Path]) -> None:
    path = foreign()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match="cannot be loaded as an ONNX model"):
        OpenVinoEngine(path)


def test_gpus_are_refused(foreign: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text("<net/>")
    with pytest.raises(UsageError, match="leave --device cuda out"):
        open_engine(tmp_path / "x.xml", device="cuda")
    with pytest.raises(ModelError, match="no such file"):
        OpenVinoEngine(tmp_path / "y.xml")
