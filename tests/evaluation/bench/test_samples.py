from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irdet.evaluation.bench.samples import collect, ratio

TIMES = st.lists(
    st.lists(st.floats(1e-5, 1.0), min_size=1, max_size=20),
    min_size=1,
    max_size=8,
)


@given(TIMES)
def test_figures_are_numpys_and_ordered(rounds: list[list[float]]) -> None:
    samples = collect(rounds)
    told = samples.to_dict()
    flat = 1e3 * np.array([one for part in rounds for one in part])
    assert told["count"] == len(flat)
    assert told["p90_ms"] == pytest.approx(np.percentile(flat, 90))
    assert told["mean_ms"] == pytest.approx(flat.mean())
    assert told["cov"] == pytest.approx(flat.std() / flat.mean(), abs=1e-9)
    order = [told[key] for key in ("min_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms")]
    assert order == sorted(order)


@given(TIMES, st.floats(0.1, 10.0))
def test_a_constant_factor_is_found_exactly_whatever_the_machine_does(rounds: list[list[float]], by: float) -> None:
    one, other = collect([[by * x for x in part] for part in rounds]), collect(rounds)
    found = ratio(one, other)
    assert found.low == pytest.approx(by) and found.value == pytest.approx(by) and found.high == pytest.approx(by)
    assert ratio(other, other).value == 1


def test_the_interval_holds_the_truth_on_a_machine_that_drifts() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(40):
        drift = np.exp(np.cumsum(rng.normal(0, 0.3, 10)))
        other = collect([(d * rng.lognormal(0, 0.1, 30)).tolist() for d in drift])
        one = collect([(1.5 * d * rng.lognormal(0, 0.1, 30)).tolist() for d in drift])
        found = ratio(one, other)
        hits += found.low <= 1.5 <= found.high
        assert found.high - found.low < 0.3
    assert hits >= 33
