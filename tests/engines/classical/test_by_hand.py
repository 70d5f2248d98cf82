"""Small cases of the methods' equations, with the arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from irdet.engines.classical.bilateral import Bilateral, edge_component
from irdet.engines.classical.flux import FluxDensity, _flux_density
from irdet.engines.classical.fourier import PhaseSpectrum
from irdet.engines.classical.ipi import IPI, _reassemble, _starts, decompose
from irdet.engines.classical.lcm import LCM
from irdet.engines.classical.mpcm import MPCM
from irdet.engines.classical.tophat import TopHat


def nine(centre: float, **around: float) -> np.ndarray:
    """A 9x9 frame of nine 3x3 cells: the central one, and those around it (by compass), 0.2 where not named."""
    cells = np.full((3, 3), 0.2, np.float32)
    places = {
        "nw": (0, 0),
        "n": (0, 1),
        "ne": (0, 2),
        "w": (1, 0),
        "e": (1, 2),
        "sw": (2, 0),
        "s": (2, 1),
        "se": (2, 2),
    }
    for name, value in around.items():
        cells[places[name]] = value
    cells[1, 1] = centre
    return np.kron(cells, np.ones((3, 3), np.float32)).astype(np.float32)


def test_tophat() -> None:
    frame = np.full((7, 7), 0.25, np.float32)
    frame[3, 3] = 0.75
    # The opening by a disc of 3 px removes the one bright pixel: 0.25 everywhere. 0.75 - 0.25 = 0.5 is left there.
    expected = np.zeros((7, 7), np.float32)
    expected[3, 3] = 0.5
    np.testing.assert_allclose(TopHat(3).respond(frame), expected, atol=1e-7)


def test_lcm() -> None:
    frame = nine(0.6, n=0.4)
    frame[4, 4] = 0.8
    # L = 0.8 * 255 = 204; the largest of the eight means is 0.4 * 255 = 102: C = 204^2 / 102 = 408.
    # Response 408 / (408 + 255) = 0.61538.
    assert LCM((3,)).respond(frame)[4, 4] == pytest.approx(408 / 663, abs=1e-5)
    # A second scale of one pixel: the eight neighbours are 0.6, C = 204^2 / 153 = 272, less than 408.
    assert LCM((1, 3)).respond(frame)[4, 4] == pytest.approx(408 / 663, abs=1e-5)
    # Black around: the mean counts as one count. L = 204, C = 204^2 / 1 = 41616.
    black = nine(0.0, **dict.fromkeys(("nw", "n", "ne", "w", "e", "sw", "s", "se"), 0.0))
    black[4, 4] = 0.8
    assert LCM((3,)).respond(black)[4, 4] == pytest.approx(41616 / (41616 + 255), abs=1e-5)


def test_mpcm() -> None:
    # Differences of the centre 0.6 to the cells: n 0.2, s 0.4, w 0.3, e 0.4, and 0.4 to the four at the corners.
    frame = nine(0.6, n=0.4, w=0.3)
    # n*s = 0.2 * 0.4 = 0.08; w*e = 0.3 * 0.4 = 0.12; both diagonals 0.16. The smallest is 0.08, its root 0.28284.
    assert MPCM((3,)).respond(frame)[4, 4] == pytest.approx(0.08**0.5, abs=1e-6)
    # One side as bright as the centre, as along an edge: one difference is 0, and so is the response.
    assert MPCM((3,)).respond(nine(0.6, w=0.6))[4, 4] == 0
    # Dark on all sides of bright: both differences negative, their product positive, and no bright target.
    assert MPCM((3,)).respond(nine(0.1))[4, 4] == 0


def test_flux_density() -> None:
    # A pyramid: brightness 0.5 - 0.1 * (Chebyshev distance), so every gradient of the girdle points inwards.
    y, x = np.mgrid[-5:6, -5:6]
    frame = (0.9 - 0.1 * np.maximum(np.abs(y), np.abs(x))).astype(np.float32)
    dx = np.gradient(frame, axis=1).astype(np.float32)
    dy = np.gradient(frame, axis=0).astype(np.float32)
    # Radius 2: 16 pixels. On a side between corners (3 each) the inward gradient is 0.1; at a corner (2, 2) dx is
    # (0.6 - 0.7) / 2 = -0.05 and so is dy: |dx| + |dy| = 0.1, inward 0.1. Next to a corner, at (2, 1), the side's
    # gradient is 0.1 and the other is 0. All 16 have inward flux 0.1, so without any four of them the mean is 0.1.
    assert _flux_density(dx, dy, 2)[5, 5] == pytest.approx(0.1, abs=1e-6)


def test_flux_of_a_point() -> None:
    frame = np.zeros((15, 15), np.float32)
    frame[7, 7] = 0.8
    # Radius 1: the four pixels beside it have gradients of 0.4 and are left out, the corners have none: 0.
    # Radius 2 and on: no gradient. So a single pixel is no target for the girdles, as in the paper: it is noise.
    assert FluxDensity().respond(frame).max() == 0
    frame[6:9, 6:9] = 0.8
    # A 3x3 square. Radius 1 of its centre: the corners see 0.4 in x and in y (|g| = 0.8), and are the four left out;
    # the sides see an inward gradient of 0.4: four of eight are left, mean 0.4. The smallest over the radii is 0.
    # The tensor around is as strong in x as in y, so its diversity is 1: response 0.4.
    assert FluxDensity(tensor=3).respond(frame)[7, 7] == pytest.approx(0.4, abs=1e-5)


def test_bilateral() -> None:
    frame = np.full((21, 21), 0.2, np.float32)
    frame[10, 10] = 0.8
    assert edge_component(frame)[10, 10] == pytest.approx(0.6)
    # Above `full` the window is 15x15, sigma 6 px and 1.0: the weight of the centre is 1, of the others
    # exp(-r^2 / 72 - 0.36 / 2).
    offsets = np.arange(-7, 8)
    weight = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / 72) * np.exp(-0.18)
    weight[7, 7] = 1
    background = (0.2 * (weight.sum() - 1) + 0.8) / weight.sum()
    response = Bilateral().respond(frame)
    assert response[10, 10] == pytest.approx(0.8 - background, abs=1e-5)
    assert np.count_nonzero(response) == 1


def test_phase_spectrum_keeps_an_impulse_and_drops_a_wave() -> None:
    x = np.arange(64)
    frame = np.tile(0.5 + 0.2 * np.sin(2 * np.pi * x / 8), (64, 1)).astype(np.float32)
    frame[20, 30] += 0.2
    response = PhaseSpectrum(sigma=1.0).respond(frame)
    assert np.unravel_index(response.argmax(), response.shape) == (20, 30)
    assert response[20, 30] > 5 * np.quantile(response, 0.99)


def test_ipi_decomposition() -> None:
    rng = np.random.default_rng(0)
    low = (rng.random((80, 2)) @ rng.random((2, 60))).astype(np.float32)
    sparse = np.zeros_like(low)
    places = rng.choice(low.size, 40, replace=False)
    sparse.flat[places] = 0.8
    background, target = decompose(low + sparse, 1 / np.sqrt(80))
    assert np.abs(background + target - low - sparse).max() < 0.05
    assert np.abs(target.flat[places] - 0.8).max() < 0.1
    rest = np.delete(target.ravel(), places)
    assert np.abs(rest).max() < 0.1
    # Wide instead of high: the same.
    np.testing.assert_allclose(decompose((low + sparse).T, 1 / np.sqrt(80))[1], target.T, atol=0.02)


def test_ipi_patches_come_together_as_they_were_cut() -> None:
    rng = np.random.default_rng(1)
    frame = rng.random((64, 83)).astype(np.float32)
    rows, columns = (_starts(length, 50, 10) for length in frame.shape)
    assert rows == [0, 10, 14] and columns == [0, 10, 20, 30, 33]
    matrix = np.stack([frame[y : y + 50, x : x + 50].ravel() for y in rows for x in columns], axis=1)
    np.testing.assert_array_equal(_reassemble(matrix, rows, columns, 50, 10, frame.shape), frame)
    # The pixel at (0, 0) lies in one patch alone; at (5, 12) in two (columns 0 and 10): the median is their mean.
    matrix[:, 0] += 1
    together = _reassemble(matrix, rows, columns, 50, 10, frame.shape)
    assert together[0, 0] == pytest.approx(frame[0, 0] + 1) and together[5, 12] == pytest.approx(frame[5, 12] + 0.5)


def test_ipi_codes_weight_leaves_less() -> None:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:80, :90]
    frame = (0.4 + 0.1 * np.sin(x / 14) * np.cos(y / 19) + 0.01 * rng.standard_normal(x.shape)).astype(np.float32)
    frame[30:33, 40:43] += 0.4
    paper, code = (IPI(weight=weight).respond(frame) for weight in ("paper", "code"))
    assert paper[31, 41] > 0.1
    assert (code > 0.01).sum() < (paper > 0.01).sum()
