"""From a trained network to the network that is deployed: BatchNorm folded, threshold at 0.5, probabilities out."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from irdet.core.errors import ModelError
from irdet.models import LoadedModel
from irdet.models.threshold import shift_threshold


class Deployable(nn.Module):
    """A network whose output is the probability.

    Args:
        network: Gives logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        """float32 [N, 1, H, W] in [0, 1] -> probability [N, 1, H, W]."""
        return torch.sigmoid(self.network(frames))


class Affine(nn.Module):
    """A BatchNorm in evaluation mode, as what it computes: one factor and one summand per channel."""

    factor: Tensor
    summand: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        ones = torch.ones_like(norm.running_mean)
        weight, bias = (ones, 0 * ones) if norm.weight is None else (norm.weight, norm.bias)
        factor = weight * torch.rsqrt(norm.running_var + norm.eps)
        self.register_buffer("factor", factor.detach().view(-1, 1, 1))
        self.register_buffer("summand", (bias - norm.running_mean * factor).detach().view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return x * self.factor + self.summand


def deployable(model: LoadedModel) -> Deployable:
    """Returns a copy of a model as it is deployed; a pixel belongs to a target when its probability is at least 0.5.

    Raises:
        ModelError: A BatchNorm cannot be folded, or the network does not end with a convolution.
    """
    network = fold_batchnorm(model.module)
    shift_threshold(network, model.info.threshold)
    return Deployable(network).eval()


def fold_batchnorm(module: nn.Module) -> nn.Module:
    """Returns a copy in which every BatchNorm is part of the convolution before it (exact in evaluation mode).

    One that follows no convolution within an `nn.Sequential` becomes an `Affine`.

    Raises:
        ModelError: A BatchNorm is none over images.
    """
    module = copy.deepcopy(module).eval()
    for sequence in [m for m in module.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(sequence) - 1):
            first, second = sequence[i], sequence[i + 1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                sequence[i], sequence[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, Affine(child))
    if left := [name for name, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]:
        raise ModelError(f"the BatchNorm at {left[0]} is not one over images, so it cannot be folded")
    return module
