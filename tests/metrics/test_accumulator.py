from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.metrics.accumulator import Metrics, bootstrap


def scene(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A truth of a few squares, and a noisy map that finds most of them and some more."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((32, 40), bool)
    for _ in range(generator.integers(0, 4)):
        x, y = generator.integers(0, 30, 2)
        mask[y : y + 3, x : x + 2] = True
    noise = generator.random(mask.shape)
    return np.where(mask, 0.3 + 0.7 * noise, noise**9).astype(np.float32), mask


def test_hand_computed() -> None:
    metrics = Metrics()
    truth = np.zeros((10, 10), bool)
    truth[2:4, 2:4] = truth[7, 7] = True
    probability = np.zeros((10, 10), np.float32)
    probability[2:4, 2] = 0.5  # half of the first target, at the threshold itself
    probability[0, 9] = probability[0, 8] = 0.9  # two pixels of nothing
    probability[7, 7] = 0.49  # just not enough
    image = metrics.add(probability, truth, "one")
    metrics.add(np.zeros((10, 20), np.float32), np.zeros((10, 20), bool), "two")
    result = metrics.result()

    assert (image.tp, image.fp, image.fn, image.pixels) == (2, 2, 3, 100)
    assert (image.matched, image.missed, image.false, image.false_pixels) == (1, 1, 1, 2)
    assert result.iou == 2 / 7
    assert result.niou == pytest.approx((2 / 7 + 0) / 2)
    assert result.pd == 1 / 2
    assert result.fa == pytest.approx(2 / 300 * 1e6)
    assert (result.precision, result.recall, result.f1) == (2 / 4, 2 / 5, pytest.approx(4 / 9))
    assert (result.images, result.targets, result.matched, result.false_targets) == (2, 2, 1, 1)
    assert result.false_per_frame == 0.5
    assert result.false_per_frame_upper == pytest.approx(4.744 / 2, abs=1e-3)
    assert result.false_per_hour(10)[0] == 18000
    assert [image.name for image in result.per_image] == ["one", "two"]


def test_target_free_frames() -> None:
    metrics = Metrics()
    for _ in range(48):
        metrics.add(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))
    result = metrics.result()
    assert (result.fa, result.false_targets, result.niou) == (0.0, 0, 0.0)
    assert result.false_per_frame_upper == pytest.approx(-math.log(0.05) / 48)
    figures = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (figures["pd"], figures["recall"], figures["precision"]) == (None, None, None)


def test_the_record_names_what_it_was_measured_at() -> None:
    figures = Metrics(0.4, "skip", 2.0, 4).result().to_dict()
    assert (figures["threshold"], figures["empty"], figures["distance"], figures["connectivity"]) == (0.4, "skip", 2, 4)
    assert figures["images"] == 0
    assert "per_image" not in figures


def test_a_float32_probability_equals_its_own_threshold() -> None:
    metrics = Metrics(threshold=0.7)  # float32(0.7) lies below 0.7
    image = metrics.add(np.full((1, 1), 0.7, np.float32), np.ones((1, 1), bool))
    assert image.tp == 1


@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(0, 6))
def test_merging_equals_adding_to_one(seed: int, first: int, second: int) -> None:
    whole, left, right = Metrics(), Metrics(), Metrics()
    for number in range(first + second):
        part = left if number < first else right
        for metrics in (whole, part):
            metrics.add(*scene(seed + number), str(number))
    left.merge(right)
    assert left.result().to_dict() == whole.result().to_dict()
    assert left.result().per_image == whole.result().per_image


def test_other_settings_do_not_merge() -> None:
    with pytest.raises(ValueError, match="different settings"):
        Metrics(0.5).merge(Metrics(0.4))


@given(st.integers(0, 10**6))
def test_order_of_images_does_not_matter(seed: int) -> None:
    forwards, backwards = Metrics(), Metrics()
    scenes = [scene(seed + number) for number in range(4)]
    for one, other in zip(scenes, reversed(scenes), strict=True):
        forwards.add(*one)
        backwards.add(*other)
    assert forwards.result().to_dict() == backwards.result().to_dict()


def test_shapes_must_agree() -> None:
    with pytest.raises(UsageError, match="does not fit"):
        Metrics().add(np.zeros((2, 3), np.float32), np.zeros((2, 4), bool))
    with pytest.raises(UsageError, match="policy 'none'"):
        Metrics(empty="none")  # type: ignore[arg-type]


def measured(count: int) -> Metrics:
    metrics = Metrics()
    for number in range(count):
        metrics.add(*scene(number))
    return metrics


def test_bootstrap_is_seeded_and_holds_the_estimate() -> None:
    result = measured(60).result()
    intervals = bootstrap(result)
    assert intervals == bootstrap(result, seed=0) != bootstrap(result, seed=1)
    for name, (low, high) in intervals.items():
        assert low < getattr(result, name) < high


def test_bootstrap_spread_is_the_standard_error_of_the_mean() -> None:
    result = measured(200).result()
    low, high = bootstrap(result)["niou"]
    ious = np.array([image.iou for image in result.per_image])
    assert high - low == pytest.approx(2 * 1.96 * ious.std() / math.sqrt(len(ious)), rel=0.1)


def test_bootstrap_narrows_with_more_images() -> None:
    few, many = (bootstrap(measured(count).result())["iou"] for count in (15, 150))
    assert many[1] - many[0] < few[1] - few[0]


def test_bootstrap_of_nothing() -> None:
    assert all(math.isnan(end) for ends in bootstrap(Metrics().result()).values() for end in ends)
