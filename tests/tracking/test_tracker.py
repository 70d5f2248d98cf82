from __future__ import annotations

import dataclasses
import itertools
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from irdet.core.errors import MissingDependency, UsageError
from irdet.core.targets import Target
from irdet.tracking import Tracker, TrackerOptions

MakeTarget = Callable[..., Target]
Play = Callable[..., Any]


def straight(start: tuple[float, float], velocity: tuple[float, float], frames: int) -> NDArray[np.float64]:
    return np.array(start) + np.array(velocity) * np.arange(frames)[:, None]


def heading(rng: np.random.Generator, speed: float) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return speed * np.array([np.cos(angle), np.sin(angle)])


def test_one_target_becomes_one_track_with_the_right_numbers(make_target: MakeTarget) -> None:
    tracker, rng = Tracker(), np.random.default_rng(0)
    states = []
    for index, (x, y) in enumerate(straight((20, 200), (1.5, -0.5), 60)):
        missed = index in (30, 31)
        seen = [] if missed else [make_target(x + rng.normal(0, 0.2), y + rng.normal(0, 0.2), scr=float(index))]
        (track,) = tracker.update(seen, index / 25)
        states.append(track.state)
        assert track.id == 1 and track.age == index + 1 and track.misses == (index - 29 if missed else 0)
        assert track.hits == index + 1 - (2 if index >= 31 else 1 if index == 30 else 0)
        assert track.covariance.shape == (4, 4) and (np.linalg.eigvalsh(track.covariance) > 0).all()
        if index > 10:
            assert (track.x, track.y) == pytest.approx((x, y), abs=1.0)
            assert (track.vx, track.vy) == pytest.approx((1.5, -0.5), abs=0.3)
    assert states == ["tentative"] * 2 + ["confirmed"] * 28 + ["coasted"] * 2 + ["confirmed"] * 28
    assert len(track.trail) == len(track.scr) == tracker.options.history == 32
    assert track.trail[-1].tolist() == [track.x, track.y]
    wanted = np.arange(60.0)
    wanted[30:32] = np.nan
    np.testing.assert_array_equal(track.scr, wanted[-32:])
    assert track.target.scr == 59


def test_the_covariance_is_honest(make_target: MakeTarget) -> None:
    """The normalised error of a target that moves as the filter believes has the mean of its degrees of freedom."""
    options = TrackerOptions(noise=0.5, noise_per_size=0.0, acceleration=0.1, reach=100)
    errors = []
    for seed in range(60):
        rng, tracker = np.random.default_rng(seed), Tracker(options)
        place, velocity = np.array([100.0, 100.0]), rng.normal(0, 2, 2)
        for index in range(40):
            (track, *_) = tracker.update([make_target(*(place + rng.normal(0, 0.5, 2)))], index / 25)
            error = np.array([track.x, track.y, track.vx, track.vy]) - [*place, *velocity]
            if index > 5:
                errors.append(error @ np.linalg.solve(track.covariance, error))
            acceleration = rng.normal(0, 0.1, 2)
            place, velocity = place + velocity + acceleration / 2, velocity + acceleration
    assert 3.4 < np.mean(errors) < 4.6


def test_identities_survive_crossings(play: Play) -> None:
    """Velocities differ by 1 to 3 px/frame; 20 % misses, 5 false targets a frame, one target while they overlap."""
    kept = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        middle, first = rng.uniform((100, 100), (220, 156)), heading(rng, rng.uniform(0.3, 1.5))
        second = first + heading(rng, rng.uniform(1, 3))
        time = np.arange(40)[:, None] - 20
        paths = [middle + first * time, middle + rng.uniform(-1, 1, 2) + second * time]
        played = play([(0, path) for path in paths], seed)
        apart = np.hypot(*(paths[0] - paths[1]).T) > 6
        ends = []
        for thing in (0, 1):
            found = played.followed(thing)
            before = [number for number, far in zip(found[:20], apart[:20], strict=True) if far and number]
            after = [number for number, far in zip(found[20:], apart[20:], strict=True) if far and number]
            ends.append((before[-1], after[-1]) if before and after else (0, 1))
        kept += all(before == after for before, after in ends) and ends[0] != ends[1]
    assert kept >= 95


