"""Where training computes."""

from __future__ import annotations

import ctypes
import sys

import torch

from irdet.core.errors import IrdetError, UsageError
from irdet.core.machine import read_machine

#: Parameters of glibc's mallopt(3): trim the heap's top above so many bytes (-1 is never), blocks mapped on their own.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4

#: What torch calls x86's instructions that multiply bfloat16: matrix units (AMX) and vectors.
_BFLOAT16 = ("amx_bf16", "avx512_bf16")


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
        torch.set_num_threads(min(threads, read_machine().cores))  # more wait for each other
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def half_type(device: torch.device) -> torch.dtype | None:
    """Returns the type that convolutions are trained in where that is faster than float32, the weights staying float32.

    Returns:
        float16 on CUDA; bfloat16 on a CPU that multiplies it by itself, where a step takes six tenths of the time
        (docs/training/cpu.md); None, for float32, anywhere else.
    """
    if device.type == "cuda":
        return torch.float16
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch cannot tell
        return None
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(able.get(name) for name in _BFLOAT16) else None


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory for the next step instead of giving it back to the system.

    The activations of a step are large blocks, which malloc otherwise maps and unmaps each time, and the system must
    fill every page with zeros again: half of a step's time on a CPU (docs/training/cpu.md). Does nothing elsewhere.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)
