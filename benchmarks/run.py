"""How fast irdet is on this machine, against the authors' network and other runtimes: benchmarks/README.md.

    python benchmarks/run.py [--others PYTHON] [--quick] [--only SECTION ...]

Engines are measured in turns, so that whatever else the machine does slows all of them, and compared by ratio. The
authors' network is `mlcl-base` with their three input channels, in PyTorch as they publish it; its weights are random,
which costs the same. `--others` is the Python of an environment with ncnn, MNN and pnnx:

    python -m venv others && others/bin/pip install torch --index-url CPU_BUILDS && others/bin/pip install ncnn MNN pnnx

Writes benchmarks/results/speed.json, benchmarks/results/*.png and benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.frame import Pixels, Preprocessor
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.core.machine import read_machine
from irdet.core.targets import extract_targets
from irdet.engines import open_engine, resolve_model
from irdet.engines.base import BaseEngine
from irdet.engines.probe import probe_frame
from irdet.evaluation.bench.fresh import run_fresh
from irdet.evaluation.bench.measure import Bench, BenchOptions, bench
from irdet.runtime.detector import Detector
from irdet.runtime.pipeline import run as run_pipeline
from irdet.runtime.sinks import CsvSink, JsonLinesSink, VideoSink
from irdet.runtime.sources import open_source

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
THREADS = 2

#: The shipped models, fp32 and the CPU's INT8 form.
EDGE, EDGE8 = "mlcl-edge", "mlcl-edge-int8-cpu"

AUTHORS = "authors' network, PyTorch"


class Eager(BaseEngine):
    """The authors' network as they publish it: three equal channels, PyTorch, evaluation mode."""

    max_batch = None
    info = ModelInfo("mlcl-base", stride=4)

    def __init__(self, *, channels_last: bool, threads: int) -> None:
        import torch

        from irdet.models import create_model
        from irdet.models.mlcl import conv

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        network: Any = create_model("mlcl-base").eval()
        network.stem[0] = conv(3, 16)
        self._torch = torch
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._network = network.to(memory_format=self._format)
        self.runtime = f"torch {torch.__version__.partition('+')[0]} cpu"

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        torch = self._torch
        with torch.inference_mode():
            frames = torch.from_numpy(np.repeat(batch, 3, axis=1)).contiguous(memory_format=self._format)
            found: NDArray[np.float32] = torch.sigmoid(self._network(frames)).contiguous().numpy()
        return found

    def _release(self) -> None:
        del self._network


class Piped(BaseEngine):
    """A runtime in another environment, behind a pipe (about a millisecond for a frame of 512x512)."""

    max_batch = 1

    def __init__(self, python: str, kind: str, model: Path, size: tuple[int, int], threads: int) -> None:
        width, height = size
        self.info = ModelInfo("mlcl-base", stride=4, height=height, width=width)
        script = Path(__file__).with_name("others.py")
        words = [python, script, kind, model, width, height, threads]
        self._process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        told = self._process.stdout.readline().decode().split(maxsplit=1)
        if len(told) != 2:
            raise SystemExit(f"{kind} does not start in {python}; try: {' '.join(map(str, words))}")
        self.runtime = f"{told[1].strip()} cpu"

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(batch.tobytes())
        process.stdin.flush()
        return np.frombuffer(process.stdout.read(batch.nbytes), np.float32).reshape(batch.shape)

    def _release(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def base_onnx(folder: Path, size: tuple[int, int]) -> Path:
    """Exports `mlcl-base` with one input channel, as irdet deploys it."""
    import onnx
    import torch

    from irdet.export.graph import deployable
    from irdet.export.onnx import OnnxOptions, trace
    from irdet.models import LoadedModel, create_model

    torch.manual_seed(0)
    width, height = size
    info = ModelInfo("mlcl-base", stride=4, height=height, width=width)
    path = folder / f"base{width}x{height}.onnx"  # pnnx makes other names of a hyphen
    trace(deployable(LoadedModel(create_model("mlcl-base").eval(), info)), path, OnnxOptions(size), (height, width))
    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, {METADATA_KEY: info.to_json()})
    onnx.save(graph, path)
    return path


