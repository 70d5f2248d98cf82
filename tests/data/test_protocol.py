from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.data.protocol import resize_protocol


def test_the_protocol_is_the_authors() -> None:
    generator = np.random.default_rng(5)
    raw = generator.integers(0, 256, (31, 47)).astype(np.uint8)
    mask = generator.random((31, 47)) < 0.3
    image, truth = resize_protocol(raw, mask, (64, 48))
    np.testing.assert_array_equal(image, cv2.resize(raw, (64, 48)))
    np.testing.assert_array_equal(truth, cv2.resize(mask.astype(np.uint8) * 255, (64, 48)) / 255 > 0.5)
    assert image.dtype == np.uint8
    same, unchanged = resize_protocol(raw, mask, (47, 31))
    np.testing.assert_array_equal(same, raw)
    np.testing.assert_array_equal(unchanged, mask)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_images_stay_deep_when_resized(dtype: type) -> None:
    raw: NDArray[np.generic] = np.linspace(0, 60000, 20 * 30).reshape(20, 30).astype(dtype)
    image, _ = resize_protocol(raw, np.zeros(raw.shape, bool), (60, 40))
    assert image.max() > 59000
