"""Made frames: the same everywhere, with as many spots as asked."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from irdet.engines.probe import probe_frame


@pytest.mark.parametrize("spots", [0, 1, 3, 12])
def test_a_frame_holds_the_spots_that_are_asked_for(spots: int) -> None:
    for seed in range(3):
        frame = probe_frame(512, 640, seed, spots)
        assert frame.shape == (512, 640) and frame.dtype == np.uint8
        raised = cv2.GaussianBlur(frame, (0, 0), 1.0).astype(int) - cv2.GaussianBlur(frame, (0, 0), 25.0)
        count, _ = cv2.connectedComponents((raised > 8).astype(np.uint8), connectivity=8)
        assert count - 1 <= spots and (count > spots * 0.8)  # some overlap


def test_a_seed_fixes_the_frame_and_its_size_the_number_of_spots() -> None:
    assert np.array_equal(probe_frame(64, 80, 1), probe_frame(64, 80, 1))
    assert not np.array_equal(probe_frame(64, 80, 1), probe_frame(64, 80, 2))
    assert np.array_equal(probe_frame(100, 200), probe_frame(100, 200, spots=3))  # 1.5 for each 10,000 px
