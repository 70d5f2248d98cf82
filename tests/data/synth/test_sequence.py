from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from irdet.core.errors import UsageError
from irdet.core.frame import Preprocessor
from irdet.core.targets import extract_targets
from irdet.data.synth import KINDS, SceneConfig, SynthFrame, generate_frame, generate_sequence
from irdet.data.synth.motion import make_camera, target_path

SMALL = SceneConfig(width=96, height=80, kind="clouds")
STILL = replace(
    SMALL,
    kind="clear",
    bits=16,
    targets=(0, 0),
    pan=(0.0, 0.0),
    shake=(0.0, 0.0),
    noise=(0.0, 0.0),
    fixed_pattern=(0.0, 0.0),
    hot_pixels=(0, 0),
)


def digest(frames: Iterator[SynthFrame]) -> str:
    total = hashlib.sha256()
    for frame in frames:
        total.update(frame.raw.tobytes() + frame.mask.tobytes() + repr(frame.targets).encode())
    return total.hexdigest()


@pytest.mark.parametrize("seed", range(4))
def test_large_targets_leave_the_frame(seed: int) -> None:
    """The light of one that has all but left reaches further than the ground around what is left of it."""
    large = {"targets": (6, 6), "scr": (10.0, 30.0), "area": (100.0, 400.0)}
    config = SceneConfig(width=160, height=128, kind="ridge", **large)  # type: ignore[arg-type]
    for frame in generate_sequence(config, seed, 60):
        assert frame.mask.sum() <= sum(target.area for target in frame.targets)
        assert all(np.isfinite(target.scr) for target in frame.targets)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_seed_stands_for_one_sequence(bits: int) -> None:
    config = replace(SMALL, bits=bits, kind="random")
    assert digest(generate_sequence(config, 3, 4)) == digest(generate_sequence(config, 3, 4))
    assert digest(generate_sequence(config, 3, 4)) != digest(generate_sequence(config, 4, 4))


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("bits", [8, 16])
def test_every_kind_gives_frames_like_natural_ones(kind: str, bits: int) -> None:
    config = replace(SMALL, kind=kind, bits=bits, width=128, height=128, targets=(0, 0), hot_pixels=(0, 0))
    slopes, seen = [], set()
    for seed in range(3):
        frame = generate_frame(config, seed)
        assert frame.raw.shape == (128, 128)
        assert frame.raw.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert frame.raw.max() <= (255 if bits == 8 else 16383)
        assert frame.raw.std() > 1 and len(np.unique(frame.raw)) > 5
        assert not frame.mask.any() and frame.targets == ()
        slopes.append(_slope(frame.raw))
        seen.add(frame.raw.tobytes())
    assert -5.0 < np.median(slopes) < -0.7
    assert len(seen) == 3


