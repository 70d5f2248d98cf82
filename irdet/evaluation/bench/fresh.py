"""A process of its own for one model: how long until the first result, and how much memory that takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from irdet.core.child import python
from irdet.core.errors import IrdetError

#: What the process runs; prints one line of JSON.
_PROGRAM = "from irdet.evaluation.bench.fresh import main; main(*sys.argv[1:])"

#: A process that has given nothing after this time hangs (s).
PATIENCE = 600.0


@dataclass(frozen=True)
class FreshRun:
    """A model's first frame in a new process.

    Attributes:
        load: Seconds to open the engine.
        first: Seconds of the first frame, memory allocated and kernels chosen on the way.
        start_to_result: Seconds from the start of the process to the first targets.
        peak_memory: Bytes of resident memory at most, after some more frames.
    """

    load: float
    first: float
    start_to_result: float
    peak_memory: int


def run_fresh(
    model: str, device: str, threads: int | None, size: tuple[int, int], targets: int, views: int = 1
) -> FreshRun:
    """Opens a model in a new process and runs some frames of `size` (width, height) with so many bright spots.

    Each is looked at in so many ways round.

    Raises:
        IrdetError: The process failed; gives its last line.
    """
    numbers = [str(number) for number in (threads or 0, *size, targets, views)]
    words = python(_PROGRAM, model, device, *numbers)
    try:
        done = subprocess.run(  # noqa: S603 - our own module in our own interpreter
            [*words, repr(time.monotonic())], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise IrdetError(f"{model}: a fresh process gave no result within {PATIENCE:g} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise IrdetError(f"{model}: a fresh process ended with code {done.returncode}: {last}")
    return FreshRun(**json.loads(done.stdout.splitlines()[-1]))


def peak_memory() -> int:
    """Returns the largest resident memory of this process so far, bytes."""
    try:
        # Not getrusage: its figure is handed on from the parent to a new program.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)
        if found:
            return 1024 * int(found[1])
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main(
    model: str, device: str, threads: str, width: str, height: str, targets: str, views: str, started: str
) -> None:
    """Measures in this process; `started` is the parent's monotonic clock when it made this process."""
    size = int(width), int(height)
    try:
        print(json.dumps(_measure(model, device, int(threads), size, int(targets), int(views), float(started))))
    except IrdetError as failure:
        sys.exit(str(failure))


def _measure(
    model: str, device: str, threads: int, size: tuple[int, int], targets: int, views: int, started: float
) -> dict[str, float]:
    from irdet.core.frame import Preprocessor
    from irdet.engines import open_engine
    from irdet.engines.probe import probe_frame
    from irdet.runtime.detector import Detector

    making = time.monotonic()
    raw = probe_frame(size[1], size[0], spots=targets)
    opening = time.monotonic()
    with open_engine(model, device=device, threads=threads or None) as engine:
        opened = time.monotonic()
        detector = Detector(engine, views=views)
        detector.detect(Preprocessor()(raw))
        done = time.monotonic()
        for _ in range(3):
            detector.detect(Preprocessor()(raw))
        return {
            "load": opened - opening,
            "first": done - opened,
            # Making the frame is not irdet's work in the field.
            "start_to_result": (making - started) + (done - opening),
            "peak_memory": peak_memory(),
        }