def test_false_targets_seldom_become_tracks(play: Play) -> None:
    played = play([(0, straight((20, 120), (0.4, 0), 600))], misses=0.2, clutter=5)
    assert played.false > 2800
    assert 20 * len(played.alarms) <= played.false
    # Also counted by frames in which a false track is told, coasted ones included.
    told = sum(track.id in played.alarms for tracks in played.tracks for track in tracks if track.confirmed)
    assert 20 * told <= played.false
    followed = played.followed(0)
    assert sum(number is not None for number in followed) >= 0.95 * len(followed)
    assert len(set(followed) - {None}) == 1


def test_no_target_of_ten_visible_frames_is_lost(play: Play) -> None:
    """Ten frames in which it is found, among 20 % misses and 5 false targets a frame, at up to 4 px/frame."""
    for seed in range(150):
        rng = np.random.default_rng(seed)
        start, velocity = rng.uniform((70, 70), (250, 186)), heading(rng, rng.uniform(0, 4))
        missed, path = rng.random(40) < 0.2, start + velocity * np.arange(40)[:, None]
        last = int(np.flatnonzero(np.cumsum(~missed) == 10)[0])
        # An object for each run of frames in which it is found; nothing is random about its misses then.
        visible = [(index, path[index : index + 1]) for index in range(last + 1) if not missed[index]]
        played = play(visible, seed, misses=0.0)
        near = [
            np.hypot(track.x - x, track.y - y) < 4
            for tracks, truth in zip(played.tracks, played.truth, strict=True)
            for track in tracks
            if track.confirmed
            for x, y in truth.values()
        ]
        assert any(near), seed


def test_a_turning_target_keeps_its_track(play: Play) -> None:
    switches = covered = frames = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        angle = rng.uniform(0, 2 * np.pi) + rng.uniform(0.03, 0.12) * np.arange(100)
        steps = rng.uniform(0.5, 2.5) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        found = play([(0, np.array([160, 128]) + np.cumsum(steps, axis=0))], seed).followed(0)
        numbers = [number for number in found if number is not None]
        switches += sum(one != other for one, other in itertools.pairwise(numbers))
        covered, frames = covered + len(numbers), frames + len(found)
    assert switches <= 2 and covered >= 0.93 * frames


def test_birth_and_death_at_the_border(play: Play) -> None:
    for seed in range(20):
        # In from the left, out to the right; what is outside is not seen.
        played = play([(0, straight((-30, 60), (3, 0.3), 140))], seed, clutter=0)
        found = played.followed(0)
        assert len(found) > 100
        assert [number is not None for number in found[:8]].count(True) >= 2
        left = next(index for index, truth in enumerate(played.truth) if not truth and index > 60)
        assert not any(track.confirmed for track in played.tracks[left + 3])
        inside = [track for tracks in played.tracks for track in tracks if track.state == "coasted"]
        assert all(-2 <= track.x <= 321 for track in inside)


def test_a_shaking_camera(play: Play) -> None:
    rng = np.random.default_rng(5)
    shake = 4.0 * rng.normal(size=(200, 2))
    path = straight((60, 100), (0.7, 0.2), 200) + shake
    compensated = play([(0, path)], 1, shake=shake).followed(0)
    assert len(set(compensated) - {None}) == 1 and compensated.count(None) <= 8
    alone = play([(0, path)], 1, shake=np.zeros_like(shake)).followed(0)
    assert alone.count(None) > 3 * compensated.count(None)


def test_motion_moves_trails_too(make_target: MakeTarget) -> None:
    tracker = Tracker()
    for index in range(6):
        (track,) = tracker.update([make_target(50 + 10 * index, 40)], None, motion=(10.0, 0.0) if index else None)
    assert np.abs(track.trail - track.trail[-1]).max() < 0.5
    assert (track.vx, track.vy) == pytest.approx((0, 0), abs=0.2)


def test_dropped_frames_are_bridged_by_the_clock(make_target: MakeTarget) -> None:
    tracker = Tracker()
    for index in [*range(20), *range(28, 40)]:
        (track,) = tracker.update([make_target(30 + 4 * index, 50)], index / 50)
        assert track.id == 1
    assert track.vx == pytest.approx(4, abs=0.05)
    # Without the clock the eight dropped frames are a jump that no target makes.
    tracker = Tracker()
    for index in [*range(20), *range(28, 40)]:
        tracks = tracker.update([make_target(30 + 4 * index, 50)])
    assert tracks[-1].id == 2 and tracks[-1].misses == 0


