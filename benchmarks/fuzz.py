"""Byte-level fuzzing of everything that irdet reads: counts of outcomes by format, and every input that is no good.

    python benchmarks/fuzz.py [FORMAT...] [--count N] [--seed S] [--folder DIR] [--output FILE] [--json FILE]

Each input is a good file, damaged in a way that follows from the seed and its number: bits, bytes and runs changed,
cut, doubled, moved, texts replaced. It goes through the parser that irdet uses, in a child process with bounded memory
and time. The only good outcomes are a result and an irdet error in one line; what else happens is kept in DIR with the
input: any other exception (a bug of irdet's), a crash (a bug of the native library), no answer in time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: Seconds for one input, and bytes of address space for a child.
LIMIT, MEMORY = 60.0, 8 << 30

#: Values that parsers trip over, as bytes.
ODD = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x00\x00",
    b"\xff\xff\xff\x7f",
)

#: The same in texts.
WORDS = (b"null", b"-1", b"1e999", b"NaN", b'"', b"{", b"]", b"[[[[", b"99999999999999999999", b"\xc3\x28", b"\\ud800")

SHAPE = (64, 96)


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        suffix: Of its names.
        make: Writes good ones, in a folder if need be, and returns their bytes.
        read: Reads one.
        count: Inputs of a long run.
        text: Damage it as text, too.
        mend: Makes the file of the damaged bytes, where they are not the file itself.
    """

    suffix: str
    make: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]
    count: int = 10_000
    text: bool = False
    mend: Callable[[bytes], bytes] = bytes


def damage(data: bytes, rng: np.random.Generator, text: bool) -> bytes:
    """Damages a file in one to four places."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not out:
            break
        # Half of it near the start, where headers are.
        reach = len(out) if rng.random() < 0.5 else min(len(out), 512)
        place, run = int(rng.integers(reach)), int(2 ** rng.uniform(0, 8))
        match int(rng.integers(8 if text else 7)):
            case 0:
                out[place] ^= 1 << int(rng.integers(8))
            case 1:
                out[place] = int(rng.integers(256))
            case 2:
                odd = ODD[int(rng.integers(len(ODD)))]
                out[place : place + len(odd)] = odd
            case 3:
                del out[place : place + run]
            case 4:
                out[place:place] = out[place : place + run]
            case 5:
                other = int(rng.integers(len(out)))
                out[place : place + run] = out[other : other + run]
            case 6:
                del out[int(rng.integers(len(out))) :]
            case 7:
                word = WORDS[int(rng.integers(len(WORDS)))]
                out[place : place + int(rng.integers(6))] = word
    return bytes(out)


def input_of(name: str, seeds: list[bytes], seed: int, number: int) -> bytes:
    rng = np.random.default_rng([seed, sum(name.encode()), number])
    return FORMATS[name].mend(damage(seeds[int(rng.integers(len(seeds)))], rng, FORMATS[name].text))


def unpacked_png(data: bytes) -> bytes:
    """Returns what a PNG holds behind its checksums and zlib: the 13 bytes of its header, then filtered rows."""
    packed, place = b"", 8
    while place < len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"IDAT":
            packed += data[place + 8 : end]
        place = end + 4
    return data[16:29] + zlib.decompress(packed)


def packed_png(data: bytes) -> bytes:
    """Makes a PNG of such bytes, whatever they are by now, its rows in two chunks."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        length, sum_ = len(content), zlib.crc32(kind + content)
        return length.to_bytes(4, "big") + kind + content + sum_.to_bytes(4, "big")

    rows = zlib.compress(data[13:], 1)
    parts = [chunk(b"IHDR", data[:13]), chunk(b"IDAT", rows[:64]), chunk(b"IDAT", rows[64:]), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# Good files.


def _picture(seed: int = 0, deep: bool = False) -> Any:
    import cv2

    noise = np.random.default_rng(seed).normal(0, 1, SHAPE)
    pixels = cv2.GaussianBlur(noise, (0, 0), 2)
    pixels = (pixels - pixels.min()) / np.ptp(pixels)
    return (pixels * 16383).astype(np.uint16) if deep else (pixels * 255).astype(np.uint8)


def _images(suffix: str, *, deep: bool = False) -> Callable[[Path], list[bytes]]:
    def make(folder: Path) -> list[bytes]:
        import cv2

        pictures = [_picture(1), _picture(3, True)] if deep else [_picture(1)]
        if suffix != ".pgm":
            pictures.append(cv2.cvtColor(_picture(2), cv2.COLOR_GRAY2BGR))
        return [cv2.imencode(suffix, picture)[1].tobytes() for picture in pictures]

    return make


def _unpacked(folder: Path) -> list[bytes]:
    return [unpacked_png(data) for data in _images(".png", deep=True)(folder)]


def _pages(folder: Path) -> list[bytes]:
    import cv2

    found = []
    for code in (1, 5, 8):  # none, LZW, deflate
        cv2.imwritemulti(
            str(folder / "a.tiff"), [_picture(i, True) for i in range(4)], [cv2.IMWRITE_TIFF_COMPRESSION, code]
        )
        found.append((folder / "a.tiff").read_bytes())
    return found


def _films(suffix: str, *codes: str) -> Callable[[Path], list[bytes]]:
    def make(folder: Path) -> list[bytes]:
        import cv2

        found = []
        for code in codes:
            path = folder / f"a{suffix}"
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 25.0, (64, 48))
            if writer.isOpened():
                for index in range(6):
                    writer.write(cv2.resize(cv2.cvtColor(_picture(index), cv2.COLOR_GRAY2BGR), (64, 48)))
                writer.release()
                found.append(path.read_bytes())
        return found

    return make


