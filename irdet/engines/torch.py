"""PyTorch: runs checkpoints as they are, without an export in between."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, ModelError
from irdet.core.extras import require
from irdet.engines.base import BaseEngine

if TYPE_CHECKING:
    from irdet.models import LoadedModel


class TorchEngine(BaseEngine):
    """Runs a network with PyTorch.

    Args:
        model: A checkpoint, the name of a shipped model, or a loaded model (which is copied, not changed).
        device: `"auto"`, `"cpu"` or `"cuda"`.
        threads: CPU threads. PyTorch has one number for the whole process, so this sets it for all engines.

    Raises:
        ModelError: The file does not hold a network of irdet's.
        IrdetError: The device cannot be used.
        MissingDependency: PyTorch is not installed.
    """

    max_batch: int | None = None

    def __init__(
        self, model: str | os.PathLike[str] | LoadedModel, device: str = "auto", threads: int | None = None
    ) -> None:
        torch = require("torch", "train", "running PyTorch checkpoints")
        # The one import that points up from this floor: only the models know what is in a checkpoint.
        from irdet.models import load_model

        if isinstance(model, (str, os.PathLike)):
            model = load_model(model)
        self._torch = torch
        where = _device(torch, device)
        if threads is not None:
            torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = False  # which is on by default: a model that says fp32 shall compute fp32
        network: Any = copy.deepcopy(model.module).eval()
        self._network = network.to(where, memory_format=torch.channels_last)
        self.device = where
        self.info = model.info
        self.runtime = f"torch {torch.__version__.partition('+')[0]} {where}"

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        torch = self._torch
        try:
            with torch.inference_mode():
                frames = torch.tensor(batch, device=self.device).contiguous(memory_format=torch.channels_last)
                probability = torch.sigmoid(self._network(frames)).contiguous()
        except RuntimeError as error:
            raise ModelError(f"{self.runtime} failed: {str(error).partition(chr(10))[0]}") from error
        output: NDArray[np.float32] = probability.float().cpu().numpy()
        return output

    def _release(self) -> None:
        del self._network


def _device(torch: Any, device: str) -> str:
    if device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        why = "is built for the CPU alone" if torch.version.cuda is None else "finds no usable GPU"
        raise IrdetError(f"device cuda: the installed torch {torch.__version__} {why}")
    return "cpu"