def test_frame_rates_make_no_difference(make_target: MakeTarget) -> None:
    told = []
    for rate in (9, 25, 60):
        tracker = Tracker()
        for index in range(20):
            (track,) = tracker.update([make_target(30 + 2 * index, 50)], index / rate)
        told.append((track.x, track.vx, *track.variance))
    assert told[0] == pytest.approx(told[1]) and told[0] == pytest.approx(told[2])


def test_long_spells_without_targets(make_target: MakeTarget) -> None:
    tracker = Tracker()
    for index in range(10):
        (first,) = tracker.update([make_target(50, 50)], index / 25)
    for index in range(10, 2000):
        tracks = tracker.update([], index / 25)
        # It had 10 targets, so it is carried on for 10 frames.
        assert len(tracks) == (index < 20)
    # An hour later in the same place: another target.
    (other,) = tracker.update([make_target(50, 50)], 3600.0)
    assert first.id == 1 and other.id == 2
    (again,) = tracker.update([make_target(50, 50)], 7200.0)
    assert again.id == 3 and again.age == 1


@pytest.mark.parametrize(("coast", "left"), [(0, 0), (1, 1), (5, 5)])
def test_coasting_ends(make_target: MakeTarget, coast: int, left: int) -> None:
    tracker = Tracker(TrackerOptions(coast=coast))
    for _ in range(12):
        tracker.update([make_target(50, 50)])
    told = [tracker.update([]) for _ in range(8)]
    assert [len(tracks) for tracks in told] == [1] * left + [0] * (8 - left)
    assert all(track.state == "coasted" for tracks in told for track in tracks)


def test_m_of_n(make_target: MakeTarget) -> None:
    tracker = Tracker(TrackerOptions(confirm=3, window=5))

    def states(hits: str) -> list[str]:
        tracker.reset()
        told = [tracker.update([make_target(50, 50)] if hit == "x" else []) for hit in hits]
        return [tracks[0].state[0] if tracks else "-" for tracks in told]

    assert states("xxx") == ["t", "t", "c"]
    assert states("x.x.x") == ["t", "t", "t", "t", "c"]
    assert states("x...") == ["t", "t", "t", "-"]
    assert states("xx..x") == ["t", "t", "t", "t", "c"]


def test_thousands_of_targets_take_a_bounded_share(make_target: MakeTarget) -> None:
    options = TrackerOptions(max_targets=60, max_tracks=100)
    tracker, rng = Tracker(options), np.random.default_rng(0)
    for index in range(8):
        best = make_target(100 + index, 90, score=1.0)
        many = [make_target(*(rng.random(2) * (320, 256)), score=0.6) for _ in range(3000)]
        tracks = tracker.update([*many, best], index / 25)
        assert len(tracks) <= 100
    assert tracker.left_out == 8 * (3001 - 60)
    # The one with the best score is always among those that are used.
    assert any(track.confirmed and np.hypot(track.x - 107, track.y - 90) < 1 for track in tracks)


