"""Where training computes, and what it asks of the memory allocator."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from irdet.core.errors import UsageError
from irdet.training.device import choose_device, half_type

#: Counts page faults of allocating and freeing a large block a hundred times.
FAULTS = """
import resource, sys
import numpy as np
from irdet.training.device import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
np.ones(1 << 22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    np.ones(1 << 22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_not_asked_for_again() -> None:
    pytest.importorskip("resource")

    def faults(how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True).stdout)

    plain, kept = faults("plain"), faults("kept")
    if plain < 1000:
        pytest.skip("this C library keeps freed memory by itself")
    assert kept < plain / 10


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="must be auto, cpu or cuda"):
        choose_device("tpu")


@pytest.mark.parametrize(
    ("device", "able", "expected"),
    [
        ("cuda", {}, "float16"),
        ("cpu", {"amx_bf16": True}, "bfloat16"),
        ("cpu", {"amx_bf16": False, "avx512_bf16": True}, "bfloat16"),
        ("cpu", {"amx_bf16": False, "avx512_f": True}, None),
    ],
)
def test_convolutions_are_trained_in_half_only_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, device: str, able: dict[str, bool], expected: str | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert half_type(torch.device(device)) == (expected and getattr(torch, expected))


def test_a_torch_that_cannot_tell_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert half_type(torch.device("cpu")) is None
