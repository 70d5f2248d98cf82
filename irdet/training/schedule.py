"""Learning rate and averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn


def rate_at(step: int, total: int, warmup: int, final: float) -> float:
    """Returns the learning rate at a step, as a share of its peak: linear warm-up, then a cosine to a share `final`."""
    warmup = min(warmup, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


_Module = TypeVar("_Module", bound=nn.Module)


class Average(Generic[_Module]):
    """Exponential moving average of a network's weights (Polyak averaging), with its batch statistics.

    Args:
        module: The network to follow.
        decay: Share of the old average that is kept each step; smaller in the first steps, so that the random
            initial weights do not linger.
    """

    def __init__(self, module: _Module, decay: float) -> None:
        self.module: _Module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: _Module, step: int) -> None:
        """Takes in the weights after a step (counted from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        theirs = module.state_dict()
        self.mean_with(theirs, 1 - decay)
        for key, value in self.module.state_dict().items():
            if not value.is_floating_point():
                value.copy_(theirs[key])

    @torch.no_grad()
    def mean_with(self, other: Mapping[str, Tensor], share: float) -> None:
        """Moves the average towards other weights of the same network; counters stay.

        Towards earlier ones, part of the way back, a network that was trained on often regains what it gave away on
        scenes unlike those it was trained on, and keeps what it gained (WiSE-FT, Wortsman et al., CVPR 2022).

        Args:
            other: State of a network that this one descends from, or is, batch statistics included.
            share: How far to go, 0 to 1.
        """
        floats = {key: value for key, value in self.module.state_dict().items() if value.is_floating_point()}
        torch._foreach_lerp_(list(floats.values()), [other[key].to(value) for key, value in floats.items()], share)
