from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from irdet.core.errors import FrameError, UsageError
from irdet.core.frame import Frame, Preprocessor, pad_to, pad_to_multiple
from irdet.core.nuc import identity
from irdet.core.targets import extract_targets

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
DEEP = hnp.arrays(np.uint16, SHAPES)
FLOATS = st.floats(-1e6, 1e6, width=32)


@given(hnp.arrays(np.uint8, SHAPES))
def test_eight_bit_is_divided_by_255_and_back_without_a_change(raw: NDArray[np.uint8]) -> None:
    frame = Preprocessor()(raw)
    assert frame.pixels.dtype == np.float32
    np.testing.assert_array_equal(frame.pixels, raw.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(frame.counts, raw)
    assert frame.raw is None and frame.bad is None
    assert frame.of_type(np.uint8).dtype == np.uint8 and np.array_equal(frame.of_type(np.uint8), raw)
    assert frame.of_type(np.float32) is frame.pixels, "computed once"


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_frame_is_its_own(shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    raw = np.arange(12).reshape(shape).astype(dtype)
    frame = Preprocessor()(raw)
    before = frame.data.copy()
    raw += 7
    np.testing.assert_array_equal(frame.data, before)
    np.testing.assert_array_equal(frame.pixels, before / np.float32(255) if dtype == np.uint8 else before)


def test_only_frames_of_eight_bits_have_their_counts_for_an_engine() -> None:
    raw = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for frame in (Preprocessor((0, 5))(raw), Preprocessor(mode="local")(raw), Preprocessor()(raw.astype(np.uint16))):
        assert frame.of_type(np.uint8) is frame.pixels and frame.data.dtype == np.float32


@given(st.lists(DEEP, min_size=1, max_size=4))
def test_deep_frames_are_never_clipped(frames: list[NDArray[np.uint16]]) -> None:
    preprocess = Preprocessor()
    for raw in frames:
        frame = preprocess(raw)
        assert frame.pixels.dtype == np.float32
        assert frame.pixels.min() >= 0 and frame.pixels.max() <= 1
        np.testing.assert_array_equal(frame.counts, raw)
        if raw.max() - raw.min() <= 256:
            # Different counts stay different, also at both ends: nothing passes through 8 bits.
            order = np.unique(raw, return_index=True)[1]
            assert (np.diff(frame.pixels.ravel()[order]) > 0).all()


def test_first_deep_frame_fills_the_range() -> None:
    frame = Preprocessor()(np.array([[1000, 1500, 3000]], np.uint16))
    np.testing.assert_allclose(frame.pixels, [[0, 0.25, 1]], atol=1e-6)
    assert frame.lsb == 1


@given(DEEP, DEEP)
def test_running_range_widens_at_once_and_shrinks_slowly(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> None:
    preprocess = Preprocessor()
    preprocess(first)
    frame = preprocess(second)
    if second.max() > first.max():
        assert frame.pixels.max() == pytest.approx(1, abs=1e-5)
    if second.min() < first.min():
        assert frame.pixels.min() == pytest.approx(0, abs=1e-5)
    if first.max() - first.min() > 100 and first.min() <= second.min() and second.max() <= first.max():
        # At most a twentieth of the way to the smaller range: the same count keeps nearly the same value.
        span = float(first.max()) - float(first.min())
        then = (second.astype(np.float64) - first.min()) / span
        assert np.abs(frame.pixels - then).max() <= 0.06


def test_range_of_a_dark_frame_after_a_bright_one() -> None:
    preprocess = Preprocessor()
    preprocess(np.array([[0, 1000]], np.uint16))
    frame = preprocess(np.array([[0, 500]], np.uint16))
    assert frame.pixels[0, 1] == pytest.approx(500 / 975)  # 1000 + 0.05 * (500 - 1000)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_declared_range_maps_and_clips(dtype: type[np.generic]) -> None:
    frame = Preprocessor(range=(50, 100))(np.array([[0, 50, 75, 100, 120]], dtype))
    np.testing.assert_allclose(frame.pixels, [[0, 0, 0.5, 1, 1]], atol=1e-7)
    np.testing.assert_array_equal(frame.counts, [[0, 50, 75, 100, 120]])


@pytest.mark.parametrize(
    "wrong", [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1), (0.0, 1e-60), (-3e38, 3e38), (0, 1e39)], ids=str
)
def test_declared_range_must_be_one(wrong: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="--range"):
        Preprocessor(range=wrong)


@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)))
def test_floats_in_unit_range_are_taken_as_they_are(raw: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(Preprocessor()(raw).pixels, raw)


def test_float_counts_are_not_taken_for_probabilities_when_one_frame_is_dark() -> None:
    preprocess = Preprocessor()
    preprocess(np.array([[0.0, 300.0]], np.float32))
    assert preprocess(np.array([[0.0, 1.0]], np.float32)).pixels.max() < 0.01


def test_bool_is_zero_and_one() -> None:
    np.testing.assert_array_equal(Preprocessor()(np.array([[True, True]])).pixels, [[1, 1]])


@given(
    hnp.arrays(
        np.float32, SHAPES, elements=st.one_of(FLOATS, st.sampled_from([np.nan, np.inf, -np.inf, np.float32(-3.4e38)]))
    )
)
def test_pixels_without_a_value_are_filled_and_flagged(raw: NDArray[np.float32]) -> None:
    bad = ~(np.abs(raw) < 1e30)
    if bad.all():
        with pytest.raises(FrameError, match="no finite pixel"):
            Preprocessor()(raw)
        return
    frame = Preprocessor()(raw)
    assert np.isfinite(frame.pixels).all() and frame.pixels.min() >= 0 and frame.pixels.max() <= 1
    if not bad.any():
        assert frame.bad is None
        return
    assert frame.bad is not None
    np.testing.assert_array_equal(frame.bad, bad)
    np.testing.assert_array_equal(frame.counts[~bad], raw[~bad])
    good = raw[~bad].astype(np.float64)
    margin = 1e-6 * np.abs(good).max() + 1e-6
    assert (frame.counts >= good.min() - margin).all() and (frame.counts <= good.max() + margin).all()


def test_a_bad_pixel_takes_the_mean_of_its_neighbours() -> None:
    raw = np.full((5, 5), 10.0, np.float32)
    raw[0, 0], raw[0, 1], raw[1, 0], raw[1, 1] = np.nan, 20, 30, 40
    raw[4, 4] = 1000
    assert Preprocessor()(raw).counts[0, 0] == pytest.approx(30)


def test_message_names_the_source_and_the_frame() -> None:
    with pytest.raises(FrameError, match=r"^clip\.mkv \(frame 7\)"):
        Preprocessor()(np.full((2, 2), np.nan), index=7, source="clip.mkv")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_becomes_the_grey_of_opencv(dtype: type[np.generic], channels: int) -> None:
    raw = np.random.default_rng(1).integers(0, 256, (7, 5, channels)).astype(dtype)
    expected = cv2.cvtColor(np.ascontiguousarray(raw[:, :, :3]), cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(Preprocessor()(raw).counts, expected)


@given(hnp.arrays(np.uint8, SHAPES), st.sampled_from([1, 3]))
def test_grey_stored_as_colour_is_the_same_frame(raw: NDArray[np.uint8], channels: int) -> None:
    stacked = np.repeat(raw[:, :, None], channels, axis=2)
    np.testing.assert_array_equal(Preprocessor()(stacked).pixels, Preprocessor()(raw).pixels)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4,), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((2, 4, 4, 1), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4), np.complex64),
        np.full((4, 4), "text"),
        np.full((4, 4, 3), None),
        None,
    ],
    ids=lambda wrong: f"{np.shape(wrong)}-{np.asarray(wrong).dtype}",
)
def test_what_is_no_image_is_refused(wrong: object) -> None:
    with pytest.raises(FrameError):
        Preprocessor()(wrong)  # type: ignore[arg-type]


