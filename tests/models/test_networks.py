"""One contract for every network, and the figures that each promises."""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from irdet.core.errors import UsageError
from irdet.engines.probe import as_batch, probe_frame
from irdet.models import MODELS, create_model
from irdet.models.cost import cost, flop, receptive_field
from irdet.models.mlcl import Hysteresis, Network, conv


@pytest.fixture(scope="module", params=list(MODELS))
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    return create_model(request.param).eval()


@pytest.fixture(scope="module")
def edge() -> Network:
    torch.manual_seed(0)
    return create_model("mlcl-edge").eval()


def frames(count: int, height: int, width: int) -> Tensor:
    return torch.from_numpy(as_batch(np.stack([probe_frame(height, width, seed) for seed in range(count)])))


@pytest.mark.parametrize("factors", [(1, 1), (3, 5), (4, 2)])
def test_a_logit_per_pixel(network: Network, factors: tuple[int, int]) -> None:
    height, width = (factor * network.stride for factor in factors)
    with torch.inference_mode():
        logits = network(frames(2, height, width))
    assert logits.shape == (2, 1, height, width) and logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


def test_stride_is_the_least_that_works(network: Network) -> None:
    for side in range(1, 2 * network.stride + 1):
        frame = torch.zeros(1, 1, side, 2 * network.stride)
        if side % network.stride == 0:
            assert network(frame).shape == frame.shape
        else:
            with pytest.raises(RuntimeError):
                network(frame)


def test_every_parameter_learns(network: Network) -> None:
    learner = copy.deepcopy(network).train()
    learner(frames(2, 48, 64)).square().mean().backward()
    silent = [name for name, p in learner.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # A bias before batch normalisation is taken out again by it, so its gradient is rounding noise or zero.
    assert [name for name in silent if not name.endswith("bias")] == []


def test_evaluation_is_repeatable_and_changes_nothing(network: Network) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = frames(1, 48, 64)
    with torch.inference_mode():
        assert torch.equal(network(x), network(x))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_same_seed_same_weights() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(torch.cat([p.flatten() for p in create_model("mlcl-edge").parameters()]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_edge_moves_with_the_frame(edge: Network) -> None:
    step = edge.stride
    rim = step * -(-receptive_field(edge) // (2 * step))  # beyond it no output pixel sees the padding at the sides
    width = 2 * rim + 6 * step
    with torch.inference_mode():
        wide = frames(1, 2 * step, width + step)
        left, right = edge(wide[..., :width]), edge(wide[..., step:])
    inner = left[..., step + rim : width - rim]
    assert inner.shape[-1] > 50
    torch.testing.assert_close(inner, right[..., rim : width - rim - step], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters", "gmac"), [("mlcl-base", 656_961, 27.97), ("mlcl-small", 559_521, 24.35)]
)
def test_the_authors_figures(name: str, parameters: int, gmac: float) -> None:
    module = create_model(name)
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert flop(module, 512, 512) / 2e9 == pytest.approx(gmac, abs=0.01)
    # With their three input channels: 2 x 16 kernels of 3x3 more.
    three = 2 * 16 * 9
    assert parameters + three == {"mlcl-base": 657_249, "mlcl-small": 559_809}[name]
    assert gmac + three * 512 * 512 / 1e9 == pytest.approx({"mlcl-base": 28.0, "mlcl-small": 24.4}[name], abs=0.05)


def test_edge_keeps_its_budget(edge: Network) -> None:
    figures = cost(edge, 512, 512)
    assert figures.parameters < 600_000
    assert figures.gflop <= 5
    widths = [layer.out_channels for layer in edge.modules() if isinstance(layer, nn.Conv2d)]
    assert widths[-1] == 4, "one logit for each pixel of a 2x2 block"
    assert all(width % 8 == 0 for width in widths[:-1] if width > 1)


def test_edge_sees_what_it_says(edge: Network) -> None:
    """A pixel beyond the receptive field changes nothing; the measure is not too small."""
    field = receptive_field(edge)
    step = edge.stride
    width = step * (3 * field // step)
    x = frames(1, step, width)
    middle = width // 2
    changed = x.clone()
    changed[..., middle + field :] = 1 - changed[..., middle + field :]
    with torch.inference_mode():
        one, other = edge(x), edge(changed)
    assert torch.equal(one[..., : middle + 1], other[..., : middle + 1])
    assert not torch.equal(one, other)


class Plain(Network):
    def __init__(self, *layers: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(x))


@pytest.mark.parametrize(
    ("module", "field"),
    [
        (Plain(conv(1, 4), nn.ReLU(), conv(4, 1)), 5),
        (Plain(conv(1, 2, 5), nn.BatchNorm2d(2), nn.ReLU(), conv(2, 1, dilation=5)), 15),
        (Plain(conv(1, 1, 1)), 1),
        (Plain(conv(1, 1), nn.MaxPool2d(2), conv(1, 1), nn.Upsample(scale_factor=2), stride=2), 8),
        (Plain(conv(1, 4), Hysteresis(strong=0.1, reach=2)), 7),
        (Plain(*(conv(1, 1, dilation=30) for _ in range(6))), 361),
    ],
)
def test_receptive_field_of_known_networks(module: Network, field: int) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert receptive_field(module) == field
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_flop_of_a_known_network() -> None:
    module = Plain(conv(1, 4, bias=True), nn.ReLU(), conv(4, 2, stride=2))
    assert flop(module, 16, 32) == 2 * (16 * 32 * 4 * 9 + 8 * 16 * 2 * 4 * 9)


def test_cost_wants_the_stride(edge: Network) -> None:
    with pytest.raises(UsageError, match="100x64 is not a multiple of the network's stride 16"):
        cost(edge, 64, 100)


def blob(peak: float, side: int = 64) -> Tensor:
    """A map of 2x2 cells in which one smooth blob rises from -8 to a logit."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    full = -8 + (peak + 8) * torch.exp(-((y - 31) ** 2 + (x - 33) ** 2) / 18.0)
    return nn.functional.pixel_unshuffle(full[None, None], 2)


def test_what_is_sure_keeps_its_mask_and_what_is_only_likely_goes_as_a_whole() -> None:
    hysteresis = Hysteresis(strong=0.8).eval()
    sure, likely = blob(1.4), blob(0.9)  # probabilities of 0.80 and 0.71
    assert torch.equal(hysteresis(sure) >= 0, sure >= 0)
    assert (likely >= 0).sum() > 4
    assert not (hysteresis(likely) >= 0).any()


def test_a_lower_threshold_still_finds_what_is_only_likely() -> None:
    peaks = [Hysteresis().eval()(blob(peak)).max().item() for peak in (-2.0, -1.0, 0.0, 0.5, 1.0, 1.3, 1.5)]
    assert peaks == sorted(set(peaks)), "the order of the blobs stays"


def test_hysteresis_reaches_as_far_as_it_says_and_not_into_training() -> None:
    logits = torch.full((1, 4, 16, 16), 0.5)
    logits[0, 2, 8, 8] = 3.0
    hysteresis = Hysteresis(reach=2)
    assert torch.equal(hysteresis.train()(logits), logits)
    stands = (hysteresis.eval()(logits) >= 0).all(dim=1)[0]
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[6:11, 6:11] = True
    assert torch.equal(stands, expected)
