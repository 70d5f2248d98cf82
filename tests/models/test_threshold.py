"""A threshold that lies in the last bias: 0.5 is where it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from irdet.core.errors import ModelError
from irdet.models.mlcl import Hysteresis
from irdet.models.threshold import shift_threshold


class Tiny(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head


@given(threshold=st.floats(0.001, 0.999), logit=st.floats(-20, 20))
def test_half_is_where_the_threshold_was(threshold: float, logit: float) -> None:
    last = nn.Conv2d(1, 1, 1).double()
    network = Tiny(nn.Sequential(last))
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(logit)  # type: ignore[union-attr]
    shift_threshold(network, threshold)
    moved = torch.sigmoid(last(torch.zeros(1, 1, 1, 1).double())).item()
    before = torch.sigmoid(torch.tensor(logit).double()).item()
    if abs(before - threshold) > 1e-9:
        assert (moved >= 0.5) == (before >= threshold)


@given(threshold=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_half_is_where_it_was_behind_a_hysteresis_too(threshold: float, seed: int) -> None:
    logits = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    before = torch.sigmoid(Hysteresis().eval()(logits))
    network = Tiny(nn.Sequential(nn.Conv2d(4, 4, 1).double()))
    network.hysteresis = Hysteresis().eval()
    last = network.head[0]  # type: ignore[index]
    with torch.no_grad():
        last.weight.copy_(torch.eye(4)[:, :, None, None])
        last.bias.zero_()
    shift_threshold(network, threshold)
    moved = torch.sigmoid(network.hysteresis(last(logits)))
    clear = (before - threshold).abs() > 1e-9
    assert torch.equal((moved >= 0.5)[clear], (before >= threshold)[clear])


def test_networks_without_a_last_bias_are_refused() -> None:
    for head in (nn.Sequential(nn.ReLU()), nn.Conv2d(1, 1, 1), nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))):
        with pytest.raises(ModelError, match="threshold cannot be moved"):
            shift_threshold(Tiny(head), 0.4)
