"""Scenes are found, and parts keep them whole."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.data.scenes import FOLDS, folds, group_scenes, known_folds, known_scenes

LABELS = st.lists(st.integers(0, 30), min_size=8, max_size=80).filter(lambda labels: len(set(labels)) >= 4)


def _texture(seed: int, height: int = 300, width: int = 500) -> NDArray[np.uint8]:
    """Clouds: noise at several scales."""
    random = np.random.default_rng(seed)
    sheet = np.zeros((height, width), np.float32)
    for sigma in (3.0, 8.0, 20.0):
        layer = cv2.GaussianBlur(random.standard_normal((height, width)).astype(np.float32), (0, 0), sigma)
        sheet += layer / layer.std()
    return np.clip(120 + 20 * sheet, 0, 255).astype(np.uint8)


def _empty(images: list[NDArray[np.uint8]]) -> list[NDArray[np.bool_]]:
    return [np.zeros(image.shape, bool) for image in images]


def _far(count: int) -> list[str]:
    """Names whose numbers say nothing."""
    return [f"frame_{100 * index}" for index in range(count)]


def _pan(texture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Frames of a camera that pans, of different sizes; the first and the last share nothing."""
    return [texture[10 : 190 + 5 * step, 70 * step : 70 * step + 200] for step in range(4)]


def test_pan_is_one_scene_and_other_textures_are_others() -> None:
    first, second = _pan(_texture(1)), _pan(_texture(2))
    images = [image for pair in zip(first, second, strict=True) for image in pair]
    assert group_scenes(images, _empty(images), _far(8)) == (0, 1) * 4


def test_noise_and_gain_do_not_part_a_scene() -> None:
    random = np.random.default_rng(0)
    images = [
        np.clip(gain * image + level + random.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
        for image, gain, level in zip(_pan(_texture(3)), (1.0, 0.7, 0.5, 0.8), (0, 30, 60, 10), strict=True)
    ]
    assert group_scenes(images, _empty(images), _far(4)) == (0, 0, 0, 0)


def test_targets_do_not_speak_for_a_scene() -> None:
    images = [(0.05 * _texture(seed)[:200, :240] + 90).astype(np.uint8) for seed in (4, 5)]
    masks = _empty(images)
    for image, mask in zip(images, masks, strict=True):
        for x, y in ((60, 50), (150, 120), (200, 40), (90, 160)):
            cv2.circle(image, (x, y), 5, 255, -1)
            mask |= cv2.circle(np.zeros(mask.shape, np.uint8), (x, y), 5, 1, -1) > 0
    assert group_scenes(images, _empty(images), _far(2)) == (0, 0)
    assert group_scenes(images, masks, _far(2)) == (0, 1)


def test_horizons_alone_are_no_evidence() -> None:
    random = np.random.default_rng(6)
    images = []
    for row in (80, 120):
        image = np.full((200, 260), 60.0)
        image[row:] = 170
        images.append((image + random.normal(0, 2, image.shape)).astype(np.uint8))
    assert group_scenes(images, _empty(images), _far(2)) == (0, 1)
    # Frames that follow on each other show the same one.
    assert group_scenes(images, _empty(images), ["frame_7", "frame_8"]) == (0, 0)


def test_numbers_close_together_are_compared_at_other_magnifications() -> None:
    texture = _texture(7)[:220, :300]
    images = [texture, cv2.resize(texture, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)]
    for order in (images, images[::-1]):
        assert group_scenes(order, _empty(order), ["frame_3", "frame_7"]) == (0, 0)
        assert group_scenes(order, _empty(order), ["frame_3", "frame_70"]) == (0, 1)
        assert group_scenes(order, _empty(order), ["frame_3", "other_4"]) == (0, 1)


def test_flat_sky_is_kept_together_only_in_a_row() -> None:
    random = np.random.default_rng(8)
    images = [(level + random.normal(0, 1, (180, 240))).round().astype(np.uint8) for level in (50, 52, 51, 90)]
    assert group_scenes(images, _empty(images), ["a1", "a2", "a30", "a31"]) == (0, 0, 1, 2)


def test_progress_is_told_and_lengths_are_checked() -> None:
    told: list[tuple[int, int]] = []
    images = _pan(_texture(9))[:2]
    group_scenes(images, _empty(images), ["x", "y"], lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert group_scenes([], [], []) == ()
    with pytest.raises(UsageError, match="2 images, 2 masks, 1 names"):
        group_scenes(images, _empty(images), ["x"])


def test_known_scenes_are_those_of_sirst_alone() -> None:
    scenes = known_scenes(["Misc_420", "Misc_1", "Misc_208", "Misc_421"])
    assert scenes == (0, 1, 0, 0)
    assert known_scenes(["Misc_1", "Misc_5000"]) is None
    assert known_scenes(["about"]) is None
    assert known_scenes([]) is None


def test_folds_of_sirst_are_written_down_and_keep_scenes_whole() -> None:
    names = [f"Misc_{number}" for number in range(1, 428)]
    names = [name for name in names if known_scenes([name]) is not None]
    fold = known_folds(names)
    assert len(names) == 331 and fold is not None
    scenes = np.asarray(known_scenes(names))
    assert all(len(set(fold[scenes == scene])) == 1 for scene in set(scenes))
    assert np.bincount(fold).tolist() == [62, 68, 67, 67, 67] and len(set(fold)) == FOLDS
    assert known_folds(["Misc_1", "Misc_5000"]) is None and known_folds([]) is None


@settings(max_examples=12)
@given(LABELS, st.integers(0, 1000), st.integers(2, 4))
def test_folds_keep_scenes_whole(labels: list[int], seed: int, count: int) -> None:
    areas = np.random.default_rng(seed).integers(0, 200, len(labels))
    fold = folds(labels, count, seed, areas)
    assert set(fold) == set(range(count))
    for scene in set(labels):
        assert len(set(fold[np.asarray(labels) == scene])) == 1
    assert np.ptp(np.bincount(fold)) <= max(Counter(labels).values())
    assert np.array_equal(fold, folds(labels, count, seed, areas))


def test_parts_are_balanced_in_area_and_depend_on_the_seed() -> None:
    random = np.random.default_rng(11)
    scenes = [index // 2 for index in range(300)]
    areas = np.exp(random.normal(3, 1, 300))
    logs = np.log1p(areas)

    # Means of 100 drawn blindly differ by 0.12 from the rest's (one standard deviation).
    fold = folds(scenes, 3, 5, areas)
    assert np.ptp([logs[fold == index].mean() for index in range(3)]) < 0.05

    assert not np.array_equal(fold, folds(scenes, 3, 6, areas))


def test_impossible_parts_are_refused() -> None:
    with pytest.raises(UsageError, match="2 scenes cannot be parted into 3"):
        folds([0, 1, 1], 3, 0, [1, 2, 3])
    with pytest.raises(UsageError, match="1 folds"):
        folds([0, 1, 1], 1, 0, [1, 2, 3])
    with pytest.raises(UsageError, match="areas of shape"):
        folds([0, 1], 2, 0, [1, 2, 3])