def _slope(raw: np.ndarray) -> float:
    side = min(raw.shape)
    window = np.hanning(side)[:, None] * np.hanning(side)[None, :]
    power = np.abs(np.fft.fftshift(np.fft.fft2((raw - raw.mean()) * window))) ** 2
    y, x = np.indices(power.shape) - side // 2
    radius = np.hypot(x, y).astype(int)
    mean = np.bincount(radius.ravel(), power.ravel()) / np.bincount(radius.ravel())
    k = np.arange(2, side // 6)
    return float(np.polyfit(np.log(k), np.log(mean[k]), 1)[0])


def test_a_target_more_changes_nothing_else() -> None:
    one = list(generate_sequence(replace(SMALL, targets=(1, 1)), 5, 3))
    two = list(generate_sequence(replace(SMALL, targets=(2, 2)), 5, 3))
    none = list(generate_sequence(replace(SMALL, targets=(0, 0)), 5, 3))
    for a, b, empty in zip(one, two, none, strict=True):
        first = [target for target in b.targets if target.id == 0]
        assert [(t.x, t.y, t.area) for t in first] == [(t.x, t.y, t.area) for t in a.targets]
        near = np.zeros(empty.mask.shape, bool)
        for target in b.targets:
            left, upper, width, height = target.bbox
            near[max(0, upper - 15) : upper + height + 15, max(0, left - 15) : left + width + 15] = True
        np.testing.assert_array_equal(b.raw[~near], empty.raw[~near])
        assert (b.raw != empty.raw).any()


@pytest.mark.parametrize("kind", ["clear", "cirrus", "trees", "sea"])
def test_the_ratio_asked_for_is_met(kind: str) -> None:
    config = SceneConfig(112, 96, kind, bits=16, targets=(1, 2), scr=(6.0, 6.0), area=(6, 40), shake=(0, 0))
    errors = []
    for seed in range(6):
        frame = generate_frame(config, seed)
        found = extract_targets(frame.mask.astype(np.float32), Preprocessor()(frame.raw))
        by_box = {target.bbox: target for target in found}
        for truth in frame.targets:
            assert by_box[truth.bbox].scr == pytest.approx(truth.scr, rel=1e-3)
            errors.append(abs(truth.scr / 6.0 - 1))
    assert len(errors) >= 6
    assert np.quantile(errors, 0.8) < 0.1  # the rest stand before clutter that leaves them no room


def test_number_area_and_place_of_targets() -> None:
    config = SceneConfig(128, 128, "clouds", bits=16, targets=(3, 3), scr=(8, 20), area=(12, 40))
    for seed in range(5):
        frame = generate_frame(config, seed)
        assert len(frame.targets) == 3
        for target in frame.targets:
            assert 12 * 0.75 - 1 <= target.area <= 40 * 1.25 + 1
            left, upper, width, height = target.bbox
            assert left - 1 <= target.x <= left + width and upper - 1 <= target.y <= upper + height
            assert min(left, upper) > 0 and left + width < 128 and upper + height < 128
            assert frame.mask[upper : upper + height, left : left + width].sum() >= target.area
        assert frame.mask.sum() == sum(target.area for target in frame.targets)


def test_targets_move_as_their_velocity_says() -> None:
    config = replace(
        SMALL, width=128, height=128, targets=(3, 3), speed=(1.0, 1.5), manoeuvring=0.0, pan=(0, 0), shake=(0, 0)
    )
    tracks: dict[int, list[tuple[int, float, float, float, float]]] = {}
    for frame in generate_sequence(config, 2, 30):
        for t in frame.targets:
            tracks.setdefault(t.id, []).append((frame.index, t.x, t.y, t.vx, t.vy))
    assert len(tracks) == 3
    for track in tracks.values():
        assert len(track) >= 5
        for (i, x, y, vx, vy), (j, x2, y2, vx2, vy2) in pairwise(track):
            assert (x2 - x, y2 - y) == pytest.approx(((j - i) * vx, (j - i) * vy), abs=1e-6)
            assert (vx2, vy2) == pytest.approx((vx, vy), abs=1e-9)
            assert 1.0 <= np.hypot(vx, vy) <= 1.5


def test_a_moving_camera_moves_everything() -> None:
    config = replace(SMALL, kind="ground", targets=(1, 1), speed=(0, 0), pan=(1, 1), shake=(0, 0), noise=(0, 0))
    frames = list(generate_sequence(config, 1, 12))
    path = [(t.x, t.y) for frame in frames for t in frame.targets]
    steps = np.hypot(*np.diff(path, axis=0).T)
    assert steps.max() <= 1.1 and steps.mean() > 0.1
    # Follow the ground by correlation, and the target with it.
    first, last = frames[0], frames[-1]
    assert first.targets and last.targets
    dx, dy = (round(a - b) for a, b in zip(path[-1], path[0], strict=True))
    assert (dx, dy) != (0, 0)
    inner = slice(16, -16)
    moved = np.roll(first.raw.astype(float), (dy, dx), (0, 1))[inner, inner]
    now = last.raw.astype(float)[inner, inner]
    assert np.abs(moved - now).mean() < 0.6 * np.abs(first.raw.astype(float)[inner, inner] - now).mean()


def test_manoeuvres_keep_the_speed_and_turn() -> None:
    path = target_path(np.random.default_rng(0), 60, 20, (50.0, 40.0), 1.25, True)
    steps = np.diff(path, axis=0)
    assert path.shape == (61, 2) and path[20] == pytest.approx((50, 40))
    np.testing.assert_allclose(np.hypot(*steps.T), 1.25, atol=1e-9)
    assert np.ptp(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))) > 0.2


