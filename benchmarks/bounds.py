"""What bounds the shipped engines on a CPU: the page docs/bounds.md.

    python benchmarks/bounds.py [--size WxH] [--threads N] [--runs N] [--output FILE] [--json FILE]

ONNX Runtime's own profile of each shipped model, by operator, beside what the machine can do at best: the rate of a
large float32 matrix product, and that of a copy of memory too large for the caches.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from irdet.cli.options import parse_size
from irdet.core.frame import Preprocessor
from irdet.engines.probe import probe_frame
from irdet.engines.shipped import shipped_path
from irdet.models import create_model
from irdet.models.cost import flop

#: Models by name, and the operations of one instruction by those of one of float32.
MODELS = {"mlcl-edge": 1, "mlcl-edge-int8-cpu": 4}

#: What follows from it, for a CPU with AVX-512 and VNNI.
FINDINGS = (
    "In float32 the engine is bound by arithmetic: its convolutions run about as fast as a matrix product, and "
    "what is not convolution takes a quarter of the time. A faster runtime has little to win; a network of fewer "
    "operations has. In 8 bits more than a quarter of the time goes into joining levels, resizing, sums and changes of "
    "type, which are bound by memory and nodes of one thread, and convolutions of 16 and 32 channels fill the "
    "wide instructions badly: at the rate of the product those would take half their time. That, too, is for "
    "another network to win, not for another export of this one."
)

#: Side of the matrices, and bytes of the array that is copied.
SIDE, COPIED = 2048, 512 << 20


@dataclass(frozen=True)
class Kind:
    """All nodes of one operator in one run: milliseconds, and bytes read and written."""

    operator: str
    nodes: float
    milliseconds: float
    bytes: float


@dataclass(frozen=True)
class Profile:
    """One model: whole runs without the profile, and where the time goes with it."""

    model: str
    milliseconds: float
    kinds: tuple[Kind, ...]


def product_rate() -> float:
    """Returns the float32 operations of a matrix product, 1/s. BLAS takes the threads of OMP_NUM_THREADS."""
    a = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    times = []
    for _ in range(8):
        begun = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - begun)
    return 2 * SIDE**3 / min(times)


def copy_rate() -> float:
    """Returns the bytes that one thread reads and writes when it copies, 1/s."""
    a = np.ones(COPIED // 8)
    b = np.empty_like(a)
    times = []
    for _ in range(6):
        begun = time.perf_counter()
        np.copyto(b, a)
        times.append(time.perf_counter() - begun)
    return 2 * COPIED / min(times)


def profiled(model: str, size: tuple[int, int], threads: int, runs: int, folder: Path) -> Profile:
    """Runs a shipped model with and without ONNX Runtime's profile."""
    path = shipped_path(model, ".onnx")
    frame = Preprocessor()(probe_frame(size[1], size[0]))

    def session(**options: Any) -> ort.InferenceSession:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = threads
        for key, value in options.items():
            setattr(settings, key, value)
        return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    plain = session()
    (port,) = plain.get_inputs()
    feed = {port.name: frame.of_type(np.uint8 if "uint8" in port.type else np.float32)[None, None]}
    plain.run(None, feed)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        plain.run(None, feed)
        times.append(time.perf_counter() - begun)

    watched = session(enable_profiling=True, profile_file_prefix=str(folder / model))
    for _ in range(runs):
        watched.run(None, feed)
    events = json.loads(Path(watched.end_profiling()).read_text(encoding="utf-8"))
    spent: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            facts = event["args"]
            moved = sum(int(facts.get(key, 0)) for key in ("activation_size", "output_size", "parameter_size"))
            spent[facts["op_name"]].append((event["dur"] / 1e3, moved))
    kinds = [
        Kind(name, len(nodes) / runs, sum(n[0] for n in nodes) / runs, sum(n[1] for n in nodes) / runs)
        for name, nodes in spent.items()
    ]
    kinds.sort(key=lambda kind: -kind.milliseconds)
    return Profile(model, 1e3 * float(np.median(times)), tuple(kinds))


def markdown(found: dict[str, Any], profiles: list[Profile], command: str) -> str:
    """Returns the page."""
    width, height = found["size"]
    lines = [
        "# What bounds the engines",
        "",
        f"One frame of {width}x{height}, {found['threads']} threads, ONNX Runtime {ort.__version__} "
        f"({found['machine']}). The network takes {found['flop'] / 1e9:.2f} GFLOP, nearly all of it in convolutions. "
        f"On the same cores a float32 matrix product of {SIDE}x{SIDE} runs at {found['product'] / 1e9:.0f} GFLOP/s, "
        f"and one thread copies memory at {found['copy'] / 1e9:.1f} GB/s, read and written; an 8-bit instruction does "
        "four times the work of one of float32. Bytes are those of the tensors that nodes take and give: most of "
        "them lie in the caches.",
        "",
        FINDINGS,
        "",
    ]
    for profile in profiles:
        whole = sum(kind.milliseconds for kind in profile.kinds)
        convolutions = sum(kind.milliseconds for kind in profile.kinds if "Conv" in kind.operator)
        rate = found["flop"] / convolutions * 1e3
        product = found["product"] * MODELS[profile.model]
        lines += [
            f"## `{profile.model}`",
            "",
            f"{profile.milliseconds:.1f} ms a frame. Convolutions: {convolutions / whole:.0%} of the time in nodes, "
            f"{rate / 1e9:.0f} G operations/s, {rate / product:.0%} of what a matrix product would reach with such "
            f"instructions. At that product's rate they would take {found['flop'] / product * 1e3:.1f} ms.",
            "",
            "| operator | nodes | ms | share | MB | GB/s |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for kind in profile.kinds:
            if kind.milliseconds >= 0.005 * whole:
                lines.append(
                    f"| {kind.operator} | {kind.nodes:.0f} | {kind.milliseconds:.2f} | {kind.milliseconds / whole:.1%} "
                    f"| {kind.bytes / 1e6:.1f} | {kind.bytes / kind.milliseconds / 1e6:.1f} |"
                )
        lines.append("")
    return "\n".join([*lines, f"Made by `{command}`.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=(512, 512))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("docs/bounds.md"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/bounds.json"))
    arguments = parser.parse_args()
    found: dict[str, Any] = {
        "size": tuple(arguments.size),
        "threads": arguments.threads,
        "machine": platform.machine(),
        "flop": flop(create_model("mlcl-edge"), arguments.size[1], arguments.size[0]),
        "product": product_rate(),
        "copy": copy_rate(),
    }
    with tempfile.TemporaryDirectory() as folder:
        profiles = [
            profiled(model, arguments.size, arguments.threads, arguments.runs, Path(folder)) for model in MODELS
        ]
    command = "python benchmarks/bounds.py"
    arguments.output.write_text(markdown(found, profiles, command), encoding="utf-8")
    kept = {**found, "profiles": [asdict(profile) for profile in profiles]}
    arguments.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(arguments.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
