"""Where a network's threshold lies: in its last bias, so that 0.5 is it everywhere."""

from __future__ import annotations

import math

import torch
from torch import nn

from irdet.core.errors import ModelError
from irdet.models.mlcl import Hysteresis


def shift_threshold(network: nn.Module, threshold: float) -> None:
    """Moves the last bias so that probability 0.5 is where `threshold` was.

    p >= t means logit(p) >= logit(t), so logit(t) is taken off every logit, and off what a `Hysteresis` behind it holds
    them to. The order of the probabilities, and with it every curve over thresholds, stays.

    Args:
        network: Ends with `head[-1]`, a convolution with a bias that gives nothing but logits (one channel, or the
            pixels of a block side by side before a pixel shuffle); changed in place.
        threshold: Probability in (0, 1).

    Raises:
        ModelError: The network does not end so.
    """
    head = getattr(network, "head", None)
    last = head[-1] if isinstance(head, nn.Sequential) else None
    if not isinstance(last, nn.Conv2d) or last.bias is None:
        raise ModelError("the network does not end with a convolution with a bias, so its threshold cannot be moved")
    shift = math.log(threshold / (1 - threshold))
    with torch.no_grad():
        last.bias -= shift
    for layer in network.modules():
        if isinstance(layer, Hysteresis):
            layer.strong -= shift
