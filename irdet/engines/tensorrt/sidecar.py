"""What a plan was built for. The plan itself stays plain, so that trtexec loads it; this lies beside it."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irdet.core.errors import ModelError
from irdet.core.files import sha256, write_text
from irdet.core.info import MAX_JSON_BYTES, ModelInfo
from irdet.core.jsonable import jsonable
from irdet.engines.tensorrt.cuda import Device
from irdet.engines.tensorrt.library import Library

#: Version of the sidecar's form.
FORMAT = 1

#: What plans are called.
PLANS = (".trt", ".engine", ".plan")

#: A plan for hardware compatibility runs on GPUs of this compute capability and later (Ampere).
COMPATIBLE_FROM = (8, 0)


@dataclass(frozen=True)
class Sidecar:
    """What stands beside a plan.

    Attributes:
        info: The model's record.
        plan_sha256: Of the plan.
        onnx_sha256: Of the ONNX file that it was built from.
        onnx: That file's name.
        library: `"tensorrt"` or `"tensorrt_rtx"`.
        version: Its version.
        gpu: Name of the GPU that it was built on; None where it was built without one.
        capabilities: Compute capabilities that it was built for.
        profile: Smallest, best and largest input [N, 1, H, W]; None for a fixed size.
        hardware_compatible: Built for every GPU from Ampere on.
        version_compatible: Built for later versions of the same major one, too.
        command: The command that builds it.
        report: What the builder said: seconds, layers by precision, warnings; JSON values.
    """

    info: ModelInfo
    plan_sha256: str
    onnx_sha256: str
    onnx: str
    library: str
    version: str
    gpu: str | None
    capabilities: tuple[tuple[int, int], ...]
    profile: tuple[tuple[int, ...], ...] | None
    hardware_compatible: bool
    version_compatible: bool
    command: str
    report: dict[str, Any] = field(default_factory=dict)

    def write(self, plan: Path) -> Path:
        """Writes it beside a plan; returns the file."""
        values = dataclasses.asdict(self) | {"info": json.loads(self.info.to_json())}
        path = sidecar_path(plan)
        write_text(path, json.dumps({"format": FORMAT, **jsonable(values)}, indent=2) + "\n")
        return path

    @classmethod
    def read(cls, plan: str | os.PathLike[str]) -> Sidecar:
        """Reads it, strictly.

        Raises:
            ModelError: There is none, or it is no sidecar.
        """
        path = sidecar_path(plan)
        if not path.is_file():
            raise ModelError(
                f"{os.fspath(plan)} comes without {path.name}, which says what it is; copy both, or build the engine "
                "here: irdet export MODEL.onnx"
            )
        if path.stat().st_size > 2 * MAX_JSON_BYTES:
            raise ModelError(f"{path}: longer than 2 MiB, so not a sidecar of irdet's")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path}: not valid JSON") from error
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ModelError(f"{path}: not a sidecar of this version; build the engine again")
        names = {one.name for one in dataclasses.fields(cls)}
        if set(values) != names:
            raise ModelError(f"{path}: fields {', '.join(sorted(set(values) ^ names))} are missing or unknown")
        try:
            return cls(
                **{
                    **values,
                    "info": ModelInfo.from_json(json.dumps(values["info"])),
                    "capabilities": tuple(_whole(pair, 2) for pair in values["capabilities"]),
                    "profile": values["profile"] and tuple(_whole(shape, 4) for shape in values["profile"]),
                    **{name: _text(values[name]) for name in ("plan_sha256", "onnx_sha256", "onnx", "library")},
                    **{name: _text(values[name]) for name in ("version", "command")},
                    "gpu": values["gpu"] and _text(values["gpu"]),
                    **{name: _flag(values[name]) for name in ("hardware_compatible", "version_compatible")},
                }
            )
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        except (TypeError, ValueError) as error:
            raise ModelError(f"{path}: damaged ({error}); build the engine again") from error

    def check(self, plan: Path, library: Library, device: Device) -> None:
        """Refuses a plan that does not fit the file, the library or the GPU.

        Raises:
            ModelError: Says what differs, and the command that builds the engine anew.
        """
        if reason := self._misfit(plan, library, device):
            raise ModelError(f"{plan} {reason}; build it here: {self.command}")

    def _misfit(self, plan: Path, library: Library, device: Device) -> str:
        if sha256(plan) != self.plan_sha256:
            return "is not the file that its sidecar describes"
        if library.name != self.library:
            return f"was built by {self.library}, here is {library}"
        same = library.version == self.version
        if not same and not (self.version_compatible and _major(library.version) == _major(self.version)):
            return f"was built by version {self.version}, here is {library}"
        if self.hardware_compatible:
            fits = device.capability >= COMPATIBLE_FROM
        else:
            fits = device.capability in self.capabilities and self.gpu in (None, device.name)
        if not fits:
            built = self.gpu or "compute capability " + ", ".join(f"{a}.{b}" for a, b in self.capabilities)
            return f"was built for {built}, here is {device}"
        return ""


def sidecar_path(plan: str | os.PathLike[str]) -> Path:
    """Returns where the sidecar of a plan lies: `best.trt` -> `best.trt.json`."""
    return Path(f"{os.fspath(plan)}.json")


def _major(version: str) -> str:
    return version.partition(".")[0]


def _whole(values: Any, length: int) -> tuple[Any, ...]:
    if not isinstance(values, list) or len(values) != length or not all(type(value) is int for value in values):
        raise TypeError(f"{values!r} is not {length} whole numbers")
    return tuple(values)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
