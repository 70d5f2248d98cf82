"""The machine that something was measured on: read from the system's own files, so it needs no package and no GPU."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Instruction sets that decide which arithmetic is fast, by the kernel's name.
_EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")


@dataclass(frozen=True)
class Machine:
    """What a figure depends on besides the model.

    Attributes:
        cpu: Model of the CPU.
        cores: Logical cores that this process may use.
        extensions: The instruction sets among `_EXTENSIONS` that it has.
        memory: Bytes of main memory; 0 where unknown.
        system: Operating system and its release.
        architecture: For instance `"x86_64"` or `"aarch64"`.
        python: Version of Python.
        board: Model of a single-board computer, for instance `"NVIDIA Jetson Orin Nano Developer Kit"`; "" elsewhere.
        l4t: Release of NVIDIA's Linux for Tegra, for instance `"36.4.3"`; "" elsewhere.
        power_mode: Name of the Jetson's power mode, for instance `"MAXN"`; "" elsewhere.
        governor: How the CPU's clock is governed, for instance `"performance"`; "" where it is not told.
        driver: Version of NVIDIA's driver, "" where there is none; on a Jetson it is `l4t`.
        gpus: Names of NVIDIA's GPUs.
    """

    cpu: str
    cores: int
    extensions: tuple[str, ...]
    memory: int
    system: str
    architecture: str
    python: str
    board: str
    l4t: str
    power_mode: str
    governor: str
    driver: str
    gpus: tuple[str, ...]

    def __str__(self) -> str:
        parts = [self.board or self.cpu, f"{self.cores} cores"]
        parts += [f"L4T {self.l4t}"] * bool(self.l4t) + [f"mode {self.power_mode}"] * bool(self.power_mode)
        parts += self.gpus
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return asdict(self)


def read_machine(root: Path = Path("/")) -> Machine:
    """Reads what this machine is. What cannot be read is "" or 0; nothing is raised.

    Args:
        root: Where the system's files begin; another folder holds those of another machine.
    """
    cpuinfo = _text(root / "proc/cpuinfo")
    flags = set(re.findall(r"\S+", " ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.M)[:1])))
    # `# R36 (release), REVISION: 4.3, GCID: ...`
    tegra = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    l4t = f"{tegra[1]}.{tegra[2]}" if tegra else ""
    driver = re.search(r"Kernel Module(?: for \S+)?\s+(\d+\.[\d.]+)", _text(root / "proc/driver/nvidia/version"))
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.M)
    return Machine(
        cpu=_cpu(cpuinfo),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        extensions=tuple(name for name in _EXTENSIONS if name in flags),
        memory=1024 * int(memory[1]) if memory else 0,
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        board=_text(root / "proc/device-tree/model").strip("\0 \n"),
        l4t=l4t,
        power_mode=_power_mode(root),
        governor=_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        driver=driver[1] if driver else l4t,
        gpus=_gpus(root) or (("Tegra integrated GPU",) if l4t else ()),
    )


def _cpu(cpuinfo: str) -> str:
    name = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.M)
    return name[1].strip() if name else platform.processor() or platform.machine()


def _gpus(root: Path) -> tuple[str, ...]:
    try:
        files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    except OSError:
        return ()
    return tuple(name.strip() for file in files for name in re.findall(r"^Model:\s*(.+)$", _text(file), re.M))


def _power_mode(root: Path) -> str:
    """The mode's number stands in nvpmodel's status, its name in the board's table."""
    number = re.search(r"pmode:0*(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if number is None:
        return ""
    modes = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", _text(root / "etc/nvpmodel.conf"))
    names: dict[str, str] = dict(modes)
    return names.get(number[1], str(number[1]))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