def test_other_byte_order_is_read_by_value() -> None:
    raw = np.arange(12, dtype=np.uint16).reshape(3, 4) * 1000
    swapped = raw.astype(raw.dtype.newbyteorder())
    np.testing.assert_array_equal(Preprocessor()(swapped).pixels, Preprocessor()(raw).pixels)


@pytest.mark.parametrize("kind", ["u2", "i4", "f4", "f8"])
def test_targets_of_frames_in_another_byte_order(kind: str) -> None:
    native = np.random.default_rng(0).integers(7000, 7100, (40, 40)).astype(kind)
    native[20:22, 20:22] = 9000
    probability = (native > 8000).astype(np.float32)
    (wanted,), (given,) = (
        extract_targets(probability, Preprocessor()(raw)) for raw in (native, native.astype(f">{kind}"))
    )
    assert given == wanted and given.background == pytest.approx(7050, abs=5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_correction_that_changes_nothing_changes_nothing(dtype: type[np.unsignedinteger[Any]]) -> None:
    """8-bit counts are divided by 255 with a correction, too, and what is saturated stays so."""
    top = np.iinfo(dtype).max
    raw = np.random.default_rng(0).integers(50, 60, (40, 40)).astype(dtype)
    raw[20:22, 20:22] = top
    plain, corrected = (Preprocessor(correction=one)(raw) for one in (None, identity(raw.shape)))
    np.testing.assert_array_equal(corrected.pixels, plain.pixels)
    assert corrected.range == plain.range and (plain.range is None) == (dtype == np.uint8)
    probability = (raw == top).astype(np.float32)
    one, other = (extract_targets(probability, frame) for frame in (plain, corrected))
    assert one == other and one[0].saturated


def test_frame_knows_where_it_comes_from() -> None:
    frame = Preprocessor()(np.zeros((2, 3), np.uint8), index=4, time=0.5, source="a.png")
    assert (frame.shape, frame.index, frame.time, frame.source) == ((2, 3), 4, 0.5, "a.png")
    assert isinstance(frame, Frame)


@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)), st.integers(1, 40))
def test_padding_reaches_the_multiple_and_leaves_the_frame(pixels: NDArray[np.float32], stride: int) -> None:
    padded = pad_to_multiple(pixels, stride)
    height, width = pixels.shape
    assert padded.shape[0] % stride == 0 and padded.shape[1] % stride == 0
    assert padded.shape[0] - height < stride and padded.shape[1] - width < stride
    np.testing.assert_array_equal(padded[:height, :width], pixels)
    # Reflection about the last pixel, again and again: the period is twice the side less two.
    for axis, side in enumerate(pixels.shape):
        position = np.arange(padded.shape[axis]) % max(1, 2 * side - 2)
        source = np.where(position < side, position, 2 * side - 2 - position)
        whole = padded if axis == 0 else padded.T
        np.testing.assert_array_equal(whole, whole[source])


