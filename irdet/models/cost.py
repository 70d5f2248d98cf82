"""What a network costs and sees: parameters, operations, receptive field. Measured on the network itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from irdet.core.errors import UsageError
from irdet.models.alcnet import PatchContrast
from irdet.models.mlcl import Hysteresis, Network

#: The receptive field is looked for in rows of this width first, then in wider ones (pixels).
_ROW = 256


@dataclass(frozen=True)
class Cost:
    """What a network costs for one frame of a size.

    Attributes:
        parameters: Trained numbers.
        height: Pixels.
        width: Pixels.
        gflop: Floating-point operations in 1e9, a multiplication with addition counted as 2; convolutions alone.
        receptive_field: Side of the square of input pixels that one output pixel depends on, px.
        stride: Height and width must be multiples of this.
    """

    parameters: int
    height: int
    width: int
    gflop: float
    receptive_field: int
    stride: int


def cost(module: Network, height: int = 512, width: int = 512) -> Cost:
    """Measures a network.

    Args:
        module: Maps [N, 1, H, W] to [N, 1, H, W]; it is not changed.
        height: Pixels, a multiple of the network's stride.
        width: Pixels, likewise.

    Raises:
        UsageError: The size is not a multiple of the stride.
    """
    stride = module.stride
    if height % stride or width % stride:
        raise UsageError(f"size {width}x{height} is not a multiple of the network's stride {stride}")
    return Cost(
        parameters=sum(p.numel() for p in module.parameters()),
        height=height,
        width=width,
        gflop=flop(module, height, width) / 1e9,
        receptive_field=receptive_field(module),
        stride=stride,
    )


def flop(module: Network, height: int, width: int) -> int:
    """Counts the operations of the convolutions for one frame (2 per multiply-accumulate).

    Nothing is computed: the network runs on torch's meta device, where tensors have shapes alone.
    """
    network = copy.deepcopy(module).eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.empty(1, 1, height, width, device="meta"))
    return int(counter.get_total_flops())


def receptive_field(module: Network) -> int:
    """Measures how wide a span of input pixels one output pixel depends on.

    In a copy of the network every weight is made positive, so that nothing cancels and every ReLU lets through, and
    maxima and contrasts become means, so that every pixel of their windows counts. The input pixels with a gradient
    are then those that the output pixel depends on. Pixels of one stride period see differently far; the largest span
    is returned.
    Kernels are square, so one row tells all.
    """
    network = _transparent(module)
    stride = module.stride
    width = _ROW
    while True:
        # One copy of the row for each output pixel of a stride period.
        rows = torch.ones(stride, 1, stride, width, dtype=torch.float64, requires_grad=True)
        first = width // 2 // stride * stride
        output = network(rows)
        (gradient,) = torch.autograd.grad(sum(output[i, 0, 0, first + i] for i in range(stride)), rows)
        seen = (gradient != 0).any(dim=2)[:, 0]
        span = max(int(row.nonzero().max() - row.nonzero().min()) + 1 for row in seen)
        if span <= width // 2:  # otherwise the ends of the row may have cut it off
            return span
        width *= 2


def _transparent(module: Network) -> nn.Module:
    network = copy.deepcopy(module).eval().double()
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
            elif isinstance(child, PatchContrast):
                reach = max(child.shifts)
                setattr(parent, name, nn.AvgPool2d(2 * reach + 1, 1, reach))
            elif isinstance(child, Hysteresis):
                child.strong = 1e9  # nothing is sure, so that the surest pixel around counts
            elif isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.fill_(1 / layer.weight[0].numel())  # a mean, so that values stay near 1
                if layer.bias is not None:
                    layer.bias.zero_()
    return network
