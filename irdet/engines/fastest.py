"""`auto` on a CPU: the faster of ONNX Runtime and OpenVINO for a model, found by a short measurement that is kept."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import time
from pathlib import Path

import numpy as np

from irdet.core.errors import IrdetError
from irdet.core.files import cache_folder, sha256, write_text
from irdet.core.frame import Preprocessor
from irdet.core.machine import read_machine
from irdet.engines.base import BaseEngine
from irdet.engines.probe import probe_frame

#: Side of the frame that a model of free size is timed on, px.
SIDE = 256

#: Timed runs of each; the fastest counts, since nothing but other work makes a run slow.
RUNS = 5

#: OpenVINO is taken where it needs at most this share of ONNX Runtime's time: less is within the noise.
MARGIN = 0.93


def fastest(engine: BaseEngine, path: Path, threads: int | None) -> BaseEngine:
    """Returns the faster runtime for a model on this CPU.

    The times are kept in `cache_folder("runtimes")` for the model, both versions, the CPU and the number of threads.

    Args:
        engine: The model in ONNX Runtime on the CPU; closed where OpenVINO is taken.
        path: The model.
        threads: CPU threads; None for one per core.

    Returns:
        `engine`, or the same model in OpenVINO; its `notes` say what was taken and why.
    """
    there = importlib.util.find_spec("openvino")
    if engine.info.variant == "foreign" or there is None or there.origin is None:  # a folder of that name is none
        return engine
    from irdet.engines.openvino import OpenVinoEngine

    file = cache_folder("runtimes") / f"{_key(path, threads)}.json"
    times = _read(file)
    rival: OpenVinoEngine | None = None
    if times is None:
        try:
            rival = OpenVinoEngine(path, threads=threads)
            times = _measure(engine, rival)
        except IrdetError as error:
            return _noted(engine, f"openvino is installed and cannot run this model: {error}")
        with contextlib.suppress(IrdetError):  # a cache that cannot be written costs a second at the next start
            write_text(file, json.dumps(times))
    ours, theirs = times["onnxruntime"], times["openvino"]
    if theirs > MARGIN * ours:
        if rival is not None:
            rival.close()
        return _noted(engine, f"onnxruntime is taken: openvino takes {theirs / ours:.2f} times its time here")
    engine.close()
    told = f"openvino is taken, as it is {ours / theirs:.2f} times as fast here as onnxruntime"
    return _noted(rival or OpenVinoEngine(path, threads=threads), f"{told}; --device cpu takes onnxruntime")


def _measure(engine: BaseEngine, rival: BaseEngine) -> dict[str, float]:
    """Seconds of each, in turns, so that whatever else the machine does slows both."""
    info = engine.info
    frame = Preprocessor()(probe_frame(info.height or SIDE, info.width or SIDE))
    times = np.empty((RUNS + 1, 2))
    for turn in times:
        for column, one in enumerate((engine, rival)):
            batch = frame.of_type(one.dtype)[None, None]
            start = time.perf_counter()
            one.run(batch)
            turn[column] = time.perf_counter() - start
    best = times[1:].min(axis=0)
    return {"onnxruntime": float(best[0]), "openvino": float(best[1])}


def _key(path: Path, threads: int | None) -> str:
    from importlib.metadata import version  # takes its time, and most have no OpenVINO

    versions = [version("openvino"), importlib.import_module("onnxruntime").__version__]
    machine = read_machine()
    parts = [sha256(path), *versions, machine.cpu, str(machine.cores), str(threads)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _read(file: Path) -> dict[str, float] | None:
    try:
        times = json.loads(file.read_text(encoding="utf-8"))
        found = {name: float(times[name]) for name in ("onnxruntime", "openvino")}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return found if all(0 < seconds < math.inf for seconds in found.values()) else None


def _noted(engine: BaseEngine, note: str) -> BaseEngine:
    engine.notes += (note,)
    return engine
