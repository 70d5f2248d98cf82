"""Saliency in the Fourier domain.

Sources: Hou & Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007, eqs. (7) to (10); Guo, Ma & Zhang,
"Spatio-temporal saliency detection using phase spectrum of quaternion Fourier transform", CVPR 2008, eqs. (1) to (3).
Both shrink the image to 64 px first, where a target of 3 px is gone: here frames keep their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.engines.classical.method import Method

#: The frame is continued by its mirror image over so many pixels, which fade to its mean: otherwise the jump from one
#: border to the other, which the transform sees, would be the largest edge of all.
MARGIN = 32

#: Amplitudes below this share of the largest one have no phase to speak of.
LEAST_AMPLITUDE = 1e-6


@dataclass(frozen=True)
class PhaseSpectrum(Method):
    """Phase spectrum: every frequency gets the same amplitude, so what repeats goes down and what stands alone stays.

    With r the smoothed energy in units of its mean over the frame, the response is r / (r + 100).

    Attributes:
        sigma: Standard deviation of the Gaussian that smooths the energy, px.
    """

    sigma: float = 1.5

    THRESHOLD: ClassVar[float] = 0.28
    MAIN: ClassVar[str] = "sigma"

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise UsageError(f"sigma {self.sigma:g}: must be positive")

    def respond(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns r / (r + 100)."""
        wide = _continued(pixels)
        spectrum = np.fft.rfft2(wide)
        amplitude = np.abs(spectrum)
        amplitude[amplitude <= LEAST_AMPLITUDE * amplitude.max()] = 0
        whitened = np.fft.irfft2(self._whiten(spectrum, amplitude), s=wide.shape)
        energy = whitened[MARGIN:-MARGIN, MARGIN:-MARGIN] ** 2
        mean = float(energy.mean())
        if mean == 0:  # a frame that is flat
            return np.zeros_like(pixels)
        smooth = cv2.GaussianBlur((energy / mean).astype(np.float32), (0, 0), self.sigma)
        return smooth / (smooth + np.float32(100.0))

    def _whiten(self, spectrum: NDArray[np.complex128], amplitude: NDArray[np.float64]) -> NDArray[np.complex128]:
        return np.divide(spectrum, amplitude, out=np.zeros_like(spectrum), where=amplitude > 0)


@dataclass(frozen=True)
class SpectralResidual(PhaseSpectrum):
    """Spectral residual: the log amplitude without its local mean, with the phase as it was.

    The response is that of `PhaseSpectrum`.

    Attributes:
        sigma: Standard deviation of the Gaussian that smooths the energy, px.
        window: Side of the window over frequencies whose mean is removed.
    """

    window: int = 3

    THRESHOLD: ClassVar[float] = 0.29

    def _whiten(self, spectrum: NDArray[np.complex128], amplitude: NDArray[np.float64]) -> NDArray[np.complex128]:
        phase = super()._whiten(spectrum, amplitude)
        log = np.log(np.maximum(amplitude, np.finfo(np.float64).tiny))
        floor = log[amplitude > 0].min(initial=0.0)
        log = np.maximum(log, floor)
        residual = log - cv2.blur(log, (self.window, self.window), borderType=cv2.BORDER_REPLICATE)
        return phase * np.exp(residual)


def _continued(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the frame without its mean, continued by `MARGIN` px on each side and faded to 0 there."""
    centred = pixels.astype(np.float64) - float(pixels.mean(dtype=np.float64))
    wide = np.pad(centred, MARGIN, mode="symmetric")
    fade = 0.5 - 0.5 * np.cos(np.pi * (np.arange(MARGIN) + 0.5) / MARGIN)
    for axis, length in enumerate(pixels.shape):
        window = np.concatenate([fade, np.ones(length), fade[::-1]])
        wide *= window[:, None] if axis == 0 else window[None, :]
    return wide
