"""Rounds over several engines: in each, every engine runs for a while alone and then end to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet import __version__
from irdet.core.errors import UsageError
from irdet.core.frame import Pixels, Preprocessor, pad_to_multiple
from irdet.core.jsonable import jsonable
from irdet.core.machine import Machine, read_machine
from irdet.engines.base import BaseEngine
from irdet.engines.probe import probe_frame
from irdet.evaluation.bench.fresh import FreshRun
from irdet.evaluation.bench.power import Meter, Sensor, find_sensor, metered
from irdet.evaluation.bench.samples import Ratio, Samples, collect, ratio
from irdet.metrics.accumulator import MetricsResult
from irdet.runtime.detector import Detector, check_views

#: Stages of a frame, as `Detection.times` has them.
STAGES = ("preprocess", "inference", "targets")

#: Rounds that the duration is divided into, at least.
ROUNDS = 10

#: Frames that are gone through in turn, so that no branch of the code is learned by heart.
FRAMES = 4

#: Seconds of an iteration, and of its parts.
_Timed = tuple[float, Mapping[str, float]]


@dataclass(frozen=True)
class BenchOptions:
    """How is measured; the defaults are trtexec's.

    Attributes:
        size: Width and height of the frames, px.
        batch: Frames at once, for the engine alone.
        warmup: Seconds of each kind before anything counts.
        duration: Seconds of each kind for each engine, at least.
        iterations: Iterations of each kind, at least.
        idle: Seconds of rest between two frames, as a camera gives them to a device.
        targets: Bright spots in each frame: each that is found takes time. 98 in 100 of SIRST's frames hold at most 3.
        views: Ways round in which each frame is looked at, end to end.
    """

    size: tuple[int, int] = (640, 512)
    batch: int = 1
    warmup: float = 0.2
    duration: float = 3.0
    iterations: int = 10
    idle: float = 0.0
    targets: int = 3
    views: int = 1

    def __post_init__(self) -> None:
        """Refuses values that cannot be."""
        if min(self.size) < 1 or self.batch < 1 or self.iterations < 1:
            raise UsageError("size, batch and iterations must be at least 1")
        if min(self.warmup, self.duration, self.idle, self.targets) < 0:
            raise UsageError("warm-up, duration, idle time and targets must not be negative")
        check_views(self.views)


@dataclass(frozen=True, eq=False)
class Measured:
    """One engine's figures.

    Attributes:
        name: As the user named it.
        model: Name of the network.
        runtime: What computes it, and where.
        precision: The record's.
        input: Shape of the batch that the engine alone ran.
        engine: Seconds of `Engine.run`, array to array, for the whole batch.
        end_to_end: Seconds from the raw frame in memory to the list of targets.
        stages: Seconds of `STAGES` within `end_to_end`.
        device: Seconds on a GPU between CUDA's events, and to enqueue; empty on a CPU.
        fresh: A new process' first frame; None where it was not asked for.
        watts: Mean power while it ran end to end, rests between frames included; None where the machine does not tell.
        idle: Rest after each frame, s.
        sensor: What was read for it.
        accuracy: Metrics on the user's data; None where none were given.
        notes: What the engine had to assume.
    """

    name: str
    model: str
    runtime: str
    precision: str
    input: tuple[int, ...]
    engine: Samples
    end_to_end: Samples
    stages: Mapping[str, Samples]
    device: Mapping[str, Samples]
    fresh: FreshRun | None
    watts: float | None
    sensor: str | None
    accuracy: MetricsResult | None
    notes: tuple[str, ...]
    idle: float = 0.0

    @property
    def throughput(self) -> float:
        """Frames per second of the engine alone."""
        return self.input[0] / float(self.engine.seconds.mean())

    @property
    def joules_per_frame(self) -> float | None:
        """Energy of a frame end to end and of the rest after it, J."""
        return None if self.watts is None else self.watts * (float(self.end_to_end.seconds.mean()) + self.idle)

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON values; times in ms."""
        accuracy = None if self.accuracy is None else self.accuracy.to_dict()
        return {
            "name": self.name,
            "model": self.model,
            "runtime": self.runtime,
            "precision": self.precision,
            "input": list(self.input),
            "engine": self.engine.to_dict(),
            "throughput_fps": self.throughput,
            "end_to_end": self.end_to_end.to_dict(),
            "stages": {name: samples.to_dict() for name, samples in self.stages.items()},
            "device": {name: samples.to_dict() for name, samples in self.device.items()},
            "fresh": None if self.fresh is None else asdict(self.fresh),
            "watts": self.watts,
            "joules_per_frame": self.joules_per_frame,
            "sensor": self.sensor,
            "accuracy": jsonable(accuracy),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Bench:
    """What was measured, how, and on what machine.

    Attributes:
        results: One for each engine, in the order that they were named.
        options: How was measured.
        machine: Where.
        date: When, ISO 8601 in UTC.
    """

    results: tuple[Measured, ...]
    options: BenchOptions
    machine: Machine
    date: str

    def ratios(self, kind: str = "end_to_end") -> tuple[Ratio, ...]:
        """Returns each engine's time by the first one's.

        Args:
            kind: `"end_to_end"` or `"engine"`.
        """
        first: Samples = getattr(self.results[0], kind)
        return tuple(ratio(getattr(one, kind), first) for one in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the single times as JSON values."""
        engines = [one.to_dict() for one in self.results]
        for kind in ("engine", "end_to_end"):
            for entry, found in zip(engines, self.ratios(kind), strict=True):
                entry[kind]["ratio_to_first"] = [found.value, found.low, found.high]
        return {
            "irdet": __version__,
            "date": self.date,
            "machine": self.machine.to_dict(),
            "options": asdict(self.options),
            "engines": engines,
        }


@dataclass
class _Runner:
    """One engine with its frames, and the times that it has gathered."""

    name: str
    engine: BaseEngine
    detector: Detector
    batch: Pixels
    frames: list[NDArray[np.uint8]]
    sensor: Sensor | None
    idle: float
    turn: int = 0
    meter: Meter = field(default_factory=Meter)
    alone: list[list[float]] = field(default_factory=list)
    whole: list[list[float]] = field(default_factory=list)
    stages: dict[str, list[list[float]]] = field(default_factory=lambda: {name: [] for name in STAGES})
    device: dict[str, list[list[float]]] = field(default_factory=dict)

    def run_alone(self) -> _Timed:
        start = time.perf_counter()
        self.engine.run(self.batch)
        seconds = time.perf_counter() - start
        return seconds, getattr(self.engine, "device_times", {})

    def run_whole(self) -> _Timed:
        raw = self.frames[self.turn % len(self.frames)]
        self.turn += 1
        start = time.perf_counter()
        frame = Preprocessor()(raw)
        ready = time.perf_counter()
        detection = self.detector.detect(frame)
        seconds = time.perf_counter() - start
        return seconds, {**detection.times, "preprocess": detection.times["preprocess"] + ready - start}

    def for_a_while(self, what: Callable[[], _Timed], seconds: float) -> list[_Timed]:
        """Repeats something for some seconds, at least once; the rests between do not count for them."""
        found: list[_Timed] = []
        spent = 0.0
        while not found or spent < seconds:
            found.append(what())
            spent += found[-1][0]
            if self.idle:
                time.sleep(self.idle)
        return found

    def round(self, seconds: float) -> None:
        alone = self.for_a_while(self.run_alone, seconds)
        with metered(self.sensor, self.meter):
            whole = self.for_a_while(self.run_whole, seconds)
        self.alone.append([one for one, _ in alone])
        self.whole.append([one for one, _ in whole])
        for name, rounds in self.stages.items():
            rounds.append([times[name] for _, times in whole])
        for name in alone[0][1]:
            self.device.setdefault(name, []).append([times[name] for _, times in alone])

    @property
    def enough(self) -> int:
        return min(sum(map(len, self.alone)), sum(map(len, self.whole)))


def bench(
    engines: Sequence[tuple[str, BaseEngine]],
    options: BenchOptions,
    *,
    fresh: Mapping[str, FreshRun] | None = None,
    accuracy: Mapping[str, MetricsResult] | None = None,
    advance: Callable[[], object] = lambda: None,
    root: Path = Path("/"),
) -> Bench:
    """Measures engines in rounds, each in turn in every round, starting with another one in each.

    Args:
        engines: Name and engine of each; they stay the caller's to close.
        options: How to measure.
        fresh: First frames in new processes, by name.
        accuracy: Metrics on the user's data, by name.
        advance: Called after every one of the first `ROUNDS` rounds.
        root: Where the system's files begin, for the machine's record and its sensors.

    Returns:
        The figures.

    Raises:
        UsageError: No engines, two of one name, or a batch that one cannot take.
        ModelError: An engine failed.
    """
    names = [name for name, _ in engines]
    if not engines or len(set(names)) < len(names):
        raise UsageError("name at least one engine, and each of them once")
    runners = [_runner(name, engine, options, root) for name, engine in engines]
    for runner in runners:
        runner.for_a_while(runner.run_alone, options.warmup)
        runner.for_a_while(runner.run_whole, options.warmup)
    done = 0
    while done < ROUNDS or min(runner.enough for runner in runners) < options.iterations:
        for index in range(len(runners)):
            runners[(index + done) % len(runners)].round(options.duration / ROUNDS)
        done += 1
        if done <= ROUNDS:
            advance()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    results = tuple(_measured(runner, fresh or {}, accuracy or {}) for runner in runners)
    return Bench(results, options, read_machine(root), now)


def _runner(name: str, engine: BaseEngine, options: BenchOptions, root: Path) -> _Runner:
    width, height = options.size
    info = engine.info
    if engine.max_batch is not None and options.batch > engine.max_batch:
        raise UsageError(f"{name} takes at most {engine.max_batch} frames at once, not {options.batch}")
    raws = [probe_frame(height, width, seed, options.targets) for seed in range(FRAMES)]
    # An engine of a fixed size runs alone at its own size; end to end it gets tiles of the frame.
    own = Preprocessor()(probe_frame(info.height or height, info.width or width))
    frame = pad_to_multiple(own.of_type(engine.dtype), info.stride)
    batch = np.ascontiguousarray(np.broadcast_to(frame, (options.batch, 1, *frame.shape)))
    sensor = find_sensor(engine.device != "cpu", root)
    return _Runner(name, engine, Detector(engine, views=options.views), batch, raws, sensor, options.idle)


def _measured(runner: _Runner, fresh: Mapping[str, FreshRun], accuracy: Mapping[str, MetricsResult]) -> Measured:
    engine = runner.engine
    return Measured(
        name=runner.name,
        model=engine.info.variant,
        runtime=engine.runtime,
        precision=engine.info.precision,
        input=runner.batch.shape,
        engine=collect(runner.alone),
        end_to_end=collect(runner.whole),
        stages={name: collect(rounds) for name, rounds in runner.stages.items()},
        device={name: collect(rounds) for name, rounds in runner.device.items()},
        fresh=fresh.get(runner.name),
        watts=runner.meter.watts,
        sensor=runner.sensor.name if runner.sensor else None,
        accuracy=accuracy.get(runner.name),
        notes=engine.notes,
        idle=runner.idle,
    )
