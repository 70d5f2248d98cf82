"""Random fields: the stuff of clouds, waves, hills and foliage."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.data.synth.canvas import Field


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    slope: float = 3.0,
    largest: float | None = None,
    smallest: float = 0.0,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Field:
    """Gaussian field with a power spectrum that falls as frequency**-slope; natural images have slopes of 2 to 4.

    Args:
        rng: Source of randomness.
        shape: Height and width, px.
        slope: Exponent of the power spectrum.
        largest: Wavelength above which the spectrum is flat, px; None for the longer side.
        smallest: Wavelength below which it dies away, px.
        stretch: Structures are this many times longer along `angle` than across it.
        angle: Direction of the stretch from the x axis, radians.

    Returns:
        float32 [H, W], mean 0, standard deviation 1. Fields wrap around at their edges.
    """
    height, width = (cv2.getOptimalDFTSize(side) for side in shape)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    along = (fx * np.cos(angle) + fy * np.sin(angle)) * np.sqrt(stretch)
    across = (fy * np.cos(angle) - fx * np.sin(angle)) / np.sqrt(stretch)
    square = along**2 + across**2
    lowest = 1.0 / (largest or max(shape))
    spectrum = (square + lowest**2) ** (-slope / 4)
    if smallest > 0:
        spectrum *= np.exp(-square * smallest**2 / 2)
    spectrum[0, 0] = 0.0
    waves = rng.standard_normal((*spectrum.shape, 2), dtype=np.float32) @ np.array([1, 1j], np.complex64)
    field = np.fft.irfft2(waves * spectrum, s=(height, width))[: shape[0], : shape[1]]
    return normalise(field.astype(np.float32))


def billow(rng: np.random.Generator, shape: tuple[int, int], size: float, octaves: int = 5) -> Field:
    """Rounded heaps at several scales with sharp creases between them, as of cumulus clouds or tree crowns.

    Args:
        rng: Source of randomness.
        shape: Height and width, px.
        size: Size of the largest heaps, px.
        octaves: Number of scales, each half the size of the one before.

    Returns:
        float32 [H, W] in [0, 1].
    """
    total = np.zeros(shape, np.float32)
    weight = 1.0
    for octave in range(octaves):
        scale = size / 2**octave
        if scale < 1.5:
            break
        heap = 1.0 - np.abs(fractal(rng, shape, slope=6.0, largest=scale, smallest=scale / 6)) / 1.5
        total += np.float32(weight) * heap
        weight *= 0.55
    return stretch01(total)


def profile(rng: np.random.Generator, length: int, slope: float, largest: float) -> NDArray[np.float32]:
    """A fractal curve, float32 [length], mean 0, standard deviation 1, as of a skyline of hills."""
    count = cv2.getOptimalDFTSize(2 * length)
    frequency = np.fft.rfftfreq(count)
    spectrum = (frequency**2 + 1.0 / largest**2) ** (-slope / 4)
    spectrum[0] = 0.0
    waves = rng.standard_normal(frequency.size) + 1j * rng.standard_normal(frequency.size)
    return normalise(np.fft.irfft(waves * spectrum, n=count)[:length].astype(np.float32))


def warp(field: Field, dx: Field | float, dy: Field | float) -> Field:
    """Returns the field with each pixel fetched from (x + dx, y + dy), px; edges are mirrored."""
    height, width = field.shape
    x = np.arange(width, dtype=np.float32)[None, :] + np.asarray(dx, np.float32)
    y = np.arange(height, dtype=np.float32)[:, None] + np.asarray(dy, np.float32)
    x, y = np.broadcast_to(x, field.shape), np.broadcast_to(y, field.shape)
    return _float(
        cv2.remap(field, np.ascontiguousarray(x), np.ascontiguousarray(y), cv2.INTER_CUBIC, None, cv2.BORDER_REFLECT)
    )


def by_depth(near: list[Field], depth: Field) -> Field:
    """A texture whose grain grows with nearness, as of the ground or the sea under a flat view.

    Args:
        near: The texture at grains 1, 2, 4 ... times the finest, each float32 [H, W].
        depth: float32 [H, 1] or [H, W], grain wanted at each pixel in units of the finest.

    Returns:
        float32 [H, W].
    """
    level = np.clip(np.log2(np.maximum(depth, 1.0)), 0, len(near) - 1)
    result = np.zeros_like(near[0])
    for index, texture in enumerate(near):
        weight = np.clip(1.0 - np.abs(level - index), 0.0, 1.0)
        # The variance stays even where two textures mix.
        result += texture * np.sqrt(weight)
    return result


def relief(field: Field, angle: float, sigma: float) -> Field:
    """Slopes of a height field as lit from the direction `angle`: positive towards the light, deviation 1."""
    smooth = blur(field, sigma)
    dy, dx = np.gradient(smooth)
    return normalise((np.cos(angle) * dx + np.sin(angle) * dy).astype(np.float32))


def blur(field: Field, sigma: float) -> Field:
    """Gaussian blur; a wide one is computed on a smaller image."""
    if sigma <= 0.05:
        return field
    factor = int(sigma // 5)
    if factor < 2:
        return _float(cv2.GaussianBlur(field, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))
    height, width = field.shape
    small = cv2.resize(field, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REFLECT)
    wide = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    # Smooths the facets that enlarging leaves: slopes are taken of these fields.
    return _float(cv2.GaussianBlur(wide, (0, 0), factor * 0.7, borderType=cv2.BORDER_REFLECT))


def smoothstep(low: float, high: float, value: Field) -> Field:
    """0 below `low`, 1 above `high`, a smooth passage between."""
    share = np.clip((value - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    return _float(share * share * (3.0 - 2.0 * share))


def normalise(field: Field) -> Field:
    """Shifts and scales to mean 0 and standard deviation 1."""
    deviation = float(field.std())
    return _float((field - field.mean()) / np.float32(max(deviation, 1e-9)))


def stretch01(field: Field) -> Field:
    """Shifts and scales to [0, 1]."""
    low, high = float(field.min()), float(field.max())
    return _float((field - np.float32(low)) / np.float32(max(high - low, 1e-9)))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two positive ones, evenly spread over their ratio."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _float(field: NDArray[np.generic]) -> Field:
    return field.astype(np.float32, copy=False)
