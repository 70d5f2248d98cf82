"""The loss against arithmetic done by hand, and the gradients that it must have."""

from __future__ import annotations

import math

import pytest
import torch

from irdet.training.losses import (
    ALARM_DISTANCE,
    ALARM_PIXELS,
    alarm_loss,
    detection_loss,
    hard_pixel_loss,
    near_targets,
    soft_iou_loss,
)
from irdet.training.recipe import Recipe


def test_soft_iou_by_hand() -> None:
    probability = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]], [[[0.25, 0.0], [0.0, 0.0]]]])
    truth = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    # Overlap 1; union 1.5 + 1 - 1 = 1.5 in the first crop, 0.25 in the second; 1 is added to both sides.
    assert soft_iou_loss(probability, truth, per_sample=False).item() == pytest.approx(1 - 2 / 2.75)
    # The second crop has no target and is left out.
    assert soft_iou_loss(probability, truth, per_sample=True).item() == pytest.approx(1 - 2 / 2.5)


def test_per_sample_loss_of_target_free_crops_is_zero_with_zero_gradient() -> None:
    probability = torch.rand(3, 1, 4, 4, requires_grad=True)
    loss = soft_iou_loss(probability, torch.zeros(3, 1, 4, 4), per_sample=True)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0 and probability.grad is not None and not probability.grad.any()


def test_batch_loss_sees_a_false_blob_on_a_target_free_crop() -> None:
    truth = torch.zeros(2, 1, 8, 8)
    truth[0, 0, 2:4, 2:4] = 1
    probability = truth.clone().requires_grad_()
    blob = torch.zeros_like(truth)
    blob[1, 0, 5:7, 5:7] = 0.9
    loss = soft_iou_loss(probability + blob, truth, per_sample=False)
    loss.backward()  # type: ignore[no-untyped-call]
    assert probability.grad is not None and (probability.grad[1] > 0).all()


@pytest.mark.parametrize("per_sample", [False, True])
def test_of_a_truth_between_0_and_1_the_loss_is_smallest_at_that_truth(per_sample: bool) -> None:
    truth = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(1)) * (torch.arange(6) > 2)
    at = soft_iou_loss(truth, truth, per_sample=per_sample).item()
    assert at == pytest.approx(0, abs=1e-6)
    for change in (0.9, 1.1):
        assert soft_iou_loss(truth * change, truth, per_sample=per_sample).item() > at + 0.01


def test_hard_pixels_are_the_worst_ones() -> None:
    logits = torch.full((1, 1, 10, 10), -10.0)
    logits[0, 0, 0, 0] = 3.0  # one confident false alarm among a hundred pixels
    loss = hard_pixel_loss(logits, torch.zeros(1, 1, 10, 10), 0.01)
    assert loss.item() == pytest.approx(3 + math.log1p(math.exp(-3)), abs=1e-5)


def test_alarms_are_the_brightest_pixels_far_from_targets() -> None:
    truth = torch.zeros(2, 1, 64, 64)
    truth[0, 0, 20, 20] = 1
    logits = torch.full_like(truth, -30.0)
    logits[0, 0, 20 - ALARM_DISTANCE : 20 + ALARM_DISTANCE + 1, 20] = 9.0  # the target, and the edge of its mask
    assert alarm_loss(logits, near_targets(truth)).item() < 1e-6
    logits[0, 0, 20, 20 + ALARM_DISTANCE + 1] = 3.0
    logits[1, 0, 0, :2] = 5.0
    three, five = (value + math.log1p(math.exp(-value)) for value in (3, 5))
    wanted = (three + 2 * five) / (2 * ALARM_PIXELS)
    assert alarm_loss(logits, near_targets(truth)).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("step", [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1)])
def test_a_pixel_is_an_alarm_from_one_step_beyond_the_distance_on(step: tuple[int, int]) -> None:
    truth = torch.zeros(1, 1, 40, 48)
    truth[0, 0, 19, 21] = 1
    for distance in range(ALARM_DISTANCE + 3):
        logits = torch.full_like(truth, -30.0)
        logits[0, 0, 19 + distance * step[0], 21 + distance * step[1]] = 9.0
        assert (alarm_loss(logits, near_targets(truth)).item() > 0.1) is (distance > ALARM_DISTANCE)


def test_a_crop_that_is_all_near_a_target_has_no_alarms() -> None:
    logits = torch.full((1, 1, 16, 16), 5.0, requires_grad=True)
    loss = alarm_loss(logits, near_targets(torch.ones(1, 1, 16, 16)))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()


def test_one_false_target_weighs_in_the_loss_of_a_recipe_that_minds() -> None:
    truth = torch.zeros(8, 1, 256, 256)
    truth[:4, :, 100:110, 100:110] = 1
    logits = (truth - 0.5) * 60
    logits[7, 0, 50:52, 50:52] = 5.0
    quiet, loud = (detection_loss(logits, truth, Recipe(alarm=weight)).item() for weight in (0.0, 0.5))
    assert quiet < 0.03 < loud - quiet


def test_detection_loss_is_small_only_when_right() -> None:
    truth = torch.zeros(2, 1, 16, 16)
    truth[:, :, 4:7, 4:7] = 1
    right = detection_loss((truth - 0.5) * 20, truth, Recipe())
    wrong = detection_loss((0.5 - truth) * 20, truth, Recipe())
    assert right.item() < 0.01 and wrong.item() > 1
    half = detection_loss(((truth - 0.5) * 20).half(), truth, Recipe())
    assert half.dtype == torch.float32 and torch.isfinite(half)
