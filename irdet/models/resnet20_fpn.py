"""ResNet20 with a feature pyramid: what MLCL-Net is compared with in its paper.

Source: the baseline of Yu et al. (see `irdet.models.mlcl`); He et al., "Deep Residual Learning for Image Recognition",
CVPR 2016; Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from irdet.models.mlcl import BFPN, WIDTHS, Network, conv, stages, stem


class ResNet20FPN(Network):
    """`mlcl-base` without its local contrast: the same stem, the same three blocks per level, the same head.

    The levels go straight into a plain additive pyramid (linear 1x1 projections, bilinear upsampling), so that what
    `mlcl-base` does better is what its MLCL modules do.
    """

    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = stem()
        self.stages = stages(blocks=3)
        self.fpn = BFPN(WIDTHS, 64, align_corners=True, linear=True)
        self.head = nn.Sequential(conv(64, 64, 1), nn.ReLU(), conv(64, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, 1, H, W] in [0, 1] -> logits [N, 1, H, W]; H and W are multiples of 4."""
        x = self.stem(x)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return cast(Tensor, self.head(self.fpn(levels)))
