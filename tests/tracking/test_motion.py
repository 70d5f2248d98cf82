from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.tracking.motion import CameraMotion

rng = np.random.default_rng(0)
GROUND = cv2.GaussianBlur(rng.normal(size=(800, 900)).astype(np.float32), (0, 0), 2.0)
GROUND = np.asarray(0.5 + 0.1 * GROUND / GROUND.std(), np.float32)


def view(dx: float, dy: float, shape: tuple[int, int] = (256, 320), noise: float = 0.01) -> NDArray[np.float32]:
    """The ground, moved by so much in the image, with noise of its own."""
    matrix = np.array([[1, 0, 100 - dx], [0, 1, 100 - dy]], np.float64)
    picture = cv2.warpAffine(GROUND, matrix, shape[::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    return np.asarray(picture + rng.normal(0, noise, shape), np.float32)


@pytest.mark.parametrize("shift", [(0, 0), (0.4, -0.3), (3.2, 1.7), (-12.5, 7.25), (30, -20)])
def test_shifts(shift: tuple[float, float]) -> None:
    camera = CameraMotion()
    assert not camera(view(0, 0)).trusted
    motion = camera(view(*shift))
    assert motion.trusted and motion.likeness > 0.8
    assert (motion.dx, motion.dy) == pytest.approx(shift, abs=0.05)


def test_large_frames_are_reduced() -> None:
    camera = CameraMotion()
    camera(view(0, 0, (576, 640)))
    motion = camera(view(6.5, -3.5, (576, 640)))
    assert (motion.dx, motion.dy) == pytest.approx((6.5, -3.5), abs=0.15)


def test_a_bright_target_is_not_the_background() -> None:
    camera = CameraMotion()
    for index in range(4):
        picture = view(0, 0)
        picture[100:110, 40 + 15 * index : 50 + 15 * index] = 1.0
        motion = camera(picture)
    assert (motion.dx, motion.dy) == pytest.approx((0, 0), abs=0.05)


@pytest.mark.parametrize("target", [0.5, 0.7, 1.0])
def test_noise_is_not_trusted_even_with_a_target_in_it(target: float) -> None:
    camera = CameraMotion()
    for index in range(6):
        picture = rng.normal(0.5, 0.02, (60, 90)).astype(np.float32)
        picture[20:23, 10 + index : 13 + index] = target
        motion = camera(picture)
        assert (motion.dx, motion.dy, motion.trusted) == (0.0, 0.0, False)


@pytest.mark.parametrize("shape", [(120, 160), (20, 300), (3, 3)])
def test_frames_of_one_value_or_another_size(shape: tuple[int, int]) -> None:
    camera = CameraMotion()
    camera(view(0, 0))
    for _ in range(3):
        motion = camera(np.full(shape, 0.5, np.float32))
        assert (motion.dx, motion.dy) == pytest.approx((0, 0), abs=1e-3)
