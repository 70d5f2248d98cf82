"""ALCNet's patch contrast by hand, its parameters counted, and its way out to ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irdet.models import create_model
from irdet.models.alcnet import BottomUpFusion, PatchContrast
from irdet.models.cost import receptive_field


def contrast_by_loops(x: np.ndarray, shift: int) -> np.ndarray:
    """The definition, pixel by pixel; beyond the border lies the border."""
    height, width = x.shape
    out = np.empty_like(x)

    def at(row: int, column: int) -> float:
        return float(x[min(max(row, 0), height - 1), min(max(column, 0), width - 1)])

    # B1 to B8 of the authors' code, once around; B(i + 4) lies opposite to B(i).
    around = [(1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1)]
    for row in range(height):
        for column in range(width):
            d = [at(row + shift * down, column + shift * right) - at(row, column) for down, right in around]
            out[row, column] = min(d[i] * d[i + 4] for i in range(4))
    return out


@pytest.mark.parametrize("shape", [(40, 44), (12, 50), (3, 1)])
def test_patch_contrast_is_its_definition(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, *shape))
    wanted = np.array(
        [[np.maximum(*(contrast_by_loops(c, shift) for shift in (13, 17))) for c in frame] for frame in x]
    )
    np.testing.assert_allclose(PatchContrast()(torch.from_numpy(x)).numpy(), wanted, rtol=0, atol=1e-12)


def test_patch_contrast_of_a_spot_by_hand() -> None:
    x = torch.full((1, 1, 7, 7), 0.25)
    x[..., 3, 3] = 0.75
    x[..., 3, 6] = 0.5  # to the right, three away
    # Differences of the centre at distance 3: -0.25 to the right, -0.5 to the seven others. The pair left-right gives
    # 0.5 * 0.25 = 0.125, the three others 0.25: the smallest is 0.125.
    assert PatchContrast((3,))(x)[0, 0, 3, 3].item() == 0.125
    # Dark on bright, the products have the same signs: ALCNet's measure, unlike MPCM's, finds both.
    assert PatchContrast((3,))(1 - x)[0, 0, 3, 3].item() == 0.125


def test_a_border_makes_no_contrast() -> None:
    """Cyclic shifts compare the left border of a ramp with the right one; the border's own values do not."""
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    assert PatchContrast()(ramp).max() <= 0
    cyclic = torch.roll(ramp, 13, 3) - ramp, torch.roll(ramp, -13, 3) - ramp
    assert (cyclic[0] * cyclic[1]).max() > 0.1


def test_before_training_little_counts_as_target() -> None:
    """From 50 % everywhere it learnt nothing in a thousand steps."""
    torch.manual_seed(0)
    network = create_model("alcnet")
    assert 0.01 < torch.sigmoid(network(torch.rand(2, 1, 64, 64))).mean() < 0.05


def test_fusion_is_its_formula() -> None:
    torch.manual_seed(0)
    fusion = BottomUpFusion(4)
    low, high = torch.randn(2, 4, 6, 8), 3 + torch.randn(2, 4, 6, 8)
    fusion(high, low)
    fusion.eval()
    low_normed, high_normed = fusion.norm_low(low), fusion.norm_high(high)
    inner = torch.relu(fusion.attention[1](fusion.attention[0](low_normed)))
    weight = torch.sigmoid(fusion.attention[4](fusion.attention[3](inner)))
    torch.testing.assert_close(fusion(high, low), weight * high_normed + low_normed)


def test_parameters_by_hand() -> None:
    def block(width: int) -> int:  # two 3x3 convolutions without bias, two batch normalisations
        return 2 * 9 * width * width + 2 * 2 * width

    def first(inputs: int, width: int) -> int:  # and a projection with its own
        return 9 * inputs * width + 9 * width * width + inputs * width + 3 * 2 * width

    stem = 9 * 16 + 2 * 16
    stages = 4 * block(16) + first(16, 32) + 3 * block(32) + first(32, 64) + 3 * block(64)
    laterals = (32 * 16 + 2 * 16) + (64 * 16 + 2 * 16)
    fusions = 2 * (2 * 2 * 16 + 2 * (16 * 16 + 16 + 2 * 16))
    head = 9 * 16 * 4 + 2 * 4 + 4 + 1
    total = stem + stages + laterals + fusions + head
    assert total == 372_285
    assert sum(p.numel() for p in create_model("alcnet").parameters()) == total


def test_receptive_field_by_hand() -> None:
    """The coarsest level: 8 convolutions of 3x3 per stage, the projection of two strides, 17 px of contrast."""
    # In input pixels to either side: stem 1; stage 1: 8; stage 2: its first convolution is at full size (1), seven
    # at half size (14); stage 3: 2 and seven of 4 (28); contrast 17 * 4 = 68. Sum 122. Then two bilinear steps, which
    # take their next pixel from up to 4 and 2 px away, and the head 1: 129 at most.
    assert 2 * 122 + 1 <= receptive_field(create_model("alcnet")) <= 2 * 129 + 1
