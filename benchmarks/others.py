"""Runs a network in ncnn or MNN for benchmarks/run.py, in an environment of its own (MNN's pins clash with onnx's).

    python benchmarks/others.py ncnn|MNN MODEL.onnx WIDTH HEIGHT THREADS

Converts the model beside itself, prints `ready NAME`, then answers each frame on standard input (float32 [H, W]) with
its probability map (the same) on standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def ncnn_runner(model: Path, width: int, height: int, threads: int) -> tuple[str, Callable[[Any], Any]]:
    tool = Path(sys.executable).with_name("pnnx")
    subprocess.run([tool, model, f"inputshape=[1,1,{height},{width}]"], check=True, stdout=sys.stderr, cwd=model.parent)
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    files = [model.with_suffix(suffix) for suffix in (".ncnn.param", ".ncnn.bin")]
    if net.load_param(str(files[0])) or net.load_model(str(files[1])):
        raise SystemExit(f"ncnn cannot load {files[0]} and {files[1]}")

    def run(frame: Any) -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(frame[None]).clone())
        _, output = extractor.extract("out0")
        return np.array(output)

    return f"ncnn {ncnn.__version__}", run


def mnn_runner(model: Path, width: int, height: int, threads: int) -> tuple[str, Callable[[Any], Any]]:
    tool, converted = Path(sys.executable).with_name("mnnconvert"), model.with_suffix(".mnn")
    words = ["-f", "ONNX", "--modelFile", model, "--MNNModel", converted, "--bizCode", "irdet"]
    subprocess.run([tool, *words], check=True, stdout=sys.stderr)
    import MNN
    from MNN import expr, nn

    manager = nn.create_runtime_manager(({"backend": 0, "numThread": threads, "precision": "high"},))
    module = nn.load_module_from_file(str(converted), ["frames"], ["probability"], runtime_manager=manager)

    def run(frame: Any) -> Any:
        variable = expr.placeholder([1, 1, height, width], expr.NCHW)
        variable.write(frame[None, None])
        return np.array(expr.convert(module.forward([variable])[0], expr.NCHW).read())

    return f"MNN {MNN.version()}", run


def main() -> None:
    kind, model, *numbers = sys.argv[1:]
    width, height, threads = map(int, numbers)
    # Whatever these libraries print goes to standard error: standard output carries maps.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    name, run = {"ncnn": ncnn_runner, "MNN": mnn_runner}[kind](Path(model).resolve(), width, height, threads)
    answers.write(f"ready {name}\n".encode())
    answers.flush()
    size = 4 * width * height
    while len(data := sys.stdin.buffer.read(size)) == size:
        frame = np.frombuffer(data, np.float32).reshape(height, width)
        answers.write(np.ascontiguousarray(run(frame), np.float32).tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
