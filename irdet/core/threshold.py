"""The threshold rule: from which response on a pixel belongs to a target."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError

#: What the rules are called, with F a factor.
FORMS = "a number above 0 and at most 1, mean+Fstd, or Fmax"

_FORMS = {
    "std": re.compile(r"mean\+(\d+(?:\.\d+)?)std"),
    "max": re.compile(r"(\d+(?:\.\d+)?)max"),
}


@dataclass(frozen=True)
class AdaptiveThreshold:
    """A threshold that follows each frame's own response.

    Published tables of classical methods differ by their threshold as much as by the method: these are the two that
    are usual. With mean and standard deviation taken over the frame's response,

    - `"std"` is mean + factor * std (for instance Gao et al. 2013, eq. (20));
    - `"max"` is max(factor * largest response, mean + 0.5 * std) (Dai et al. 2021, with factor 0.7). It finds a target
      in every frame, the empty ones too.

    Attributes:
        rule: `"std"` or `"max"`.
        factor: Positive.
    """

    rule: str
    factor: float

    def __post_init__(self) -> None:
        if self.rule not in _FORMS:
            raise UsageError(f"threshold rule {self.rule!r}: must be {' or '.join(_FORMS)}")
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise UsageError(f"threshold factor {self.factor:g}: must be positive")

    def __str__(self) -> str:
        return f"mean+{self.factor:g}std" if self.rule == "std" else f"{self.factor:g}max"

    def __format__(self, spec: str) -> str:
        return str(self)  # so that messages need not tell numbers and rules apart

    def of(self, response: NDArray[np.float32]) -> float:
        """Returns the threshold for one frame's response, [H, W]; above 0, so that where nothing is, nothing is found.

        It can lie above 1: then the frame has no target.
        """
        mean, std = float(response.mean(dtype=np.float64)), float(response.std(dtype=np.float64))
        if self.rule == "std":
            value = mean + self.factor * std
        else:
            value = max(self.factor * float(response.max()), mean + 0.5 * std)
        return max(value, float(np.finfo(np.float32).tiny))


#: A fixed threshold in (0, 1], or one for each frame.
Threshold = float | AdaptiveThreshold


def check_threshold(threshold: Threshold) -> Threshold:
    """Returns the threshold; raises UsageError where a fixed one lies outside (0, 1]."""
    if isinstance(threshold, AdaptiveThreshold):
        return threshold
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold {threshold:g}: must be above 0 and at most 1")
    return float(threshold)


def threshold_of(threshold: Threshold, response: NDArray[np.float32]) -> float:
    """Returns the number that a threshold is for one frame's response, [H, W]."""
    return threshold.of(response) if isinstance(threshold, AdaptiveThreshold) else threshold


def parse_threshold(text: str) -> Threshold:
    """Reads a threshold as it is written on the command line: `0.5`, `mean+4std` or `0.7max`.

    Raises:
        UsageError: It is none of these.
    """
    for rule, form in _FORMS.items():
        if match := form.fullmatch(text.replace(" ", "")):
            return AdaptiveThreshold(rule, float(match[1]))
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"threshold {text!r}: must be {FORMS}") from None
    return check_threshold(value)


def threshold_record(threshold: Threshold) -> float | str:
    """Returns the threshold as it stands in records: the number, or the rule as `parse_threshold` reads it."""
    return str(threshold) if isinstance(threshold, AdaptiveThreshold) else threshold