def test_one_pixel_is_repeated() -> None:
    np.testing.assert_array_equal(pad_to(np.array([[0.5]], np.float32), 3, 4), np.full((3, 4), 0.5))


def test_large_enough_is_not_copied() -> None:
    pixels = np.zeros((8, 16), np.float32)
    assert pad_to(pixels, 4, 4) is pixels
    assert pad_to_multiple(pixels, 8) is pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize(
    "how", [{}, {"range": (0.0, 200.0)}, {"mode": "local"}, {"correction": identity((10, 12))}], ids=str
)
def test_a_buffer_that_is_filled_again_changes_no_frame(dtype: type, how: dict[str, Any]) -> None:
    buffer: NDArray[Any] = np.arange(120).reshape(10, 12).astype(dtype)
    frame = Preprocessor(**how)(buffer)
    before = frame.counts.copy()
    buffer[:] = 99
    np.testing.assert_array_equal(frame.counts, before)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32])
def test_integers_in_colour_have_steps_of_one_count_too(dtype: type) -> None:
    grey: NDArray[Any] = np.arange(600, 720).reshape(10, 12).astype(dtype)
    assert Preprocessor()(np.dstack([grey] * 3)).lsb == Preprocessor()(grey).lsb == 1


@pytest.mark.parametrize(
    "data", [np.zeros((4, 4), np.uint16), np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8), np.zeros(4, np.float32)]
)
def test_a_frame_is_ready_for_a_model(data: NDArray[Any]) -> None:
    with pytest.raises(FrameError, match="float32 or uint8"):
        Frame(data)