def test_memory_stays_flat(make_target: MakeTarget) -> None:
    rng, tracker = np.random.default_rng(0), Tracker()
    some = [[make_target(*(rng.random(2) * (320, 256))) for _ in range(5)] for _ in range(50)]

    def go(frames: int) -> None:
        for index in range(frames):
            tracker.update(some[index % 50])

    go(300)
    tracemalloc.start()
    try:
        go(300)
        before, _ = tracemalloc.get_traced_memory()
        go(2000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000


def test_time_that_runs_backwards_is_one_line(make_target: MakeTarget) -> None:
    tracker = Tracker()
    for index in range(5):
        tracker.update([make_target(50, 50)], 10 + index / 25)
    with pytest.raises(UsageError, match=r"backwards, from 10.16 to 3 s") as caught:
        tracker.update([make_target(50, 50)], 3.0)
    assert "\n" not in str(caught.value)
    # Nothing has happened: the sequence goes on.
    (track,) = tracker.update([make_target(50, 50)], 10 + 5 / 25)
    assert track.age == 6
    tracker.reset()
    (track,) = tracker.update([make_target(50, 50)], 3.0)
    assert track.id == 2 and track.age == 1


def test_bad_input(make_target: MakeTarget) -> None:
    tracker = Tracker()
    with pytest.raises(UsageError, match="not finite"):
        tracker.update([make_target(1, 1), dataclasses.replace(make_target(2, 2), x=float("nan"))])
    with pytest.raises(UsageError, match="seconds"):
        tracker.update([], float("inf"))
    assert tracker.update([]) == []
    # Time that stands still is no error: some containers do it.
    tracker.update([make_target(5, 5)], 1.0)
    (track,) = tracker.update([make_target(5, 5)], 1.0)
    assert track.hits == 2


@pytest.mark.parametrize(
    "values",
    [
        {"speed": 0},
        {"noise": float("nan")},
        {"gate": -1},
        {"confirm": 4, "window": 3},
        {"confirm": 0},
        {"coast": -1},
        {"max_targets": 0},
        {"noise_per_size": -0.1},
        {"speed": 1e300},
        {"acceleration": float("inf")},
        {"noise_per_size": float("nan")},
    ],
)
def test_options_that_cannot_be(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"tracker {'confirms' if 'confirm' in values else next(iter(values))}"):
        TrackerOptions(**values)  # type: ignore[arg-type]


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingDependency, match=r"tracking needs scipy.*irdet\[track\]"):
        Tracker()


@given(
    st.lists(
        st.lists(st.tuples(st.floats(-20, 340), st.floats(-20, 276), st.integers(1, 200)), max_size=8), max_size=25
    )
)
def test_whatever_comes(make_target: MakeTarget, sequence: list[list[tuple[float, float, int]]]) -> None:
    """A target belongs to one track at most, numbers are given once, and what is told is sound."""
    tracker = Tracker(size=(320, 256))
    known: dict[int, int] = {}
    for index, places in enumerate(sequence):
        targets = [make_target(x, y, area) for x, y, area in places]
        tracks = tracker.update(targets, index / 25)
        numbers = [track.id for track in tracks]
        assert numbers == sorted(set(numbers))
        fresh = [id(track.target) for track in tracks if not track.misses]
        assert len(fresh) == len(set(fresh)) == len(targets)
        for track in tracks:
            assert known.get(track.id, 0) == track.age - 1
            known[track.id] = track.age
            assert 1 <= track.hits <= track.age and len(track.trail) == min(track.age, 32)
            assert np.isfinite([track.x, track.y, track.vx, track.vy, *track.variance]).all()
            assert (np.linalg.eigvalsh(track.covariance) >= -1e-9).all()


@pytest.mark.parametrize(
    "intervals",
    [
        [0.02] * 40 + [0.04] * 40,
        [0.04] * 40 + [0.02] * 40,
        [1 / 30] * 40 + [2 / 30] * 40,
        [0.04] * 30 + [0.4] + [0.04] * 40,
    ],
    ids=["slower", "faster", "every second", "a gap"],
)
@pytest.mark.parametrize("speed", [90.0, 150.0])
def test_a_change_of_the_frame_rate_breaks_no_track(
    make_target: MakeTarget, intervals: list[float], speed: float
) -> None:
    """Velocities are in px per frame, and a frame is no longer what it was."""
    tracker, time, ids = Tracker(TrackerOptions(speed=10, reach=100)), 0.0, set()
    for interval in [0.0, *intervals]:
        time += interval
        tracks = tracker.update([make_target(20 + speed * time, 100)], time)
        ids |= {track.id for track in tracks}
    assert ids == {1}


@pytest.mark.parametrize("size", [3, 5])
def test_frames_in_bursts_break_no_track(make_target: MakeTarget, size: int) -> None:
    """As of a network: several at once, then none for as long as they take."""
    tracker, confirmed, ids = Tracker(), 0, set()
    for index in range(90):
        time = index // size * size * 0.04 + index % size * 0.002
        tracks = tracker.update([make_target(100 + 0.2 * index, 100)], time)
        confirmed += any(track.state == "confirmed" for track in tracks)
        ids |= {track.id for track in tracks[:1] if index > 8 * size}
    assert confirmed >= 90 - 6 * size and len(ids) == 1
