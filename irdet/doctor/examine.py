"""Looks at everything, the parts beside each other."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from irdet.core.machine import Machine, read_machine
from irdet.doctor.fact import Fact
from irdet.doctor.parts import PARTS
from irdet.doctor.probes import LANES, gpu_on_bus
from irdet.doctor.process import try_lane

#: A process that has given nothing after this time hangs (s). A board that reads torch off a card takes a while.
PATIENCE = 60.0

#: Part -> packages that bring the same files, the one that keeps most first.
FAMILIES = {
    "OpenCV packages": (
        "opencv-contrib-python",
        "opencv-python",
        "opencv-contrib-python-headless",
        "opencv-python-headless",
    ),
    "ONNX Runtime packages": (
        "onnxruntime-gpu",
        "onnxruntime-openvino",
        "onnxruntime-directml",
        "onnxruntime",
    ),
}

#: Major release of L4T -> JetPack.
_JETPACK = {"35": "5", "36": "6", "38": "7", "39": "7"}


@dataclass(frozen=True)
class Finding:
    """A part, with what its lack costs and what helps.

    Attributes:
        part: A name of `irdet.doctor.parts.PARTS`.
        state: `"ok"`, `"missing"` or `"broken"`.
        found: Version and particulars, or what is wrong with it.
        cost: What does not work without it; "" where it is ok.
        command: What adds or mends it; "" where it is ok, or nothing helps.
    """

    part: str
    state: str
    found: str
    cost: str = ""
    command: str = ""


@dataclass(frozen=True)
class Report:
    """All findings.

    Attributes:
        machine: What they were made on.
        findings: In the order of `irdet.doctor.parts.PARTS`.
        runtimes: Parts that models run on here.
    """

    machine: Machine
    findings: tuple[Finding, ...]
    runtimes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return asdict(self)


def examine(root: Path = Path("/"), patience: float = PATIENCE) -> Report:
    """Looks at what is installed and usable here. Nothing is raised, whatever is broken.

    Args:
        root: Where the system's files begin; another folder holds those of another machine.
        patience: Seconds after which a part hangs.
    """
    machine = read_machine(root)
    with ThreadPoolExecutor(len(LANES)) as pool:
        lanes = pool.map(lambda lane: try_lane(lane, patience), LANES)
        facts = [*_python(), *_board(machine), *(fact for lane in lanes for fact in lane)]
    gpu = bool(machine.gpus) or gpu_on_bus(root) or any(f.part == "NVIDIA GPU" and f.state == "ok" for f in facts)
    order = list(PARTS)
    findings = [_advised(fact, jetson=bool(machine.l4t), gpu=gpu) for fact in facts]
    findings += [*_conflicts(gpu), *_clocks(machine, root)]
    findings.sort(key=lambda finding: order.index(finding.part))
    runtimes = [fact.part for fact in facts if fact.runs]
    return Report(machine, tuple(findings), tuple(sorted(runtimes, key=order.index)))


def _advised(fact: Fact, *, jetson: bool, gpu: bool) -> Finding:
    if fact.state == "ok":
        return Finding(fact.part, fact.state, fact.found)
    part = PARTS[fact.part]
    return Finding(fact.part, fact.state, fact.found, part.lack, part.remedy(jetson=jetson, gpu=gpu))


def _python() -> Iterator[Fact]:
    home = Path(sys.prefix) / "pyvenv.cfg"
    where = "no virtual environment"
    if sys.prefix != sys.base_prefix:
        try:
            system = re.search(r"^include-system-site-packages\s*=\s*true", home.read_text(encoding="utf-8"), re.M)
        except OSError:
            system = None
        where = f"virtual environment {'with' if system else 'without'} the system's packages"
    yield Fact("Python", "ok", f"{platform.python_version()}, {where}")


def _board(machine: Machine) -> Iterator[Fact]:
    if machine.l4t:
        jetpack = _JETPACK.get(machine.l4t.partition(".")[0])
        release = f" (JetPack {jetpack})" if jetpack else ""
        yield Fact("Jetson", "ok", f"{machine.board or 'unknown board'}, L4T {machine.l4t}{release}")


def _clocks(machine: Machine, root: Path) -> Iterator[Finding]:
    """Whether a Jetson computes as fast as it can: the largest power mode, clocks that do not follow the load."""
    if not machine.l4t:
        return
    part = "Jetson: clocks"
    mode = machine.power_mode
    found = f"power mode {mode or 'unknown'}, governor {machine.governor or 'unknown'}"
    if mode.startswith("MAXN") and (machine.governor == "performance" or _pinned(root)):
        yield Finding(part, "ok", found)
        return
    try:
        table = (root / "etc/nvpmodel.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:
        table = ""
    full = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=MAXN\S*?\s*>", table)
    steps = [f"sudo nvpmodel -m {full[0]}"] if full and not mode.startswith("MAXN") else []
    yield Finding(part, "missing", found, PARTS[part].lack, " && ".join([*steps, "sudo jetson_clocks"]))


def _pinned(root: Path) -> bool:
    """Whether clocks cannot fall: jetson_clocks raises the lowest to the highest and leaves the governor as it is."""
    folder = root / "sys/devices/system/cpu/cpu0/cpufreq"
    try:
        low, high = ((folder / f"scaling_{end}_freq").read_text(encoding="utf-8").strip() for end in ("min", "max"))
    except OSError:
        return False
    return low == high != ""


def _conflicts(gpu: bool) -> Iterator[Finding]:
    for part, family in FAMILIES.items():
        folders: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for name in family:
            for one in importlib.metadata.distributions(name=name):
                # Those of the system and those of an environment lie in different folders and do each other no harm.
                folders[str(one.locate_file(""))][name] = one.version
        for installed in folders.values():
            if len(installed) < 2:
                continue
            names = list(installed)
            # Without a GPU its package is the same but larger.
            keep = names[0] if gpu or "onnxruntime" not in names else "onnxruntime"
            yield Finding(
                part,
                "broken",
                " and ".join(f"{name} {version}" for name, version in installed.items()),
                PARTS[part].lack,
                f"pip uninstall -y {' '.join(names)} && pip install {keep}",
            )