def _npy(folder: Path) -> list[bytes]:
    found = []
    for stack in (np.stack([_picture(i, True) for i in range(3)]), _picture().astype(np.float32)):
        np.save(folder / "a.npy", stack)
        found.append((folder / "a.npy").read_bytes())
    return found


def _checkpoint(folder: Path) -> list[bytes]:
    from irdet.core.info import ModelInfo
    from irdet.models import create_model
    from irdet.models.checkpoints import save_checkpoint

    save_checkpoint(folder / "a.pt", create_model("mlcl-edge"), ModelInfo("mlcl-edge"), {"epoch": 1, "loss": 0.5})
    return [(folder / "a.pt").read_bytes()]


def _onnx(folder: Path) -> list[bytes]:
    """A small graph with irdet's record: the shipped one is megabytes of weights, where damage finds nothing."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from irdet.core.info import METADATA_KEY, ModelInfo

    kernels = [
        np.random.default_rng(i).normal(0, 0.3, shape).astype(np.float32)
        for i, shape in enumerate(((4, 1, 3, 3), (4, 4, 3, 3), (1, 4, 1, 1)))
    ]
    nodes, last = [], "x"
    for index in range(3):
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], pads=[1 if index < 2 else 0] * 4))
        nodes.append(helper.make_node("Relu" if index < 2 else "Sigmoid", [f"c{index}"], [f"a{index}"]))
        last = f"a{index}"
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 32, 32]) for name in ("x", last)]
    weights = [numpy_helper.from_array(kernel, f"w{index}") for index, kernel in enumerate(kernels)]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    found = []
    for record in (None, ModelInfo("mlcl-edge", height=32, width=32, opset=17).to_json()):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if record:
            helper.set_model_props(model, {METADATA_KEY: record})
        found.append(model.SerializeToString())
    assert onnx.__version__
    return found


def _sidecar(folder: Path) -> list[bytes]:
    from irdet.core.info import ModelInfo
    from irdet.engines.tensorrt.sidecar import Sidecar

    shape = (1, 1, 64, 64)
    sidecar = Sidecar(
        ModelInfo("mlcl-edge"), "a" * 64, "b" * 64, "a.onnx", "tensorrt", "10.3.0", "Orin", ((8, 7),),
        (shape, shape, shape), False, False, "irdet export a.onnx", {"seconds": 3.5},
    )  # fmt: skip
    return [sidecar.write(folder / "a.trt").read_bytes()]


def _record(folder: Path) -> list[bytes]:
    from irdet.core.info import ModelInfo

    info = ModelInfo("mlcl-edge", 470_000, 8, training={"epochs": 90}, metrics={"iou": 0.7}, calibration="abc")
    return [info.to_json().encode(), info.to_json(indent=2).encode()]


def _golden(folder: Path) -> list[bytes]:
    frames = _picture()[None]
    values = {"format": "irdet-golden-1", "weights_sha256": "a" * 64, "threshold": 0.5}
    pair = {"frames_0": frames, "probability_0": frames.astype(np.uint16) * 257}
    np.savez_compressed(folder / "a.npz", **values, **pair)  # type: ignore[arg-type]
    return [(folder / "a.npz").read_bytes()]


def _correction(folder: Path) -> list[bytes]:
    from irdet.core.nuc import identity

    identity(SHAPE).write(folder / "a.npz")
    return [(folder / "a.npz").read_bytes()]


def _index(folder: Path) -> list[bytes]:
    return [b"Misc_1\nMisc_2\nMisc_10\n", b"Misc_1.png\r\nMisc_2.png\r\n"]


def _lines(folder: Path) -> list[bytes]:
    target = {"x": 1.5, "y": 2.5, "bbox": [1, 2, 3, 4], "area": 9, "score": 0.9}
    lines = [json.dumps({"frame": i, "time": i / 25, "source": "a", "targets": [target] * (i % 3)}) for i in range(9)]
    return [("\n".join(lines) + "\n").encode()]


# Readers.


def _read_image(path: Path) -> object:
    from irdet.core.frame import Preprocessor
    from irdet.core.images import read_image
    from irdet.runtime.sources import MAX_PIXELS

    return Preprocessor()(read_image(path, MAX_PIXELS)).pixels.shape


def _read_source(path: Path) -> object:
    from irdet.core.frame import Preprocessor
    from irdet.runtime.sources import SourceOptions, open_source

    with open_source(path, SourceOptions(limit=12, max_pixels=1 << 22)) as source:
        preprocess = Preprocessor()
        return [preprocess(frame.pixels, frame.index).shape for frame in source]


def _read_checkpoint(path: Path) -> object:
    from irdet.models.checkpoints import load_checkpoint

    return load_checkpoint(path)


def _run_engine(name: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        import importlib

        module, kind = {"onnx": ("onnx", "OnnxEngine"), "openvino": ("openvino", "OpenVinoEngine")}[name]
        with getattr(importlib.import_module(f"irdet.engines.{module}"), kind)(path, "cpu", 1) as engine:
            sides = engine.info.height or 32, engine.info.width or 32
            if max(sides) > 4096:
                return None
            return engine.run(np.zeros((1, 1, *sides), np.float32))

    return read


def _read_sidecar(path: Path) -> object:
    from irdet.engines.tensorrt.sidecar import Sidecar

    return Sidecar.read(path.with_suffix(""))


def _read_record(path: Path) -> object:
    from irdet.core.info import ModelInfo

    return ModelInfo.from_json(path.read_bytes())


def _read_golden(path: Path) -> object:
    from irdet.engines.golden import read_golden

    return read_golden(path)


def _read_correction(path: Path) -> object:
    from irdet.core.nuc import read_correction

    return read_correction(path)


def _read_index(path: Path) -> object:
    import cv2

    from irdet.data.sirst import load_dataset

    for folder in ("images", "masks"):
        if not (path.parent / folder).is_dir():
            (path.parent / folder).mkdir()
            pixels = np.zeros(SHAPE, np.uint8)
            pixels[20:23, 30:33] = 255
            for number in (1, 2, 10):
                cv2.imwrite(str(path.parent / folder / f"Misc_{number}.png"), pixels)
    return load_dataset(path)


def _read_lines(path: Path) -> object:
    from irdet.runtime.resume import resume

    shutil.copy(path, path.with_name("targets.jsonl"))
    done = resume(path.parent)
    return None if done is None else done.frame


FORMATS: dict[str, Format] = {
    "PNG": Format(".png", _images(".png", deep=True), _read_image),
    "PNG, behind its checksums": Format(".png", _unpacked, _read_image, mend=packed_png),
    "JPEG": Format(".jpg", _images(".jpg"), _read_image),
    "BMP": Format(".bmp", _images(".bmp"), _read_image),
    "TIFF": Format(".tiff", _images(".tiff", deep=True), _read_image),
    "WebP": Format(".webp", _images(".webp"), _read_image),
    "PGM": Format(".pgm", _images(".pgm", deep=True), _read_image),
    "JPEG 2000": Format(".jp2", _images(".jp2"), _read_image),
    "TIFF pages": Format(".tiff", _pages, _read_source),
    "NumPy stack": Format(".npy", _npy, _read_source),
    "Matroska": Format(".mkv", _films(".mkv", "MJPG", "FFV1", "mp4v"), _read_source),
    "AVI": Format(".avi", _films(".avi", "MJPG", "FFV1"), _read_source),
    "MP4": Format(".mp4", _films(".mp4", "mp4v"), _read_source),
    "checkpoint": Format(".pt", _checkpoint, _read_checkpoint),
    "ONNX (ONNX Runtime)": Format(".onnx", _onnx, _run_engine("onnx")),
    "ONNX (OpenVINO)": Format(".onnx", _onnx, _run_engine("openvino")),
    "TensorRT sidecar": Format(".trt.json", _sidecar, _read_sidecar, text=True),
    "model record": Format(".json", _record, _read_record, text=True),
    "golden frames": Format(".npz", _golden, _read_golden),
    "correction": Format(".npz", _correction, _read_correction),
    "index file": Format(".txt", _index, _read_index, text=True),
    "resume point": Format(".jsonl", _lines, _read_lines, text=True),
}


# The child: one line for each input.


def outcome_of(read: Callable[[Path], object], path: Path) -> str:
    """Reads one input; `"result"`, `"error"`, or what went wrong."""
    from irdet.core.errors import IrdetError

    try:
        read(path)
    except IrdetError as error:
        text = " ".join(str(error).split())
        return "error" if text == str(error) or "\n" not in str(error) else f"bug: error of several lines: {text[:200]}"
    except MemoryError:
        return "memory"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return f"bug: {type(error).__name__}: {' '.join(str(error).split())[:160]} ({place})"
    return "result"


def child(name: str, seed: int, numbers: range, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    said = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    chosen = FORMATS[name]
    seeds = [(folder / f"seed-{i}").read_bytes() for i in range(len(list(folder.glob("seed-*"))))]
    path = folder / f"input{chosen.suffix}"
    for number in numbers:
        path.write_bytes(input_of(name, seeds, seed, number))
        said.write(f"{number}\t{outcome_of(chosen.read, path)}\n")


# The parent.


@dataclass
class Tally:
    """What became of the inputs of one format."""

    name: str
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0


def fuzz(name: str, seed: int, count: int, keep: Path | None) -> Tally:
    """Runs inputs 0 to `count` - 1 of a format."""
    tally, start, number = Tally(name), time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="irdet-fuzz-") as text:
        folder = Path(text)
        seeds = FORMATS[name].make(folder)
        for index, data in enumerate(seeds):
            (folder / f"seed-{index}").write_bytes(data)
        while number < count:
            for done, outcome in _children(name, seed, range(number, count), folder):
                number = done + 1
                kind = outcome.partition(":")[0]
                tally.outcomes[kind] += 1
                if kind in ("result", "error"):
                    continue
                tally.faults.append((done, outcome))
                if keep is not None and len(tally.faults) <= 200:
                    keep.mkdir(parents=True, exist_ok=True)
                    stem = f"{name.replace(' ', '-')}-{seed}-{done}-{kind}"
                    data = input_of(name, seeds, seed, done)
                    (keep / f"{stem}{FORMATS[name].suffix}").write_bytes(data)
    tally.seconds = time.monotonic() - start
    return tally


def _children(name: str, seed: int, numbers: range, folder: Path) -> list[tuple[int, str]]:
    """Runs one child until it is through, dies or hangs; returns what it said, and its end as an outcome."""
    words = [sys.executable, __file__, name, "--child", str(folder), "--seed", str(seed)]
    words += ["--range", str(numbers.start), str(numbers.stop)]
    found: list[tuple[int, str]] = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        rest, hung = b"", False
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(LIMIT):
                    hung = True
                    process.kill()
                    break
                data = process.stdout.read(65536)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    number, _, outcome = line.decode().partition("\t")
                    found.append((int(number), outcome))
        code = process.wait()
    next_one = found[-1][0] + 1 if found else numbers.start
    if next_one < numbers.stop:
        with contextlib.suppress(ValueError):
            code_name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            found.append((next_one, f"no answer: in {LIMIT:g} s" if hung else f"crash: {code_name}"))
    return found


def markdown(tallies: list[Tally], seed: int) -> str:
    columns = ("result", "error", "bug", "crash", "no answer", "memory")
    lines = [
        "| format | inputs | result | one-line error | other exception | crash | no answer | out of memory |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for tally in tallies:
        counts = " | ".join(f"{tally.outcomes[column]:,}" for column in columns)
        lines.append(f"| {tally.name} | {sum(tally.outcomes.values()):,} | {counts} |")
    for tally in tallies:
        for what, number in Counter(outcome for _, outcome in tally.faults).most_common(10):
            first = next(index for index, outcome in tally.faults if outcome == what)
            lines += ["", f"- {tally.name}: {what} ({number} times, first input {first} of seed {seed})"]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", help=f"of {', '.join(FORMATS)}; all by default")
    parser.add_argument("--count", type=int, help="inputs of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where inputs are kept that were no good")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--range", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments.formats[0], arguments.seed, range(*arguments.range), arguments.child)
        return
    if unknown := set(arguments.formats) - FORMATS.keys():
        parser.error(f"no such format: {', '.join(sorted(unknown))}")
    tallies = []
    for name in arguments.formats or FORMATS:
        tallies.append(fuzz(name, arguments.seed, arguments.count or FORMATS[name].count, arguments.folder))
        print(f"{name}: {dict(tallies[-1].outcomes)} in {tallies[-1].seconds:.0f} s", flush=True)
        text = markdown(tallies, arguments.seed)
        if arguments.output:
            arguments.output.write_text(text, encoding="utf-8")
        if arguments.json:
            rows = [{"format": t.name, "outcomes": dict(t.outcomes), "faults": t.faults} for t in tallies]
            arguments.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
