"""Crops must depend on their number alone, keep image and mask together, and paste only what can be seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest

from irdet.data.augment import jitter_intensity
from irdet.data.crops import MIXED, CropSampler, LabelledFrame, Sampling, as_counts, lift_targets, without_targets
from irdet.data.protocol import resize_protocol

SAMPLING = Sampling(batch=4, crop=64, square=96, seed=3)


def spot_frame(seed: int, height: int = 72, width: int = 100, count: int = 2) -> LabelledFrame:
    """A dim gradient with noise and bright spots, away from the border and from each other."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:height, :width]
    pixels = 0.2 + 0.2 * xs / width + 0.005 * rng.standard_normal((height, width))
    mask = np.zeros((height, width), bool)
    for x in np.linspace(20, width - 20, count) + rng.uniform(-3, 3, count):
        y = rng.uniform(15, height - 15)
        spot = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 4)
        pixels += 0.5 * spot
        mask |= spot > 0.4
    return LabelledFrame(np.clip(pixels, 0, 1).astype(np.float32), mask)


@pytest.fixture(scope="module")
def frames() -> list[LabelledFrame]:
    return [spot_frame(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def free() -> list[LabelledFrame]:
    return [spot_frame(seed, count=0) for seed in range(2)]


def test_a_step_is_the_same_whenever_it_is_drawn(frames: list[LabelledFrame], free: list[LabelledFrame]) -> None:
    one, other = CropSampler(frames, free, SAMPLING), CropSampler(frames, free, SAMPLING)
    for step in range(4):
        other.batch(step)
    for again, first in zip(one.batch(9), other.batch(9), strict=True):
        np.testing.assert_array_equal(again, first)
    assert not np.array_equal(one.batch(9)[0], one.batch(10)[0])
    reseeded = CropSampler(frames, free, dataclasses.replace(SAMPLING, seed=4))
    assert not np.array_equal(one.batch(9)[0], reseeded.batch(9)[0])


def test_crops_have_the_promised_form(frames: list[LabelledFrame], free: list[LabelledFrame]) -> None:
    sampler = CropSampler(frames, free, SAMPLING)
    for step in range(20):
        images, masks = sampler.batch(step)
        assert images.shape == masks.shape == (4, 1, 64, 64)
        assert images.dtype == masks.dtype == np.float32
        assert images.min() >= 0 and images.max() <= 1
        assert set(np.unique(masks)) <= {0.0, 1.0}


@pytest.mark.parametrize("varied", [{}, {"turned_share": 1.0}, {"skew": 0.6}, {"mixed_share": 1.0}])
def test_mask_lies_on_the_target(frames: list[LabelledFrame], varied: dict[str, Any]) -> None:
    sampler = CropSampler(frames, [], dataclasses.replace(SAMPLING, paste=0.0, centred_share=1.0, **varied))
    contrasts = []
    for step in range(20):
        for image, mask in zip(*sampler.batch(step), strict=True):
            assert mask.any(), "a centred crop holds its target"
            contrasts.append(image[mask > 0].mean() - np.median(image))
    assert min(contrasts) > 0.05


def test_every_frame_is_seen_once_per_epoch(frames: list[LabelledFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    marked = [LabelledFrame(np.full_like(f.pixels, 0.1 + 0.15 * i), f.mask) for i, f in enumerate(frames)]
    # Without jitter of intensity a crop would tell its frame; with it, the seeded order must be asked for directly.
    sampling = dataclasses.replace(SAMPLING, batch=5, paste=0.0, background_share=0.0)
    sampler = CropSampler(marked, [], sampling)
    seen: list[int] = []
    original = sampler._place

    def spy(frame: LabelledFrame, *rest: object, **settings: object) -> np.ndarray:
        seen.append(next(i for i, f in enumerate(marked) if f is frame))
        return original(frame, *rest, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(sampler, "_place", spy)
    for step in range(3):
        sampler.batch(step)
        assert sorted(seen[-5:]) == [0, 1, 2, 3, 4]
    assert seen[:5] != seen[5:10] or seen[5:10] != seen[10:], "the order is shuffled anew"


def test_target_free_crops_come_in_their_share(frames: list[LabelledFrame], free: list[LabelledFrame]) -> None:
    sampling = dataclasses.replace(SAMPLING, background_share=1.0, paste=0.0)
    sampler = CropSampler(frames, free, sampling)
    assert not any(sampler.batch(step)[1].any() for step in range(5))


def test_pasted_targets_are_labelled_and_visible(frames: list[LabelledFrame], free: list[LabelledFrame]) -> None:
    sampling = dataclasses.replace(SAMPLING, background_share=1.0, paste=1.0)
    sampler = CropSampler(frames, free, sampling)
    pasted = 0
    for step in range(10):
        for image, mask in zip(*sampler.batch(step), strict=True):
            body = mask[0].astype(np.uint8)
            count, labels = cv2.connectedComponents(body, connectivity=8)
            for label in range(1, count):
                mine = (labels == label).astype(np.uint8)
                ring = cv2.dilate(mine, np.ones((9, 9), np.uint8)) - cv2.dilate(mine, np.ones((5, 5), np.uint8))
                ring[body > 0] = 0
                pasted += 1
                assert image[0][mine > 0].mean() > image[0][ring > 0].mean()
    assert pasted > 20


def test_deep_frames_keep_their_depth_without_targets() -> None:
    """A frame of 16 bits is inpainted in 16: in 8 each pixel would be off by up to 1/510."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 65536, (40, 40)).astype(np.float32) / np.float32(65535)
    mask = np.zeros(pixels.shape, bool)
    mask[18:21, 18:21] = True
    empty = without_targets(LabelledFrame(pixels, mask)).pixels
    assert empty.min() >= 0 and empty.max() <= 1
    np.testing.assert_allclose(empty[:10], pixels[:10], atol=1e-6)
    for depth, kind in ((255, np.uint8), (65535, np.uint16)):
        counts = rng.integers(0, depth + 1, (40, 40)).astype(kind)
        back = as_counts(counts.astype(np.float32) / np.float32(depth))
        assert back.dtype == kind and np.array_equal(back, counts)


def test_lifting_leaves_out_targets_cut_by_the_border() -> None:
    frame = spot_frame(0)
    mask = frame.mask.copy()
    mask[:3, :3] = True
    empty = without_targets(frame)
    assert len(lift_targets(LabelledFrame(frame.pixels, mask), empty)) == len(lift_targets(frame, empty)) == 2


def test_lifted_target_plus_background_is_the_frame() -> None:
    frame = spot_frame(1, count=1)
    (donor,) = lift_targets(frame, without_targets(frame))
    peak = donor.difference[donor.mask > 0].max()
    assert 0.3 < peak < 0.6, "the spot stands 0.5 above its background"
    assert abs(donor.difference[0]).max() < 0.05, "faded out at the edge"


def test_intensity_jitter_keeps_form_and_range() -> None:
    image = spot_frame(2).pixels
    for seed in range(30):
        changed = jitter_intensity(image.copy(), np.random.default_rng(seed))
        assert changed.shape == image.shape and changed.dtype == np.float32
        assert changed.min() >= 0 and changed.max() <= 1 and np.isfinite(changed).all()


def test_mined_places_are_in_their_crops(free: list[LabelledFrame]) -> None:
    marked = [LabelledFrame(frame.pixels * np.float32(0.1), frame.mask) for frame in free]
    marked[1].pixels[40, 60] = 1.0
    settings = dataclasses.replace(
        SAMPLING, batch=1, background_share=1.0, mined_share=1.0, squared_share=0.0, paste=0.0, jitter=(1.0, 1.0)
    )
    sampler = CropSampler(marked, marked, settings)
    shape = marked[1].pixels.shape
    place = 60 / shape[1], 40 / shape[0]
    drawn = [sampler.batch(step, ((1, *place), (len(marked) + 1, *place))) for step in range(12)]
    # The one bright pixel stands out of its crop by far; without mining half of the crops are of the other frame.
    assert all(image.max() - np.median(image) > 0.25 for image, _ in drawn)
    assert all(not mask.any() for _, mask in drawn)
    plain = [sampler.batch(step)[0] for step in range(12)]
    assert not all(image.max() - np.median(image) > 0.25 for image in plain)


def test_locally_mapped_crops_come_in_their_share(frames: list[LabelledFrame], free: list[LabelledFrame]) -> None:
    marked = [LabelledFrame(np.full_like(frame.pixels, 0.9), frame.mask) for frame in frames]
    sampling = dataclasses.replace(SAMPLING, batch=40, local_share=0.25, background_share=0.5, paste=0.0)
    sampler = CropSampler(frames, free, sampling, marked)
    bright = [float(np.median(image)) > 0.6 for step in range(10) for image in sampler.batch(step)[0]]
    assert 0.15 < np.mean(bright) < 0.35
    everything = CropSampler(frames, free, dataclasses.replace(sampling, local_share=1.0), marked)
    assert any(mask.any() for mask in everything.batch(0)[1]), "their targets are labelled"


def test_turned_crops_lie_at_other_angles_than_their_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irdet.data.crops.jitter_intensity", lambda image, rng: image)
    ramp = LabelledFrame(np.tile(np.linspace(0, 1, 200, dtype=np.float32), (200, 1)), np.zeros((200, 200), bool))
    sampling = dataclasses.replace(SAMPLING, squared_share=0.0, paste=0.0, mixed_share=0.0)

    def angles(turned_share: float) -> list[float]:
        sampler = CropSampler([ramp], [], dataclasses.replace(sampling, turned_share=turned_share))
        crops = [image for step in range(8) for image in sampler.batch(step)[0][:, 0]]
        slopes = [np.gradient(image[24:40, 24:40]) for image in crops]
        return [float(np.degrees(np.arctan2(*sorted((abs(dy.mean()), abs(dx.mean())))))) for dy, dx in slopes]

    assert max(angles(0.0)) < 1e-3, "a ramp along an axis stays one"
    assert 15 < np.mean(angles(1.0)) < 30, "0 to 45 degrees are alike, and transposition and flips do the rest"


def test_mixed_frames_shine_through_and_leave_their_targets_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irdet.data.crops.jitter_intensity", lambda image, rng: image)
    dark = LabelledFrame(np.zeros((80, 80), np.float32), np.zeros((80, 80), bool))
    bright = LabelledFrame(np.full((80, 80), 0.6, np.float32), np.zeros((80, 80), bool))
    bright.mask[30:36, 30:36] = True
    bright.pixels[bright.mask] = 1.0
    sampling = dataclasses.replace(SAMPLING, batch=8, paste=0.0, centred_share=1.0, mixed_share=1.0)
    seen = []
    for images, masks in (CropSampler([dark, bright], [], sampling).batch(step) for step in range(8)):
        for image, mask in zip(images[:, 0], masks[:, 0], strict=True):
            if not mask.any():  # of the dark one, or of the bright one's sky
                assert np.ptp(image) < 0.02, "no spot of another frame comes along"
                seen.append(float(image.mean()))
    shares = [value for value in seen if value < 0.3]
    assert len(shares) > 20 and max(shares) <= MIXED * 0.6 + 1e-3 and np.mean([value > 0.02 for value in shares]) > 0.2


def test_joined_crops_show_two_frames_apart_by_a_straight_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irdet.data.crops.jitter_intensity", lambda image, rng: image)
    frames = []
    for level in (0.2, 0.6):
        frame = LabelledFrame(np.full((200, 200), level, np.float32), np.zeros((200, 200), bool))
        frame.mask[::40, ::40] = True
        frame.pixels[frame.mask] = level + 0.2
        frames.append(frame)
    sampling = dataclasses.replace(
        SAMPLING, batch=8, squared_share=0.0, paste=0.0, background_share=0.0, exact_share=1.0, joined_share=1.0
    )
    sampler = CropSampler(frames, [], sampling)
    joined = 0
    for images, masks in map(sampler.batch, range(8)):
        for image, mask in zip(images[:, 0], masks[:, 0], strict=True):
            bright = image > 0.5
            np.testing.assert_allclose(image, np.where(bright, 0.6, 0.2) + 0.2 * mask, atol=1e-6)
            if not 0 < bright.mean() < 1:
                continue  # both sides are of one frame, or of two alike
            joined += 1
            assert min(bright.mean(), 1 - bright.mean()) > 0.1
            hulls = [cv2.convexHull(np.argwhere(side).astype(np.int32)) for side in (bright, ~bright)]
            # Two sides of a straight line are both convex, so together their hulls are no larger than the crop.
            assert sum(cv2.contourArea(hull) for hull in hulls) <= 64 * 64
    assert 20 < joined < 44, "one frame in two is the other one"


def test_a_frame_without_its_targets_is_the_frame_elsewhere() -> None:
    frame = spot_frame(3)
    empty = without_targets(frame)
    assert not empty.mask.any()
    far = cv2.dilate(frame.mask.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert np.abs(empty.pixels - frame.pixels)[far].max() <= 0.5 / 255 + 1e-6
    assert empty.pixels[frame.mask].max() < frame.pixels[frame.mask].min()


def test_recipes_without_locally_mapped_crops_draw_as_before(frames: list[LabelledFrame]) -> None:
    share = dataclasses.replace(SAMPLING, local_share=0.5)
    for one, other in zip(
        CropSampler(frames, [], SAMPLING).batch(3), CropSampler(frames, [], share).batch(3), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("squared_share", [0.0, 1.0])
def test_exact_plain_crops_are_cut_from_the_frame_as_it_runs(frames: list[LabelledFrame], squared_share: float) -> None:
    settings = dataclasses.replace(
        SAMPLING, squared_share=squared_share, paste=0.0, background_share=0.0, plain_share=1.0
    )
    run = [resize_protocol(f.pixels, f.mask, (96, 96))[0] if squared_share else f.pixels for f in frames]

    def distances(exact_share: float) -> list[float]:
        sampler = CropSampler(frames, [], dataclasses.replace(settings, exact_share=exact_share))
        found = []
        for step in range(3):
            for image in sampler.batch(step)[0][:, 0]:
                forms = [np.rot90(form, k) for form in (image, image.T) for k in range(4)]
                # The crop's middle, where nothing is reflected in, wherever it lies in any frame.
                found.append(
                    min(
                        float(cv2.matchTemplate(whole, np.ascontiguousarray(form[8:56, 8:56]), cv2.TM_SQDIFF).min())
                        for whole in run
                        for form in forms
                    )
                )
        return found

    assert max(distances(1.0)) < 1e-3, "warping is exact to a 32nd of a pixel"
    assert np.median(distances(0.0)) > 1e-2


def test_whole_frames_come_in_their_share_as_the_protocol_sees_them(frames: list[LabelledFrame]) -> None:
    sampling = dataclasses.replace(
        SAMPLING, batch=9, whole_share=0.5, paste=0.0, background_share=0.0, exact_share=1.0, plain_share=1.0
    )
    sampler = CropSampler(frames, [], sampling)
    whole = [resize_protocol(f.pixels, f.mask, (96, 96)) for f in frames]
    steps = 0
    for step in range(40):
        images, masks = sampler.batch(step)
        if images.shape[-1] == 64:
            assert images.shape == masks.shape == (9, 1, 64, 64)
            continue
        assert images.shape == masks.shape == (4, 1, 96, 96), "the work of nine crops of 64x64"
        steps += 1
        for image, mask in zip(images[:, 0], masks[:, 0], strict=True):
            forms = [(np.rot90(i, k), np.rot90(m, k)) for i, m in ((image, mask), (image.T, mask.T)) for k in range(4)]
            assert any(
                np.abs(i - pixels).max() < 0.02 and (m != truth).sum() <= 4 for i, m in forms for pixels, truth in whole
            ), "warping is exact to a 32nd of a pixel"
    assert 10 < steps < 30
