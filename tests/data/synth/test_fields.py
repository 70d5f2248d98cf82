from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irdet.data.synth.canvas import Layer, compose, merge, openness
from irdet.data.synth.fields import billow, blur, fractal, profile, warp


def power_slope(field: np.ndarray) -> float:
    """Exponent of the radially averaged power spectrum, fitted between 3 and a quarter of the frequencies."""
    side = min(field.shape)
    field = field[:side, :side].astype(np.float64)
    window = np.hanning(side)[:, None] * np.hanning(side)[None, :]
    power = np.abs(np.fft.fftshift(np.fft.fft2((field - field.mean()) * window))) ** 2
    y, x = np.indices(power.shape) - side // 2
    radius = np.hypot(x, y).astype(int)
    mean = np.bincount(radius.ravel(), power.ravel()) / np.bincount(radius.ravel())
    k = np.arange(3, side // 4)
    return float(np.polyfit(np.log(k), np.log(mean[k] + 1e-12), 1)[0])


@given(seed=st.integers(0, 2**32), slope=st.floats(2.0, 3.5))
def test_fractal_has_the_spectrum_asked_for(seed: int, slope: float) -> None:
    field = fractal(np.random.default_rng(seed), (128, 128), slope)
    assert field.dtype == np.float32
    assert field.mean() == pytest.approx(0, abs=1e-4)
    assert field.std() == pytest.approx(1, abs=1e-3)
    assert power_slope(field) == pytest.approx(-slope, abs=0.6)


def test_fractal_is_longer_along_its_stretch() -> None:
    field = fractal(np.random.default_rng(0), (128, 128), 3.0, 64, stretch=8.0)
    assert np.diff(field, axis=0).std() > 2 * np.diff(field, axis=1).std()
    upright = fractal(np.random.default_rng(0), (128, 128), 3.0, 64, stretch=8.0, angle=np.pi / 2)
    assert np.diff(upright, axis=1).std() > 2 * np.diff(upright, axis=0).std()


def test_smallest_wavelength_smooths() -> None:
    rough, smooth = (fractal(np.random.default_rng(0), (96, 96), 2.0, smallest=s) for s in (0.0, 12.0))
    assert np.diff(smooth).std() < 0.5 * np.diff(rough).std()


@given(sigma=st.floats(0.5, 30.0))
def test_blur_keeps_the_mean_and_lowers_the_contrast(sigma: float) -> None:
    field = fractal(np.random.default_rng(1), (90, 130), 1.0)
    smooth = blur(field, sigma)
    assert smooth.shape == field.shape and smooth.dtype == np.float32
    assert smooth.std() < field.std()
    assert smooth.mean() == pytest.approx(field.mean(), abs=0.1)


def test_wide_blur_is_that_of_the_plain_filter() -> None:
    field = fractal(np.random.default_rng(2), (128, 160), 2.0)
    import cv2

    plain = cv2.GaussianBlur(field, (0, 0), 20.0, borderType=cv2.BORDER_REFLECT)
    assert np.abs(blur(field, 20.0) - plain).max() < 0.1 * field.std()


def test_warp_fetches_from_the_displaced_place() -> None:
    field = fractal(np.random.default_rng(3), (40, 50), 3.0)
    np.testing.assert_allclose(warp(field, 5.0, -3.0)[10:30, 10:40], field[7:27, 15:45], atol=1e-5)


def test_billow_and_profile_ranges() -> None:
    heaps = billow(np.random.default_rng(4), (60, 70), 20.0)
    assert heaps.min() == 0 and heaps.max() == 1
    assert profile(np.random.default_rng(4), 77, 2.0, 30.0).shape == (77,)


def test_merged_layers_compose_like_the_layers() -> None:
    rng = np.random.default_rng(5)

    def layer() -> Layer:
        return Layer(rng.random((8, 9), np.float32), rng.uniform(0.1, 1.0, (8, 9)).astype(np.float32))

    back, one, two = Layer(rng.random((8, 9), np.float32)), layer(), layer()
    np.testing.assert_allclose(compose((back, merge([one, two]))), compose((back, one, two)), atol=1e-6)


def test_openness_ends_where_land_begins() -> None:
    cover = np.array([[0.0, 0.25, 1.0]], np.float32)
    sky, land = Layer(np.zeros((1, 3), np.float32)), Layer(np.ones((1, 3), np.float32), cover, open=False)
    assert openness((sky, land)).tolist() == [[1.0, 0.75, 0.0]]
    assert openness((Layer(sky.radiance, None, open=False),)).tolist() == [[0.0, 0.0, 0.0]]
