from __future__ import annotations

import numpy as np
import pytest

from irdet.core.errors import UsageError
from irdet.core.threshold import AdaptiveThreshold, parse_threshold, threshold_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", 0.5),
        ("1", 1.0),
        ("mean+4std", AdaptiveThreshold("std", 4)),
        ("mean + 2.5 std", AdaptiveThreshold("std", 2.5)),
        ("0.7max", AdaptiveThreshold("max", 0.7)),
    ],
)
def test_what_can_be_written(text: str, expected: object) -> None:
    threshold = parse_threshold(text)
    assert threshold == expected
    assert parse_threshold(f"{threshold:g}") == threshold


@pytest.mark.parametrize(
    "text", ["", "0", "1.5", "-0.1", "nan", "mean", "mean+std", "mean-2std", "max", "0max", "2sigma"]
)
def test_what_cannot(text: str) -> None:
    with pytest.raises(UsageError, match=r"^threshold"):
        parse_threshold(text)


def test_rules_by_hand() -> None:
    response = np.array([[0.0, 0.0], [0.0, 0.8]], np.float32)  # mean 0.2, std sqrt(0.16 - 0.04) = 0.3464
    assert threshold_of(AdaptiveThreshold("std", 1), response) == pytest.approx(0.2 + 0.34641, abs=1e-5)
    assert threshold_of(AdaptiveThreshold("max", 0.7), response) == pytest.approx(0.56)
    assert threshold_of(AdaptiveThreshold("max", 0.1), response) == pytest.approx(0.2 + 0.5 * 0.34641, abs=1e-5)
    assert threshold_of(0.3, response) == 0.3


@pytest.mark.parametrize("rule", [AdaptiveThreshold("std", 3), AdaptiveThreshold("max", 0.7)])
def test_nothing_stands_out_of_nothing(rule: AdaptiveThreshold) -> None:
    empty = np.zeros((4, 5), np.float32)
    assert not (empty >= rule.of(empty)).any()
