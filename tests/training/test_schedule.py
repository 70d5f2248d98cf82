"""Learning rate and averaged weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from irdet.training.schedule import Average, rate_at


@pytest.mark.parametrize(("total", "warmup"), [(1000, 100), (50, 200), (1, 10), (7, 0)])
@pytest.mark.parametrize("final", [0.01, 0.5])
def test_rate_rises_then_falls(total: int, warmup: int, final: float) -> None:
    rates = [rate_at(step, total, warmup, final) for step in range(total)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(1.0) and min(rates) > 0
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert top <= total // 10 + 1
    assert rate_at(total, total, warmup, final) == pytest.approx(final)


def test_average_follows_and_takes_statistics_along() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = Average(module, 0.9)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
        module[1].running_mean.fill_(4.0)  # type: ignore[union-attr, operator]
        module[1].num_batches_tracked.fill_(7)  # type: ignore[union-attr, operator]
    for step in range(1000, 1100):
        average.update(module, step)
    for mine in average.module.parameters():
        torch.testing.assert_close(mine, torch.ones_like(mine), atol=1e-3, rtol=0)
    state = average.module.state_dict()
    assert state["1.running_mean"].mean().item() == pytest.approx(4.0, abs=1e-2)
    assert state["1.num_batches_tracked"].item() == 7


def test_the_mean_goes_a_share_of_the_way_back() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = Average(module, 0.9)
    late = {key: value.clone() for key, value in average.module.state_dict().items()}
    other = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    other[1].running_var.fill_(9.0)  # type: ignore[union-attr, operator]
    other[1].num_batches_tracked.fill_(7)  # type: ignore[union-attr, operator]
    early = {key: value.clone() for key, value in other.state_dict().items()}
    average.mean_with(early, 0.25)
    for key, value in average.module.state_dict().items():
        expected = 0.75 * late[key] + 0.25 * early[key] if value.is_floating_point() else late[key]
        torch.testing.assert_close(value, expected)
    assert all(torch.equal(other.state_dict()[key], value) for key, value in early.items()), "the other is left alone"


def test_first_steps_forget_the_initial_weights() -> None:
    module = nn.Conv2d(1, 1, 1)
    average = Average(module, 0.999)
    with torch.no_grad():
        module.weight.fill_(5.0)
    for step in range(60):
        average.update(module, step)
    assert average.module.weight.item() == pytest.approx(5.0, abs=0.01)  # type: ignore[operator, union-attr]