def networks(folder: Path, others: str | None, quick: bool) -> dict[str, Any]:
    """Everything side by side at 512x512."""
    size = (512, 512)
    base = base_onnx(folder, size)
    with ExitStack() as closing:
        engines: list[tuple[str, BaseEngine]] = []

        def add(name: str, engine: BaseEngine) -> None:
            engines.append((name, closing.enter_context(engine)))

        add(AUTHORS, Eager(channels_last=False, threads=THREADS))
        add(f"{AUTHORS} channels-last", Eager(channels_last=True, threads=THREADS))
        add("authors' network, ONNX Runtime", open_engine(base, device="cpu", threads=THREADS))
        add("authors' network, OpenVINO", open_engine(base, device="openvino", threads=THREADS))
        for kind in ("ncnn", "MNN") if others else ():
            add(f"authors' network, {kind}", Piped(str(others), kind, base, size, THREADS))
        for model in (EDGE, EDGE8):
            add(f"{model}, ONNX Runtime", open_engine(model, device="cpu", threads=THREADS))
            add(f"{model}, OpenVINO", open_engine(model, device="openvino", threads=THREADS))
        found = bench(engines, BenchOptions(size=size, duration=1.0 if quick else 3.0))
    return _record(found)


def sizes(quick: bool) -> list[dict[str, Any]]:
    """The shipped models over frame sizes and threads, with start-up and memory."""
    records = []
    for size in ((256, 256), (512, 512), (640, 512), (1280, 1024)):
        for threads in (1, THREADS):
            with ExitStack() as closing:
                engines = [
                    (name, closing.enter_context(open_engine(name, device="cpu", threads=threads)))
                    for name in (EDGE, EDGE8)
                ]
                options = BenchOptions(size=size, duration=0.5 if quick else 2.0)
                fresh = {name: run_fresh(name, "cpu", threads, size, options.targets) for name, _ in engines}
                record = _record(bench(engines, options, fresh=fresh))
            records.append({"threads": threads, **record})
    return records


