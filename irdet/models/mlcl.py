"""MLCL-Net: multiscale local contrast learning networks for infrared small targets.

Source: Yu et al., "Infrared small target detection based on multiscale local contrast learning networks",
Infrared Physics & Technology 123 (2022), and the authors' PyTorch release, whose layer tables `mlcl-base` and
`mlcl-small` follow. `mlcl-edge` is irdet's own network in the same spirit for edge devices.

All networks map float32 [N, 1, H, W] in [0, 1] to logits [N, 1, H, W]; the probability is their sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Channels of the levels of the authors' backbone, the finest first.
WIDTHS = (16, 32, 64)


def conv(
    inputs: int, outputs: int, kernel: int = 3, *, dilation: int = 1, stride: int = 1, bias: bool = True
) -> nn.Conv2d:
    """A convolution with "same" padding."""
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=bias)


class ResidualBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus identity, then ReLU (He et al. 2016, basic block).

    With `down`, the main path halves the frame by max pooling and the skip path by a strided convolution.

    Args:
        inputs: Channels in.
        width: Channels out.
        down: Whether the block halves the frame, as the first one of levels 2 and 3 does.
        light: Pool before the first convolution, not after it (a quarter of its work), and leave out the biases that
            the batch normalisation behind them makes void. False is the authors' form.
    """

    def __init__(self, inputs: int, width: int, *, down: bool = False, light: bool = False) -> None:
        super().__init__()
        bias = not light
        pool = nn.MaxPool2d(2) if down else nn.Identity()
        self.main = nn.Sequential(
            *([pool] if light else []),
            conv(inputs, width, bias=bias),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *([] if light else [pool]),
            conv(width, width, bias=bias),
            nn.BatchNorm2d(width),
        )
        self.skip: nn.Module = (
            nn.Sequential(conv(inputs, width, stride=2, bias=bias), nn.BatchNorm2d(width), nn.ReLU())
            if down
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, width, H, W], or half of H and W with `down`."""
        return torch.relu(self.main(x) + self.skip(x))


class LCL(nn.Sequential):
    """Local contrast learning: one branch of MLCL.

    A first convolution gathers what a target of that size looks like, a dilated one compares it with its
    surroundings: the learned form of the local contrast measure (paper, section 2.2).
    """

    def __init__(self, width: int, inner: int, *, kernel: int, dilation: int, norm: bool) -> None:
        layers: list[nn.Module] = []
        for step in (
            conv(width, inner, kernel, bias=not norm),
            conv(inner, inner, 3, dilation=dilation, bias=not norm),
        ):
            layers += [step, *([nn.BatchNorm2d(inner)] if norm else []), nn.ReLU()]
        super().__init__(*layers)


class MLCL(nn.Module):
    """Multiscale local contrast learning: three LCL branches side by side, fused by a 1x1 convolution.

    Args:
        width: Channels in and out.
        light: Branches are half as wide as the level, which leaves 36 % of the work, and get batch normalisation,
            without which a network of this size trains slowly. Surroundings lie at 1, 2 and 3, not at 1, 3 and 5, and
            are gathered by 3x3, not 5x5: levels at a quarter of the resolution look four times as far as it is.
    """

    def __init__(self, width: int, *, light: bool = False) -> None:
        super().__init__()
        inner = width // 2 if light else width
        kernels, dilations = ((1, 3, 3), (1, 2, 3)) if light else ((1, 3, 5), (1, 3, 5))
        self.branches = nn.ModuleList(
            LCL(width, inner, kernel=kernel, dilation=dilation, norm=light)
            for kernel, dilation in zip(kernels, dilations, strict=True)
        )
        if light:
            # Stored with the weights: those of another reach have the same shapes, and must not be taken for these.
            self.register_buffer("dilations", torch.tensor(dilations))
        self.fuse = conv(3 * inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, H, W] -> the same shape; linear at the end, so contrast may be negative."""
        return cast(Tensor, self.fuse(torch.cat([branch(x) for branch in self.branches], dim=1)))


class BFPN(nn.Module):
    """Bilinear feature pyramid: top-down sums of 1x1-projected levels, upsampled bilinearly.

    Args:
        widths: Channels of the levels, the finest first.
        width: Channels of the pyramid.
        align_corners: True is the authors' corner rule. False is the half-pixel rule, which does not depend on the
            frame's size, so a padded or tiled frame gives the same answer, and which every runtime has fast code for.
        linear: Leave the ReLU behind the projections out: a plain feature pyramid (Lin et al. 2017).
    """

    def __init__(self, widths: Sequence[int], width: int, *, align_corners: bool, linear: bool = False) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Sequential(conv(w, width, 1), *([] if linear else [nn.ReLU()])) for w in widths
        )
        self.align_corners = align_corners

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Fuses levels [N, widths[i], H / 2^i, W / 2^i] to [N, width, H, W]."""
        fused = self.laterals[-1](levels[-1])
        for lateral, level in zip(reversed(list(self.laterals)[:-1]), reversed(levels[:-1]), strict=True):
            fused = lateral(level) + F.interpolate(
                fused, scale_factor=2.0, mode="bilinear", align_corners=self.align_corners
            )
        return cast(Tensor, fused)


def stage(inputs: int, width: int, blocks: int, *, down: bool, light: bool = False) -> nn.Sequential:
    """One level of the backbone: `blocks` residual blocks, the first one halving the frame with `down`."""
    return nn.Sequential(
        ResidualBlock(inputs, width, down=down, light=light),
        *(ResidualBlock(width, width, light=light) for _ in range(blocks - 1)),
    )


def stem() -> nn.Sequential:
    """What the authors' backbone begins with: two convolutions at full size, 16 channels."""
    return nn.Sequential(conv(1, 16), nn.BatchNorm2d(16), nn.ReLU(), conv(16, 16), nn.BatchNorm2d(16), nn.ReLU())


