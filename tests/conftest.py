"""What all tests share."""

from __future__ import annotations

import functools
import os

# One thread per test process: xdist runs several beside each other. Set before anything loads OpenMP.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# FFmpeg reads its level once, when a process first uses it, and in some orders that is a test's own writer of clips.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from irdet.core.info import METADATA_KEY, ModelInfo

if TYPE_CHECKING:
    from irdet.models import LoadedModel

# What is printed must not depend on who watches: colours are forced on by some of these, widths by others.
for _name in ("FORCE_COLOR", "PY_COLORS", "NO_COLOR", "TTY_COMPATIBLE", "GITHUB_ACTIONS", "COLUMNS", "TERMINAL_WIDTH"):
    os.environ.pop(_name, None)

# What irdet keeps between runs is not the user's here.
_CACHE = tempfile.TemporaryDirectory(prefix="irdet-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

settings.register_profile(
    "irdet",
    deadline=None,
    max_examples=30,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("irdet")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real frames, clips and reference outputs that lie beside the checkout, not in it."""
    folder = Path(os.environ.get("IRDET_SHARED", ROOT.parent / "shared"))
    if not (folder / "DESIGN.md").is_file():
        pytest.skip(f"no shared data in {folder} (set IRDET_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@dataclass(frozen=True)
class CommandResult:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def irdet_command(capfd: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Runs the command line in this process: `irdet_command("info", "mlcl-edge", "--json").code`."""

    def run(*arguments: object) -> CommandResult:
        from irdet.cli import main

        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return CommandResult(code, captured.out, captured.err)

    return run


#: numpy's types -> ONNX's numbers of them (onnx.proto, TensorProto.DataType).
ONNX_TYPES = MappingProxyType({"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "float16": 10})

Port = tuple[str, str, Sequence[int | str]]
Node = tuple[str, Sequence[str], Sequence[str], Mapping[str, "int | str | Sequence[int]"]]


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A protobuf message: whole numbers from 0 on, and text or bytes with their length."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@pytest.fixture(scope="session")
def protobuf() -> Callable[..., bytes]:
    """`message`."""
    return message


@pytest.fixture(scope="session")
def write_graph() -> Callable[..., Path]:
    """Writes an ONNX file without onnx, which devices do not have; see `write`."""

    def attribute(name: str, value: int | str | Sequence[int]) -> bytes:
        if isinstance(value, int):
            return message((1, name), (3, value), (20, 2))
        if isinstance(value, str):
            return message((1, name), (4, value), (20, 3))
        return message((1, name), *((8, one) for one in value), (20, 7))

    def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], options: Mapping[str, Any]) -> bytes:
        names = [*((1, name) for name in inputs), *((2, name) for name in outputs)]
        return message(*names, (4, operator), *((5, attribute(*one)) for one in options.items()))

    def port(name: str, kind: str, shape: Sequence[int | str]) -> bytes:
        sides = [(1, message((1, side) if isinstance(side, int) else (2, side))) for side in shape]
        return message((1, name), (2, message((1, message((1, ONNX_TYPES[kind]), (2, message(*sides)))))))

    def constant(name: str, value: Any) -> bytes:
        array = np.asarray(value)
        kind = (2, ONNX_TYPES[array.dtype.name])
        return message(*((1, side) for side in array.shape), kind, (8, name), (9, array.tobytes()))

    def write(
        path: Path,
        nodes: Sequence[Node],
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        constants: Mapping[str, Any] = MappingProxyType({}),
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> Path:
        """Nodes are (operator, inputs, outputs, attributes), ports (name, numpy's type, shape)."""
        graph = message(
            *((1, node(*one)) for one in nodes),
            (2, "graph"),
            *((5, constant(*one)) for one in constants.items()),
            *((11, port(*one)) for one in inputs),
            *((12, port(*one)) for one in outputs),
        )
        entries = [(14, message((1, key), (2, value))) for key, value in metadata.items()]
        path.write_bytes(message((1, 8), (8, message((1, ""), (2, 17))), (7, graph), *entries))
        return path

    return write


@pytest.fixture(scope="session")
def bright_model(write_graph: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a model whose probability is brightness, with a record of irdet's or without."""
    shape = (1, 1, "height", "width")

    def write(path: Path, info: ModelInfo | None, **properties: str) -> Path:
        record = {METADATA_KEY: info.to_json()} if info else {}
        ports = [[(name, "float32", shape)] for name in ("frame", "probability")]
        return write_graph(path, [("Identity", ["frame"], ["probability"], {})], *ports, metadata=properties | record)

    return write


@pytest.fixture(scope="session")
def sharp_model() -> Callable[..., LoadedModel]:
    """Makes networks with random weights that find targets: `sharp_model("mlcl-edge", threshold=0.3)`.

    The last layer is scaled so that one pixel in two hundred of a made frame stands above the threshold, and few stand
    close to it.
    """
    torch = pytest.importorskip("torch", reason="the networks need torch: pip install 'irdet[train]'")

    from irdet.engines.probe import as_batch, probe_frame
    from irdet.models import LoadedModel, create_model
    from irdet.models.checkpoints import describe

    @functools.cache
    def make(name: str = "mlcl-edge", *, threshold: float = 0.5, seed: int = 0) -> LoadedModel:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            module = create_model(name).eval()
            frame = torch.from_numpy(as_batch(probe_frame(128, 160)[None]))
            head: Any = module.head
            last = head[-1]
            raw: list[Any] = []
            hook = last.register_forward_hook(lambda _layer, _inputs, output: raw.append(output))
            module(frame)
            hook.remove()
            (logits,) = raw
            scale = 2 / logits.std()
            last.weight *= scale
            last.bias *= scale
            wanted = torch.logit(torch.tensor(threshold))
            last.bias += wanted - torch.quantile(logits * scale, 0.995)
            for step in 8 / 2.0 ** torch.arange(12):  # what stands behind the last layer is not linear
                last.bias += step if torch.quantile(module(frame), 0.995) < wanted else -step
        return LoadedModel(module, describe(module, ModelInfo(name, threshold=threshold)))

    return make