def targets(quick: bool) -> list[dict[str, Any]]:
    """What finding targets costs in a map of 640x512, over their number and over the area of the frame."""
    records = []
    cases = [((640, 512), n) for n in (0, 1, 10, 100, 1000)]
    cases += [((w, w * 4 // 5), 0) for w in (320, 1280)] + [((w, w * 4 // 5), 10) for w in (320, 1280)]
    for (width, height), count in cases:
        frame = Preprocessor()(probe_frame(height, width))
        rng = np.random.default_rng(count)
        probability = np.zeros((height, width), np.float32)
        for y, x in zip(rng.integers(2, height - 4, count), rng.integers(2, width - 4, count), strict=True):
            probability[y : y + 3, x : x + 3] = 0.9
        times = []
        found: tuple[object, ...] = ()
        until = time.perf_counter() + (0.3 if quick else 1.0)
        while time.perf_counter() < until or len(times) < 10:
            start = time.perf_counter()
            found = extract_targets(probability, frame)
            times.append(time.perf_counter() - start)
        records.append({"size": [width, height], "targets": len(found), "median_ms": 1e3 * statistics.median(times)})
    return records


def video(folder: Path, quick: bool) -> dict[str, Any]:
    """`irdet infer`'s pipeline on a clip of 640x512, with drawing and encoding, against the engine alone."""
    from irdet.data.synth import SceneConfig, write_clip

    clip = folder / "clip.mp4"
    frames, repeats = (60, 3) if quick else (200, 5)
    write_clip(clip, SceneConfig(width=640, height=512), seed=3, frames=frames)
    records = {}
    for model in (EDGE, EDGE8):
        with (
            open_engine(model, device="cpu", threads=THREADS) as engine,
            open_engine(model, device="cpu", threads=THREADS) as spread,
        ):
            spread.spread()
            detector = Detector(spread)
            batch = Preprocessor()(probe_frame(512, 640)).of_type(engine.dtype)[None, None]
            shares, rates = [], []
            for repeat in range(repeats + 1):  # the first one warms up
                alone = _engine_rate(engine, batch, frames // 2)
                with open_source(clip) as source:
                    sinks = [
                        JsonLinesSink(folder / f"{model}-{repeat}.jsonl"),
                        CsvSink(folder / f"{model}-{repeat}.csv"),
                        VideoSink(folder / f"{model}-{repeat}.mkv", source.fps),
                    ]
                    summary = run_pipeline(source, Preprocessor(), detector, sinks, searches=spread.runs)
                alone = (alone + _engine_rate(engine, batch, frames // 2)) / 2  # before and after: the machine drifts
                if repeat:
                    shares.append(summary.fps / alone)
                    rates.append(summary.fps)
        records[model] = {"frames": frames, "fps": rates, "share_of_engine": shares, "stages_s": dict(summary.times)}
    return records


def _engine_rate(engine: BaseEngine, batch: Pixels, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        engine.run(batch)
    return count / (time.perf_counter() - start)


def start(quick: bool) -> dict[str, Any]:
    """From the start of `irdet infer IMAGE` to its first line, against importing the packages it needs."""
    python, command = sys.executable, "import numpy, cv2, onnxruntime"
    # As where it is installed: a second start finds the bytecode of the first.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    bare, whole, fresh = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "frame.png")
        cv2.imwrite(str(image), probe_frame(512, 640))
        words = ["-m", "irdet", "infer", str(image), *f"--stdout --quiet --device cpu --threads {THREADS}".split()]
        for turn in range(4 if quick else 10):
            begun = time.perf_counter()
            subprocess.run([python, "-c", command], check=True, env=environment)
            imported = time.perf_counter()
            with subprocess.Popen([python, *words], stdout=subprocess.PIPE, env=environment, cwd=folder) as process:
                assert process.stdout is not None
                line = process.stdout.readline()
                done = time.perf_counter()
            if process.returncode or "targets" not in json.loads(line):
                raise SystemExit(f"irdet {' '.join(words[2:])} ended with {process.returncode}")
            if turn:  # the first one writes the bytecode
                bare.append(imported - begun)
                whole.append(done - imported)
                fresh.append(run_fresh(EDGE, "cpu", THREADS, (640, 512), BenchOptions().targets))
    return {
        "imports_s": statistics.median(bare),
        "first_inference_s": statistics.median(one.first for one in fresh),
        "start_to_result_s": statistics.median(whole),
        "ratio": statistics.median(w / (b + one.first) for w, b, one in zip(whole, bare, fresh, strict=True)),
        "peak_memory": max(one.peak_memory for one in fresh),
    }


def endurance(quick: bool) -> dict[str, Any]:
    """Memory over many small frames, and whether the targets stay those of the frames one by one."""
    frames = [Preprocessor()(probe_frame(128, 128, seed)) for seed in range(16)]
    total = 2_000 if quick else 10_000
    with open_engine(EDGE, device="cpu", threads=THREADS) as engine:
        detector = Detector(engine)
        wanted = [detector.detect(frame).targets for frame in frames]
        before = 0
        for number in range(total):
            if detector.detect(frames[number % 16]).targets != wanted[number % 16]:
                raise SystemExit(f"frame {number} gave other targets than before")
            if number == total // 10:
                before = _resident()
    return {"frames": total, "growth_bytes": _resident() - before}


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def _record(found: Bench) -> dict[str, Any]:
    return found.to_dict()


@contextmanager
def timed(name: str, spent: dict[str, float]) -> Iterator[None]:
    print(f"{name} ...", file=sys.stderr, flush=True)
    begun = time.perf_counter()
    yield
    spent[name] = time.perf_counter() - begun


def markdown(results: dict[str, Any]) -> str:
    """Returns benchmarks/README.md."""
    machine = results["machine"]
    days = " to ".join(sorted({min(results["dates"].values()), max(results["dates"].values())}))
    lines = [
        "# Speed",
        "",
        f"Measured by `python benchmarks/run.py` on {machine['cpu']}, {machine['cores']} cores "
        f"({', '.join(machine['extensions'])}), {days}. Everything of a table ran in turns in one run. "
        "No GPU has been measured.",
        "",
    ]
    if "networks" in results:
        lines += _networks(results["networks"])
    if "sizes" in results:
        lines += _sizes(results["sizes"])
    if "video" in results:
        lines += [
            "## Video, end to end",
            "",
            "`irdet infer`'s pipeline on a clip of 640x512 with drawing and encoding, two frames at once on a thread "
            f"each, by the engine alone on the same frame, one after the other on {THREADS} threads; median of "
            f"{len(next(iter(results['video'].values()))['fps'])} runs.",
            "",
            "| model | frames/s | share of the engine's rate |",
            "| --- | ---: | ---: |",
        ]
        for model, record in results["video"].items():
            share = statistics.median(record["share_of_engine"])
            lines.append(f"| `{model}` | {statistics.median(record['fps']):.1f} | {100 * share:.1f} % |")
        lines.append("")
    if "targets" in results:
        lines += [
            "## Finding targets in the map",
            "",
            "| frame | targets | ms |",
            "| --- | ---: | ---: |",
        ]
        lines += [
            f"| {one['size'][0]}x{one['size'][1]} | {one['targets']} | {one['median_ms']:.3f} |"
            for one in results["targets"]
        ]
        lines.append("")
    if "start" in results:
        one = results["start"]
        lines += [
            "## Start and memory",
            "",
            "From the start of `irdet infer IMAGE` to the targets of its 640x512 pixels on standard output: "
            f"{one['start_to_result_s']:.2f} s, {one['ratio']:.2f} times the sum of `import numpy, cv2, onnxruntime` "
            f"({one['imports_s']:.2f} s) and one "
            f"first inference ({one['first_inference_s']:.2f} s); at most "
            f"{one['peak_memory'] / 2**20:.0f} MiB resident.",
            "",
        ]
    if "endurance" in results:
        one = results["endurance"]
        lines += [
            f"{one['frames']:,} frames of 128x128: resident memory grew by {one['growth_bytes'] / 2**20:.2f} MiB from "
            "the first tenth to the end; each frame's targets stayed the same.",
            "",
        ]
    for name, section in (("methods", _methods), ("tracks", _tracks)):
        if (kept := RESULTS / f"{name}.json").exists():
            lines += section(json.loads(kept.read_text(encoding="utf-8")))
    return "\n".join(lines)


def _methods(found: dict[str, Any]) -> list[str]:
    lines = [
        "## Methods and networks",
        "",
        "Fold 1 of SIRST, held out of every network: 62 frames of native size, 78 targets, a quarter of them for `ipi` "
        "(`python benchmarks/methods.py`; thresholds, sensitivity, times and frames without targets: "
        "[docs/methods.md](../docs/methods.md)).",
        "",
        "| method | IoU | nIoU | Pd | Fa, 1e-6 | false targets per frame |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| `{name}` | {row['iou']:.3f} | {row['niou']:.3f} | {row['pd']:.3f} | {row['fa']:.0f} "
        f"| {row['false_per_frame']:.2f} |"
        for name, row in found["rows"].items()
    ]
    return [*lines, "", "![Pd over Fa and precision over recall](../docs/methods.png)", ""]


def _tracks(found: dict[str, Any]) -> list[str]:
    single = next(iter(found["clips"].values()))
    lines = [
        "## Tracks",
        "",
        f"Eight real thermal clips, {single[-1]['detections']['seconds']:.0f} s (`python benchmarks/tracks.py CLIPS`).",
        "",
        "| single frames | frames | Pd | false targets per frame |",
        "| --- | ---: | ---: | ---: |",
    ]
    for score in single:
        one = score["detections"]
        lines.append(f"| {score['clip']} | {one['frames']} | {one['pd']:.3f} | {one['false_per_frame']:.4f} |")
    lines += [
        "",
        "| tracks, all clips | Pd | tracks | false | purity | switches | frames to confirm |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, scores in found["clips"].items():
        one = scores[-1]["tracks"]
        lines.append(
            f"| {name} | {one['pd']:.3f} | {one['tracks']} | {one['false_tracks']} | {one['purity']:.3f} "
            f"| {one['switches']} | {one['frames_to_confirm']:.1f} |"
        )
    return [*lines, ""]


def _networks(record: dict[str, Any]) -> list[str]:
    engines = record["engines"]
    lines = [
        "## At 512x512, two threads",
        "",
        "Engine: array to array. End to end: raw frame in memory to list of targets. The authors' network in PyTorch "
        "takes their three channels.",
        "",
        "| | engine, ms (p50) | p99 | end to end, ms (p50) | p99 | times as fast as the first |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in engines:
        engine, whole = one["engine"], one["end_to_end"]
        lines.append(
            f"| {one['name']} ({one['runtime']}) | {engine['p50_ms']:.1f} | {engine['p99_ms']:.1f} "
            f"| {whole['p50_ms']:.1f} | {whole['p99_ms']:.1f} | {1 / whole['ratio_to_first'][0]:.1f} |"
        )
    return [*lines, "", "![latency](results/networks.png)", ""]


def _sizes(records: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Sizes and threads, ONNX Runtime",
        "",
        "The frame holds 3 bright spots, as `irdet bench` has it. What more of them cost stands below.",
        "",
        "| frame | threads | model | engine, ms | end to end, ms | preprocess and targets | fps | first frame, ms "
        "| MiB |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for record in records:
        width, height = record["options"]["size"]
        for one in record["engines"]:
            whole = one["end_to_end"]["p50_ms"]
            rest = one["stages"]["preprocess"]["p50_ms"] + one["stages"]["targets"]["p50_ms"]
            lines.append(
                f"| {width}x{height} | {record['threads']} | `{one['name']}` | {one['engine']['p50_ms']:.1f} "
                f"| {whole:.1f} | {rest:.2f} ms, {100 * rest / whole:.1f} % | {1e3 / whole:.1f} "
                f"| {1e3 * one['fresh']['first']:.0f} | {one['fresh']['peak_memory'] / 2**20:.0f} |"
            )
    return [*lines, ""]


def plot(results: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    engines = results["networks"]["engines"]
    figure = Figure(figsize=(10, 0.55 * len(engines) + 1.2), layout="constrained")
    axes = figure.subplots()
    times = [one["end_to_end"]["p50_ms"] for one in engines]
    bars = axes.barh([one["name"] for one in engines], times, color=["tab:gray"] * (len(engines) - 4) + ["tab:red"] * 4)
    axes.bar_label(bars, labels=[f"{ms:.0f} ms" for ms in times], padding=4)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(min(times) / 2, 2 * max(times))
    axes.set(xlabel="frame of 512x512 to targets, ms (median, two CPU cores, log scale)")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", metavar="PYTHON", help="of an environment with ncnn, MNN and pnnx")
    parser.add_argument("--quick", action="store_true", help="a few minutes, to see whether it runs")
    sections = ("networks", "sizes", "targets", "video", "start", "endurance")
    parser.add_argument("--only", nargs="+", choices=sections, default=sections)
    arguments = parser.parse_args()
    quick = arguments.quick
    RESULTS.mkdir(exist_ok=True)
    spent: dict[str, float] = {}
    file = RESULTS / "speed.json"
    partly = set(arguments.only) != set(sections) and file.exists()
    kept = json.loads(file.read_text(encoding="utf-8")) if partly else {}
    results = {**kept, "machine": asdict(read_machine())}
    resolve_model(EDGE8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work: dict[str, Callable[[], Any]] = {
            "networks": lambda: networks(folder, arguments.others, quick),
            "sizes": lambda: sizes(quick),
            "targets": lambda: targets(quick),
            "video": lambda: video(folder, quick),
            "start": lambda: start(quick),
            "endurance": lambda: endurance(quick),
        }
        for section in arguments.only:
            with timed(section, spent):
                results[section] = work[section]()
            results["seconds"] = {**kept.get("seconds", {}), **spent}
            # Sections are measured again one by one, so each has its own day.
            results["dates"] = {**results.get("dates", {}), section: time.strftime("%Y-%m-%d")}
            file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            README.write_text(markdown(results), encoding="utf-8")
    if "networks" in results:
        plot(results, RESULTS / "networks.png")
    print(README.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
