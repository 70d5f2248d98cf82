from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.metrics.target import Components, match_targets, poisson_bounds

SHAPE = (40, 48)
Mask = NDArray[np.bool_]


def dots(*places: tuple[int, int]) -> Mask:
    """A mask with single pixels at (x, y)."""
    mask = np.zeros(SHAPE, bool)
    for x, y in places:
        mask[y, x] = True
    return mask


def blobs(seed: int, most: int = 8) -> Mask:
    """A few rectangles of up to 4 px a side, near each other."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((24, 24), bool)
    for _ in range(generator.integers(0, most + 1)):
        x, y = generator.integers(0, 21, 2)
        width, height = generator.integers(1, 4, 2)
        mask[y : y + height, x : x + width] = True
    return mask


def flood(mask: Mask) -> list[set[tuple[int, int]]]:
    """8-connected components as sets of (y, x), the slow way."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    components = []
    while left:
        queue, component = [left.pop()], set()
        while queue:
            y, x = queue.pop()
            component.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            queue += near
        components.append(component)
    return components


def distances(predicted: Mask, truth: Mask) -> dict[tuple[int, int], float]:
    """All distances between centroids, by index into `flood`'s lists."""
    guesses, trues = ([np.mean(list(c), axis=0) for c in flood(mask)] for mask in (predicted, truth))
    return {(i, j): round(float(np.hypot(*(g - t))), 7) for i, g in enumerate(guesses) for j, t in enumerate(trues)}


def brute_force(predicted: Mask, truth: Mask, distance: float) -> tuple[int, int, int]:
    """Matched, missed and false pixels: again and again the nearest pair that is left."""
    guesses, trues = flood(predicted), flood(truth)
    open_pairs = {pair: d for pair, d in distances(predicted, truth).items() if d < distance}
    pairs = []
    while open_pairs:
        best = min(open_pairs, key=open_pairs.__getitem__)
        pairs.append(best)
        open_pairs = {p: d for p, d in open_pairs.items() if p[0] != best[0] and p[1] != best[1]}
    found = {i for i, _ in pairs}
    return len(pairs), len(trues) - len(pairs), sum(len(g) for i, g in enumerate(guesses) if i not in found)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([1.5, 3.0, 6.0]))
def test_against_brute_force(a: int, b: int, distance: float) -> None:
    predicted, truth = blobs(a), blobs(b)
    near = [d for d in distances(predicted, truth).values() if d < distance]
    assume(len(set(near)) == len(near))  # ties may be resolved either way
    match = match_targets(predicted, truth, distance)
    assert (len(match.pairs), len(match.missed), match.false_pixels) == brute_force(predicted, truth, distance)
    assert len(match.false) == len(flood(predicted)) - len(match.pairs)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_flips_and_transposition_change_nothing(a: int, b: int) -> None:
    predicted, truth = blobs(a), blobs(b)
    near = [d for d in distances(predicted, truth).values() if d < 3]
    assume(len(set(near)) == len(near))
    plain = match_targets(predicted, truth)
    for turned in (np.flipud, np.fliplr, np.transpose):
        match = match_targets(turned(predicted), turned(truth))
        assert (len(match.pairs), len(match.missed)) == (len(plain.pairs), len(plain.missed))
        assert match.false_pixels == plain.false_pixels


@given(st.integers(0, 10**6))
def test_a_mask_matches_itself(seed: int) -> None:
    mask = blobs(seed)
    components = flood(mask)
    centroids = {tuple(np.mean(list(component), axis=0)) for component in components}
    assume(len(centroids) == len(components))  # a ring around a dot shares its centroid
    match = match_targets(mask, mask)
    assert (len(match.pairs), match.missed, match.false, match.false_pixels) == (len(components), (), (), 0)


def test_distance_is_strict() -> None:
    assert len(match_targets(dots((10, 10)), dots((13, 10))).pairs) == 0
    assert len(match_targets(dots((10, 10)), dots((13, 10)), distance=3.01).pairs) == 1
    assert len(match_targets(dots((10, 10)), dots((12, 12))).pairs) == 1


