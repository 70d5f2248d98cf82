from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, UsageError
from irdet.core.info import ModelInfo
from irdet.engines import open_engine
from irdet.engines.base import BaseEngine
from irdet.evaluation.bench.fresh import peak_memory, run_fresh
from irdet.evaluation.bench.measure import ROUNDS, BenchOptions, bench
from irdet.evaluation.bench.report import save_picture, save_record, save_times

QUICK = BenchOptions(size=(96, 72), warmup=0.0, duration=0.02)


class Counting(BaseEngine):
    """Gives nothing, and keeps who ran when, and in which shape."""

    info = ModelInfo("counting", stride=8)
    runtime = "none"
    max_batch = 4

    def __init__(self, log: list[tuple[str, tuple[int, ...]]], name: str) -> None:
        self._log, self._name = log, name

    @property
    def device_times(self) -> Mapping[str, float]:
        return {"h2d": 1e-3, "compute": 2e-3}

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self._log.append((self._name, batch.shape))
        return np.zeros_like(batch)

    def _release(self) -> None:
        pass


def test_engines_run_in_turns_alone_and_end_to_end() -> None:
    log: list[tuple[str, tuple[int, ...]]] = []
    options = BenchOptions(size=(90, 70), batch=3, warmup=0.0, duration=0.0, iterations=12)
    found = bench([(name, Counting(log, name)) for name in "ab"], options)
    assert [one.input for one in found.results] == [(3, 1, 72, 96)] * 2
    for one in found.results:
        assert len(one.engine.seconds) == len(one.end_to_end.seconds) == 12  # two rounds more than ROUNDS
        assert {name: times.percentile(50) for name, times in one.device.items()} == {"h2d": 1e-3, "compute": 2e-3}
        for stage in one.stages.values():
            assert len(stage.seconds) == 12
    rounds = log[4:]  # after the warm-up, which is once of each kind for each
    assert {shape for _, shape in rounds} == {(3, 1, 72, 96), (1, 1, 72, 96)}
    # Whoever begins a round changes with it.
    assert [name for name, _ in rounds[::4]] == ["a", "b"] * 6


def test_real_engines_and_their_files(tmp_path: Path) -> None:
    with open_engine("tophat") as one, open_engine("mpcm") as other:
        found = bench([("tophat", one), ("mpcm", other)], QUICK)
    first, second = found.ratios()
    assert first.value == 1 and second.low <= second.value <= second.high
    for result in found.results:
        parts = sum(times.seconds.sum() for times in result.stages.values())
        assert 0.5 * result.end_to_end.seconds.sum() < parts <= result.end_to_end.seconds.sum()
        assert (result.throughput > 0 and result.watts is None) or result.sensor
        mean = float(result.end_to_end.seconds.mean())
        assert replace(result, watts=5.0).joules_per_frame == pytest.approx(5 * mean)
        paced = replace(result, watts=5.0, idle=0.05).joules_per_frame
        assert paced == pytest.approx(5 * (mean + 0.05)), "the meter runs while the board rests"

    record = json.loads(save_record(tmp_path / "bench.json", found).read_text())
    assert [one["name"] for one in record["engines"]] == ["tophat", "mpcm"]
    assert record["machine"]["cores"] >= 1 and record["options"]["size"] == [96, 72]
    times = json.loads(save_times(tmp_path / "times.json", found).read_text())
    assert len(times["mpcm"]["end_to_end"]) >= ROUNDS
    assert sum(map(len, times["tophat"]["engine"])) == record["engines"][0]["engine"]["count"]
    pytest.importorskip("matplotlib")
    assert save_picture(tmp_path / "latency.png", found).read_bytes().startswith(b"\x89PNG")


class Bright(Counting):
    """Counts the pixels far brighter than a made background in what comes end to end, one frame at a time."""

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(batch) == 1:  # end to end
            self._log.append(("bright", (int((batch > 0.55).sum()),)))
        return np.zeros_like(batch)


@pytest.mark.parametrize(("targets", "least", "most"), [(0, 0, 0), (3, 1, 150), (100, 151, 5000)])
def test_frames_hold_as_many_targets_as_asked(targets: int, least: int, most: int) -> None:
    log: list[tuple[str, tuple[int, ...]]] = []
    options = BenchOptions(size=(320, 256), batch=2, warmup=0.0, duration=0.0, targets=targets)
    bench([("a", Bright(log, "a"))], options)
    assert log and all(least <= pixels[0] <= most for _, pixels in log)


def test_a_frame_is_looked_at_in_as_many_ways_round_as_asked() -> None:
    logs: dict[int, list[tuple[str, tuple[int, ...]]]] = {1: [], 4: []}
    for views, log in logs.items():
        bench([("a", Bright(log, "a"))], replace(QUICK, batch=2, duration=0.0, warmup=0.0, iterations=10, views=views))
    assert len(logs[4]) == 4 * len(logs[1]) > 0


def test_misuse() -> None:
    log: list[tuple[str, tuple[int, ...]]] = []
    with pytest.raises(UsageError, match="at most 4 frames"):
        bench([("a", Counting(log, "a"))], BenchOptions(batch=5))
    with pytest.raises(UsageError, match="each of them once"):
        bench([("a", Counting(log, "a"))] * 2, QUICK)
    for wrong in ({"size": (0, 4)}, {"batch": 0}, {"idle": -1.0}, {"targets": -1}, {"views": 3}):
        with pytest.raises(UsageError):
            BenchOptions(**wrong)


def test_a_fresh_process_tells_start_and_memory() -> None:
    fresh = run_fresh("tophat", "cpu", 1, (96, 72), 3, views=2)
    assert 0 < fresh.first < fresh.start_to_result < 60 and fresh.load > 0
    assert 10 << 20 < fresh.peak_memory < 1 << 30
    assert peak_memory() > 10 << 20
    with pytest.raises(IrdetError, match="no model is called"):
        run_fresh("tophot", "cpu", None, (96, 72), 3)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_is_that_of_the_new_process_alone() -> None:
    ballast = np.ones(300 << 20, np.uint8)
    assert run_fresh("tophat", "cpu", 1, (64, 64), 3).peak_memory < ballast.nbytes
