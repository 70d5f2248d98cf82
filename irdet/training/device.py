"""Where training computes."""

from __future__ import annotations

import torch

from irdet.core.errors import IrdetError, UsageError


def choose_device(device: str, threads: int | None = None) -> str:
    """Resolves `auto`, checks an explicit choice, and sets the number of CPU threads.

    Args:
        device: `"auto"` (CUDA where there is one), `"cpu"` or `"cuda"`.
        threads: CPU threads; torch's own choice where None.

    Returns:
        `"cpu"` or `"cuda"`.

    Raises:
        UsageError: No such device.
        IrdetError: CUDA was asked for and torch sees none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: must be auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise IrdetError("--device cuda: this torch sees no CUDA device (CPU build, or no driver); leave --device out")
    if threads is not None:
        torch.set_num_threads(threads)
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