def stages(blocks: int) -> nn.ModuleList:
    """The three levels of the authors' backbone, `WIDTHS` channels at 1, 1/2 and 1/4 of the frame's size."""
    return nn.ModuleList(
        stage(inputs, width, blocks, down=level > 0)
        for level, (inputs, width) in enumerate(zip((16, *WIDTHS), WIDTHS, strict=False))
    )


class Network(nn.Module):
    """What every network of irdet is: float32 [N, 1, H, W] in [0, 1] in, logits [N, 1, H, W] out.

    Attributes:
        stride: H and W must be multiples of it.
    """

    stride: int


class Hysteresis(nn.Module):
    """Lets logits stand where a sure one is near, and lowers them where none is (after Canny 1986, two thresholds).

    A pixel at the edge of a target's mask is as uncertain as the brightest pixel of what only may be a target. The
    threshold is where masks are right, which is too low for the latter. So `slope` times what the surest pixel around
    falls short of `strong` is taken off: with 0.8 and 2 a component that nowhere reaches 0.72 goes below 0.5 as a
    whole, and one that reaches 0.8 keeps its mask. Lower thresholds still find it. In training it does nothing, since
    the loss would move the logits by as much.

    Attributes:
        strong: Logit from which on a pixel is sure.
        slope: How many times what is missing is taken off.
        reach: How far around is looked, in cells of the map.
    """

    def __init__(self, strong: float = 0.8, slope: float = 2.0, reach: int = 3) -> None:
        super().__init__()
        self.strong = math.log(strong / (1 - strong))
        self.slope = slope
        self.surest = nn.MaxPool2d(2 * reach + 1, stride=1, padding=reach)

    def forward(self, logits: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape; the C values are those of a cell's pixels."""
        if self.training:
            return logits
        top = reduce(torch.maximum, logits.split(1, dim=1))  # as a sequence of maxima half the time of one over an axis
        return logits - self.slope * torch.relu(self.strong - self.surest(top))


class MLCLNet(Network):
    """The authors' network: stem, three levels at 1, 1/2 and 1/4, MLCL at each, BFPN, 1x1 head.

    Args:
        blocks: Residual blocks per level: 3 is `mlcl-base`, 2 is `mlcl-small`.
    """

    stride = 4

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = stem()
        self.stages = stages(blocks)
        self.mlcl = nn.ModuleList(MLCL(width) for width in WIDTHS)
        self.bfpn = BFPN(WIDTHS, 64, align_corners=True)
        self.head = nn.Sequential(conv(64, 64, 1), nn.ReLU(), conv(64, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, 1, H, W] in [0, 1] -> logits [N, 1, H, W]; H and W are multiples of 4."""
        x = self.stem(x)
        levels = []
        for stage_, mlcl in zip(self.stages, self.mlcl, strict=True):
            x = stage_(x)
            levels.append(mlcl(x))
        return cast(Tensor, self.head(self.bfpn(levels)))


class MLCLEdge(Network):
    """irdet's network for the edge: MLCL-Net at a quarter of the resolution, between a stem and a head at half of it.

    Most of a convolution's time goes into its pixels, and most pixels are sky: the levels with local contrast stand at
    1/4, 1/8 and 1/16, where a convolution of twice the width costs no more and looks twice as far. A target of a few
    pixels survives that by two ways round: a 2x pixel-unshuffle puts each 2x2 block of pixels into channels, so that
    the stem sees every pixel, and its features go to the head directly, since mask edges decide IoU on targets of 20
    px. What BFPN fuses comes back to half size by a pixel shuffle, and so do the logits to full size: nothing is
    computed there but that. At the end a component of which no pixel is sure is dropped (`Hysteresis`).

    Args:
        fine: Channels at half size, in the stem and the head.
        widths: Channels of the three levels.
        blocks: Residual blocks per level.
        pyramid: Channels of BFPN.
    """

    stride = 16

    def __init__(
        self,
        fine: int = 16,
        widths: tuple[int, int, int] = (32, 64, 64),
        blocks: tuple[int, int, int] = (1, 2, 2),
        pyramid: int = 32,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(4, fine, bias=False), nn.BatchNorm2d(fine), nn.ReLU())
        self.stages = nn.ModuleList(
            stage(inputs, width, count, down=True, light=True)
            for inputs, width, count in zip((fine, *widths), widths, blocks, strict=False)
        )
        self.mlcl = nn.ModuleList(MLCL(width, light=True) for width in widths)
        self.bfpn = BFPN(widths, pyramid, align_corners=False)
        self.expand = conv(pyramid, 4 * fine, 1)
        self.head = nn.Sequential(conv(fine, fine), nn.ReLU(), conv(fine, 4, 1))
        self.hysteresis = Hysteresis()

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, 1, H, W] in [0, 1] -> logits [N, 1, H, W]; H and W are multiples of 16."""
        fine = self.stem(F.pixel_unshuffle(x, 2))
        x, levels = fine, []
        for stage_, mlcl in zip(self.stages, self.mlcl, strict=True):
            x = stage_(x)
            levels.append(mlcl(x))
        context = F.pixel_shuffle(self.expand(self.bfpn(levels)), 2)
        return F.pixel_shuffle(self.hysteresis(self.head(torch.relu(context + fine))), 2)