def test_camera_stays_within_reach_and_keeps_its_pace() -> None:
    for seed in range(5):
        path = make_camera(np.random.default_rng(seed), 12.0, 0.7, 0.0).path(300)
        assert np.abs(path).max() <= 12.0
        assert np.hypot(*np.diff(path, axis=0).T).max() <= 0.8
    shaken = make_camera(np.random.default_rng(0), 12.0, 0.0, 0.5).path(2000)
    assert shaken.std(axis=0) == pytest.approx((0.5, 0.5), rel=0.5)
    np.testing.assert_array_equal(shaken[:50], make_camera(np.random.default_rng(0), 12.0, 0.0, 0.5).path(50))


@pytest.mark.parametrize("sigma", [2.0, 12.0])
def test_noise_has_the_deviation_asked_for(sigma: float) -> None:
    a, b = (frame.raw.astype(float) for frame in generate_sequence(replace(STILL, noise=(sigma, sigma)), 0, 2))
    assert (a - b).std() / np.sqrt(2) == pytest.approx(np.hypot(sigma, 0.29), rel=0.03)


def test_fixed_pattern_stays_over_frames() -> None:
    clean = next(generate_sequence(STILL, 0, 3)).raw.astype(float)
    frames = [f.raw.astype(float) - clean for f in generate_sequence(replace(STILL, fixed_pattern=(20, 20)), 0, 3)]
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0], frames[2])
    assert 17 < frames[0].std() < 40  # offsets, and responses that grow with the distance from mid range
    assert frames[0].mean(axis=0).std() > 3 * 20 / np.sqrt(80)  # it has columns


def test_hot_pixels_stay_over_frames() -> None:
    config = replace(STILL, kind="clouds", bits=8, hot_pixels=(9, 9), noise=(2, 2), pan=(0.5, 0.5))
    stack = np.stack([frame.raw for frame in generate_sequence(config, 0, 8)])
    frozen = np.ptp(stack, axis=0) == 0
    assert frozen.sum() == 9
    scene = stack[0].astype(float)
    away = np.abs(scene[frozen] - scene.mean())
    assert (away > 2 * np.minimum(scene.std(), scene.mean() / 2.1)).all()


def test_targets_ride_over_hot_pixels_without_lighting_them() -> None:
    config = replace(STILL, bits=16, hot_pixels=(2000, 2000), targets=(1, 1), area=(40, 60), scr=(20, 20))
    frame = generate_frame(config, 0)
    bare = generate_frame(replace(config, targets=(0, 0)), 0)
    clean = generate_frame(replace(config, targets=(0, 0), hot_pixels=(0, 0)), 0)
    stuck = bare.raw != clean.raw
    assert stuck.sum() >= 1900
    np.testing.assert_array_equal(frame.raw[stuck], bare.raw[stuck])
    assert not (frame.mask & stuck).any()


def test_unusable_requests() -> None:
    with pytest.raises(UsageError, match="at least 1 frame"):
        generate_sequence(SMALL, 0, 0)
    with pytest.raises(UsageError, match="seed -1"):
        generate_frame(SMALL, -1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 8}, "width 8"),
        ({"height": 9000}, "height 9000"),
        ({"bits": 12}, "bits 12"),
        ({"kind": "cloudz"}, "'cloudz'.*clouds"),
        ({"kind": "sea,qqqq"}, "'qqqq'.*known"),
        ({"kind": "sea,random"}, "'random'"),
        ({"shapes": ()}, "shapes"),
        ({"shapes": ("plain",)}, "'plain'.*plane"),
        ({"targets": (3, 1)}, "targets 3,1"),
        ({"targets": (0.5, 1)}, "targets"),
        ({"scr": (0, 5)}, "scr 0,5"),
        ({"area": (0.5, 5)}, "area"),
        ({"noise": (-1, 2)}, "noise -1,2"),
        ({"psf": (0.1, float("inf"))}, "psf"),
        ({"manoeuvring": 1.5}, "manoeuvring"),
    ],
)
def test_configurations_that_cannot_be(change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(SMALL, **change)


def test_smallest_frame_and_several_kinds() -> None:
    frame = generate_frame(SceneConfig(16, 16, "sea,buildings", targets=(3, 3)), 0)
    assert frame.raw.shape == (16, 16)
    assert SceneConfig(kind="sea, buildings").kinds == ("sea", "buildings")
    assert SceneConfig().kinds == tuple(KINDS)
