from __future__ import annotations

from pathlib import Path

import pytest

from irdet.core.machine import read_machine


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine() -> None:
    machine = read_machine()
    assert machine.cores >= 1 and machine.cpu and machine.architecture
    assert str(machine.cores) in str(machine)


def test_a_jetson(tmp_path: Path) -> None:
    root = _tree(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n"
            "Features\t: fp asimd asimddp crc32\n",
            "proc/meminfo": "MemTotal:        7802752 kB\nMemFree: 1 kB\n",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
            "var/lib/nvpmodel/status": "pmode:0002\n",
            "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        },
    )
    machine = read_machine(root)
    assert machine.cpu == "ARMv8 Processor rev 1 (v8l)" and machine.extensions == ("asimd", "asimddp")
    assert machine.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert (machine.l4t, machine.power_mode, machine.governor) == ("36.4.3", "MAXN_SUPER", "schedutil")
    assert machine.memory == 7802752 * 1024
    assert machine.driver == "36.4.3" and len(machine.gpus) == 1


def test_a_desktop_with_two_gpus(tmp_path: Path) -> None:
    gpu = "Model: \t\t NVIDIA GeForce RTX {}\nIRQ:   \t 24\n"
    root = _tree(
        tmp_path,
        {
            "proc/cpuinfo": "model name\t: Some CPU\nflags\t\t: fpu avx2 avx_vnni\n",
            "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Kernel Module  580.65.06  Release\n",
            "proc/driver/nvidia/gpus/0000:01:00.0/information": gpu.format(4090),
            "proc/driver/nvidia/gpus/0000:02:00.0/information": gpu.format(3060),
        },
    )
    machine = read_machine(root)
    assert machine.driver == "580.65.06" and machine.extensions == ("avx2", "avx_vnni")
    assert machine.gpus == ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3060")


@pytest.mark.parametrize("files", [{}, {"proc/cpuinfo": "\0\0", "var/lib/nvpmodel/status": "pmode:0007"}])
def test_what_is_not_told_is_empty(tmp_path: Path, files: dict[str, str]) -> None:
    machine = read_machine(_tree(tmp_path, files))
    assert machine.driver == machine.l4t == machine.board == "" and machine.gpus == () and machine.memory == 0
    assert machine.power_mode == ("7" if files else "")
