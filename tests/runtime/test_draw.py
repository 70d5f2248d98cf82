from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from irdet.core.frame import Frame, Preprocessor
from irdet.core.targets import Target
from irdet.runtime.draw import MARGIN, MAX_LABELS, annotate, enlargement


def target(left: int, top: int, width: int = 3, height: int = 3, **fields: bool) -> Target:
    middle = left + (width - 1) / 2, top + (height - 1) / 2
    return Target(*middle, (left, top, width, height), width * height, 0.9, 0.8, 200.0, 90.0, 5.0, 60.0, 12.0, **fields)


def flat(height: int = 96, width: int = 128, value: int = 100) -> Frame:
    return Preprocessor()(np.full((height, width), value, np.uint8), 4, 0.16, "clip.mkv")


def coloured(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where something is drawn in colour: the frame itself is grey."""
    return np.ptp(picture.astype(int), axis=2) > 60


@given(st.integers(1, 1500), st.integers(1, 1500))
def test_small_frames_are_enlarged_by_a_whole_number(height: int, width: int) -> None:
    scale = enlargement((height, width))
    assert 1 <= scale <= 8
    if max(height, width) >= 480:
        assert scale == 1
    elif max(height, width) >= 60:
        assert 480 <= scale * max(height, width) < 960


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.lists(st.tuples(st.integers(0, 89), st.integers(0, 89), st.integers(1, 30), st.integers(1, 30)), max_size=40),
)
def test_any_frame_can_be_drawn(height: int, width: int, boxes: list[tuple[int, int, int, int]]) -> None:
    frame = flat(height, width)
    inside = [(min(x, width - 1), min(y, height - 1), w, h) for x, y, w, h in boxes]
    targets = [target(x, y, min(w, width - x), min(h, height - y)) for x, y, w, h in inside]
    picture = annotate(frame, targets)
    scale = enlargement(frame.shape)
    assert picture.dtype == np.uint8 and picture.shape[1:] == (width * scale, 3)
    strip = picture.shape[0] - height * scale
    assert 10 < strip < 40


def test_nothing_of_a_target_is_hidden() -> None:
    frame, scale = flat(), enlargement((96, 128))
    plain = annotate(frame, [], caption="x")
    marked = annotate(frame, [target(60, 40)], caption="x")
    strip = marked.shape[0] - 96 * scale
    changed = (plain != marked).any(axis=2)[strip:]
    around = slice((40 - 1) * scale, (43 + 1) * scale), slice((60 - 1) * scale, (63 + 1) * scale)
    assert changed.any() and not changed[around].any()
    # The bracket stands at its margin, on all four corners.
    low, high = (60 - MARGIN) * scale, (63 + MARGIN) * scale
    for rows in (slice((40 - MARGIN) * scale, 41 * scale), slice(42 * scale, (43 + MARGIN) * scale)):
        assert coloured(marked)[strip:][rows, low : low + 6].any()
        assert coloured(marked)[strip:][rows, high - 6 : high].any()


@pytest.mark.parametrize("corner", [(0, 0), (125, 0), (0, 93), (125, 93)])
def test_marks_at_the_border_stay_in_the_frame(corner: tuple[int, int]) -> None:
    frame, scale = flat(), enlargement((96, 128))
    plain, marked = annotate(frame, [], caption="x"), annotate(frame, [target(*corner)], caption="x")
    strip = marked.shape[0] - 96 * scale
    assert np.array_equal(plain[:strip], marked[:strip])  # the strip is left alone
    inside = annotate(frame, [target(60, 45)], caption="x")
    # All of its label is there: as many coloured pixels as a label has elsewhere, but for a part of the bracket.
    assert coloured(marked).sum() > 0.6 * coloured(inside).sum()


def test_doubtful_targets_are_amber() -> None:
    def hue(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        return picture[coloured(picture)].astype(float).mean(axis=0)  # blue, green, red

    frame = flat()
    sure, doubtful = hue(annotate(frame, [target(60, 40)])), hue(annotate(frame, [target(60, 40, bad_pixel=True)]))
    assert sure[1] > sure[2] and doubtful[2] > doubtful[1]


def test_labels_stay_readable_when_there_are_many() -> None:
    rng = np.random.default_rng(0)
    targets = [target(int(x), int(y)) for x, y in rng.integers(3, 90, (200, 2))]
    frame = flat()
    few, many = annotate(frame, targets[:MAX_LABELS]), annotate(frame, targets)
    assert coloured(many).sum() > coloured(few).sum()
    assert coloured(many).mean() < 0.25


def test_the_grey_of_eight_bits_is_as_it_was() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (500, 640)).astype(np.uint8)
    picture = annotate(Preprocessor()(raw), [])
    assert np.array_equal(picture[-500:, :, 0], raw) and np.array_equal(picture[..., 0][-500:], picture[..., 2][-500:])


def test_deep_frames_are_stretched_for_the_eye() -> None:
    rng = np.random.default_rng(0)
    raw = (7000 + 20 * rng.standard_normal((500, 640))).astype(np.uint16)
    raw[100, 100] = 60000  # one hot pixel, which leaves the rest in the dark
    picture = annotate(Preprocessor()(raw), [])[-500:]
    assert np.ptp(np.percentile(picture, [5, 95])) > 80 and picture[100, 100].min() == 255


def test_the_frame_is_not_drawn_upon() -> None:
    frame = flat(480, 640)
    before = frame.pixels.copy()
    annotate(frame, [target(60, 40)])
    assert np.array_equal(frame.pixels, before)
