"""ALCNet: attentional local contrast networks.

Source: Dai, Wu, Zhou & Barnard, "Attentional Local Contrast Networks for Infrared Small Target Detection", IEEE TGRS
59 (2021), and the authors' code (MXNet), whose layers these are, in the form of their released weights: 4 blocks per
stage, bottom-up local attention.

Other than there:

- One grey channel in, where the authors feed three.
- Patches beyond the border take the border's values. The authors shift cyclically, so that the left border is
  compared with the right one: contrast that is not in the scene.
- Before training the head says 2 % everywhere (Lin et al., Focal loss for dense object detection, ICCV 2017, section
  4.1), not 50 %: from there a thousand steps moved every pixel alike, and no target stood out.
"""

from __future__ import annotations

from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irdet.models.mlcl import WIDTHS, Network, conv

#: What the head says everywhere before it has learnt anything: ln(0.02 / 0.98).
PRIOR_LOGIT = -3.9

#: One of each pair of opposite neighbours: (down, right).
OPPOSITES = ((-1, -1), (-1, 0), (-1, 1), (0, 1))


class BasicBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus identity, then ReLU; strided by a convolution, not by pooling (He et al. 2016).

    Args:
        inputs: Channels in.
        width: Channels out; where they are more, the block halves the frame and the skip path projects it.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        stride = 1 if inputs == width else 2
        self.main = nn.Sequential(
            conv(inputs, width, stride=stride, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            conv(width, width, bias=False),
            nn.BatchNorm2d(width),
        )
        self.skip: nn.Module = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(conv(inputs, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, width, H, W], or half of H and W, rounded up."""
        return torch.relu(self.main(x) + self.skip(x))


class PatchContrast(nn.Module):
    """Multiscale patch contrast without parameters: MPCM of Wei et al. (2016) between single features.

    With B_i the feature so many pixels away in the i-th of eight directions, and B_(i+4) the opposite one: the
    smallest over the four pairs of (B_i - B) (B_(i+4) - B), the largest of these over the shifts. It is positive where
    a feature stands out on all sides, above its surroundings or below them.

    Args:
        shifts: Distances, px of the level.
    """

    def __init__(self, shifts: tuple[int, ...] = (13, 17)) -> None:
        super().__init__()
        self.shifts = shifts

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return reduce(torch.maximum, (self._contrast(x, shift) for shift in self.shifts))

    @staticmethod
    def _contrast(x: Tensor, shift: int) -> Tensor:
        wide = F.pad(x, (shift,) * 4, mode="replicate")

        def difference(down: int, right: int) -> Tensor:
            # The ends count from behind: a graph of free size need not compute them.
            rows, columns = (slice(shift * (1 + step), shift * (step - 1) or None) for step in (down, right))
            return wide[..., rows, columns] - x

        pairs = (difference(y, x) * difference(-y, -x) for y, x in OPPOSITES)
        return reduce(torch.minimum, pairs)


class BottomUpFusion(nn.Module):
    """Bottom-up local attention: what the finer level sees decides where the coarser one counts.

    Args:
        width: Channels of both levels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_high, self.norm_low = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.attention = nn.Sequential(
            conv(width, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            conv(width, width, 1),
            nn.BatchNorm2d(width),
            nn.Sigmoid(),
        )

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """Fuses the coarser level, brought to the finer one's size, and the finer one; all [N, width, H, W]."""
        low = self.norm_low(low)
        # In place, since that does not broadcast: levels of a frame that is no multiple of the stride do not fit.
        return low.clone().add_(self.attention(low) * self.norm_high(high))


class ALCNet(Network):
    """Stem, three levels of residual blocks at 1, 1/2 and 1/4, patch contrast at each, fused from the coarsest on.

    Args:
        blocks: Residual blocks per level.
    """

    stride = 4

    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        fine, *coarser = WIDTHS
        self.stem = nn.Sequential(
            nn.BatchNorm2d(1, affine=False), conv(1, fine, bias=False), nn.BatchNorm2d(fine), nn.ReLU()
        )
        self.stages = nn.ModuleList(
            nn.Sequential(BasicBlock(inputs, width), *(BasicBlock(width, width) for _ in range(blocks - 1)))
            for inputs, width in zip((fine, *WIDTHS), WIDTHS, strict=False)
        )
        self.contrast = PatchContrast()
        # The finest level has the pyramid's width as it is.
        self.laterals = nn.ModuleList(
            nn.Sequential(conv(width, fine, 1, bias=False), nn.BatchNorm2d(fine), nn.ReLU()) for width in coarser
        )
        self.fusions = nn.ModuleList(BottomUpFusion(fine) for _ in coarser)
        self.head = nn.Sequential(
            conv(fine, fine // 4, bias=False),
            nn.BatchNorm2d(fine // 4),
            nn.ReLU(),
            nn.Dropout(0.1),
            last := conv(fine // 4, 1, 1),
        )
        nn.init.constant_(cast(Tensor, last.bias), PRIOR_LOGIT)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, 1, H, W] in [0, 1] -> logits [N, 1, H, W]; H and W are multiples of 4."""
        x = self.stem(x)
        levels = []
        for stage, lateral in zip(self.stages, (nn.Identity(), *self.laterals), strict=True):
            x = stage(x)
            levels.append(lateral(self.contrast(x)))
        fused = levels.pop()
        for fusion in self.fusions:
            fused = F.interpolate(fused, scale_factor=2.0, mode="bilinear", align_corners=True)
            fused = fusion(fused, levels.pop())
        return cast(Tensor, self.head(fused))