def test_exactly_three_pixels_through_thirds() -> None:
    # Centroids at 10 1/3 and 13 1/3: their difference is 3 only up to rounding.
    truth, predicted = dots((10, 10), (10, 11), (11, 11)), dots((13, 10), (13, 11), (14, 11))
    assert match_targets(predicted, truth).pairs == ()


def test_nearest_pair_goes_first_and_one_to_one() -> None:
    # The prediction at 12 is nearer to the second target (13) than to the first (10).
    match = match_targets(dots((12, 10)), dots((10, 10), (14, 10), (30, 30)) | dots((13, 12)))
    assert len(match.pairs) == 1
    match = match_targets(dots((12, 10), (16, 10)), dots((10, 10), (13, 10)))
    # 12-13 is nearest; 16-13 is too far, 12 is taken: the first target is missed, the second prediction is false.
    assert (len(match.pairs), len(match.missed), match.false_pixels) == (1, 1, 1)
    true = match.truth.centroids[match.pairs[0][1]]
    assert true.tolist() == [13.0, 10.0]


def test_two_predictions_on_one_target_leave_one_false() -> None:
    match = match_targets(dots((10, 10), (12, 10)), dots((11, 10)))
    assert (len(match.pairs), len(match.missed), len(match.false)) == (1, 0, 1)


def test_false_blob_of_the_same_area_as_a_matched_one_still_counts() -> None:
    match = match_targets(dots((10, 10), (30, 30)), dots((10, 10)))
    assert (len(match.pairs), match.false_pixels) == (1, 1)


def test_overlap_is_not_enough() -> None:
    truth, predicted = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    truth[10:13, 10:13] = True
    predicted[10:13, 10:20] = True  # covers it, but its centroid is 3.5 px off
    match = match_targets(predicted, truth)
    assert (match.missed, match.false_pixels) == ((0,), 30)


def test_centroid_is_of_the_mask_and_diagonals_connect() -> None:
    components = Components.of(dots((3, 4), (4, 5), (5, 6)))
    assert (components.centroids.tolist(), components.areas.tolist()) == ([[4.0, 5.0]], [3])
    assert len(Components.of(dots((3, 4), (4, 5), (5, 6)), connectivity=4)) == 3


def test_wrong_arguments() -> None:
    with pytest.raises(UsageError, match="connectivity 6"):
        match_targets(dots((1, 1)), dots((1, 1)), connectivity=6)
    with pytest.raises(UsageError, match="does not fit"):
        match_targets(dots((1, 1)), dots((1, 1))[:-1])
    with pytest.raises(UsageError, match="-1"):
        poisson_bounds(-1)


def cdf(count: int, mean: float) -> float:
    return math.fsum(math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(count + 1))


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 2, 7, 40, 1000])
def test_poisson_bounds_meet_their_definition(count: int, confidence: float) -> None:
    lower, upper = poisson_bounds(count, confidence)
    assert lower < count < upper
    assert cdf(count, upper) == pytest.approx(1 - confidence, rel=1e-6)
    assert 1 - cdf(count - 1, lower) == pytest.approx(1 - confidence, rel=1e-6)


def test_none_seen_means_below_three() -> None:
    lower, upper = poisson_bounds(0)
    assert (lower, upper) == (0.0, pytest.approx(-math.log(0.05)))


def test_poisson_bounds_from_tables() -> None:
    # Garwood's limits as printed in tables (Ricker, JASA 32, 1937), 95 % two-sided: 2.5 % on each side.
    assert poisson_bounds(5, 0.975) == (pytest.approx(1.62, abs=0.005), pytest.approx(11.67, abs=0.005))
    assert poisson_bounds(10, 0.975) == (pytest.approx(4.80, abs=0.005), pytest.approx(18.39, abs=0.005))


def test_poisson_bounds_of_large_counts_approach_the_normal() -> None:
    lower, upper = poisson_bounds(1_000_000)
    assert lower == pytest.approx(1_000_000 - 1645, abs=5)
    assert upper == pytest.approx(1_000_000 + 1646, abs=5)
