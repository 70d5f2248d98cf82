"""The networks before MLCL-Net leave torch by the same door: opset 17, close to torch, nothing for the lint to say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from irdet.engines import open_engine
from irdet.engines.probe import as_batch, probe_frame
from irdet.export.limits import LIMITS
from irdet.export.lint import lint_model
from irdet.export.onnx import OnnxOptions, export_onnx
from irdet.models import LoadedModel
from irdet.runtime.detector import Detector

#: The networks' last layers are scaled so that pixels lie on both sides of the threshold; rounding is scaled with them.
CLOSE = 5e-5

NAMES = ("resnet20-fpn", "alcnet")


@pytest.mark.parametrize("name", NAMES)
def test_fixed_size(name: str, sharp_model: Callable[..., LoadedModel], tmp_path: Path) -> None:
    exported = export_onnx(sharp_model(name), tmp_path / "model.onnx", OnnxOptions((96, 72)))
    assert exported.info.opset == 17 and exported.warnings == ()
    assert exported.parity.targets and exported.parity.max_difference <= CLOSE
    for target in LIMITS:
        assert lint_model(exported.path, target) == ()


@pytest.mark.parametrize("name", NAMES)
def test_any_size(name: str, sharp_model: Callable[..., LoadedModel], tmp_path: Path) -> None:
    """Sizes that are no multiple of the stride are padded and cut back."""
    model = sharp_model(name)
    exported = export_onnx(model, tmp_path / "model.onnx", OnnxOptions(None))
    assert exported.parity.targets and exported.parity.max_difference <= CLOSE
    for target in LIMITS:
        assert lint_model(exported.path, target) == ()
    frame = probe_frame(61, 83)
    with open_engine(exported.path, device="cpu") as engine:
        found = Detector(engine).detect(frame).probability
    wide = np.pad(frame, [(0, -side % model.info.stride) for side in frame.shape], mode="reflect")
    with torch.inference_mode():
        wanted = torch.sigmoid(model.module(torch.from_numpy(as_batch(wide[None]))))[0, 0, :61, :83]
    np.testing.assert_allclose(found, wanted.numpy(), atol=CLOSE)
