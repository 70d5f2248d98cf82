"""What a machine's files and packages tell, and what the whole report looks like."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from irdet.doctor import examine as module
from irdet.doctor.examine import Finding, examine
from irdet.doctor.fact import Fact
from irdet.doctor.parts import PARTS
from irdet.doctor.probes import LANES, PROBES, gpu_on_bus

JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64\n",
    "var/lib/nvpmodel/status": "pmode:0000\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fact]:
    """What the probes are said to find; every other part is missing."""
    facts: dict[str, Fact] = {}

    def lane(parts: Sequence[str], limit: float) -> list[Fact]:
        return [facts.get(part, Fact(part, "missing", "not installed")) for part in parts]

    monkeypatch.setattr(module, "try_lane", lane)
    return facts


def by_part(findings: Sequence[Finding]) -> dict[str, Finding]:
    named = {finding.part: finding for finding in findings}
    assert len(named) == len(findings), "a part is told twice"
    return named


def test_every_part_that_is_tried_has_its_line() -> None:
    assert sorted(part for lane in LANES for part in lane) == sorted(PROBES)
    assert PROBES.keys() <= PARTS.keys()


@pytest.mark.usefixtures("found")
def test_a_jetson_that_is_not_set_up(tmp_path: Path) -> None:
    report = examine(tree(tmp_path, JETSON))
    told = by_part(report.findings)
    assert told["Jetson"].found == "NVIDIA Jetson Orin Nano Developer Kit, L4T 36.4.3 (JetPack 6)"
    assert told["Jetson: clocks"] == Finding(
        "Jetson: clocks",
        "missing",
        "power mode 15W, governor schedutil",
        "irdet bench measures this mode, not what the board can do",
        "sudo nvpmodel -m 2 && sudo jetson_clocks",
    )
    assert told["TensorRT"].command.startswith("sudo apt install nvidia-jetpack")
    assert "irdet[jetson]" in told["cuda-python"].command
    commands = " ".join(one.command for one in report.findings)
    assert "onnxruntime-gpu" not in commands, "PyPI has none for a Jetson"
    assert "irdet[cpu]" not in commands and "irdet[openvino]" not in commands, "they would replace JetPack's NumPy"
    assert report.runtimes == ()


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(
    ("mode", "governor", "lowest", "command"),
    [
        ("0002", "performance", "729600", ""),
        ("0002", "schedutil", "729600", "sudo jetson_clocks"),
        ("0002", "schedutil", "1728000", ""),  # what jetson_clocks leaves
        ("0000", "performance", "1728000", "sudo nvpmodel -m 2 && sudo jetson_clocks"),
    ],
)
def test_clocks(tmp_path: Path, mode: str, governor: str, lowest: str, command: str) -> None:
    files = {"var/lib/nvpmodel/status": f"pmode:{mode}\n"}
    frequency = "sys/devices/system/cpu/cpu0/cpufreq/scaling_"
    files |= {f"{frequency}governor": governor, f"{frequency}min_freq": lowest, f"{frequency}max_freq": "1728000\n"}
    clocks = by_part(examine(tree(tmp_path, JETSON | files)).findings)["Jetson: clocks"]
    assert clocks.command == command and (clocks.state == "ok") == (not command)


@pytest.mark.usefixtures("found")
def test_what_needs_a_gpu_is_offered_where_one_is(tmp_path: Path) -> None:
    without = by_part(examine(tmp_path).findings)
    card = {"vendor": "0x10de\n", "class": "0x030000\n"}
    root = tree(tmp_path, {f"sys/bus/pci/devices/0000:01:00.0/{name}": text for name, text in card.items()})
    with_card = by_part(examine(root).findings)
    assert gpu_on_bus(root)
    for part in ("ONNX Runtime: CUDA", "TensorRT", "cuda-python"):
        assert not without[part].command and with_card[part].command
        assert without[part].cost == with_card[part].cost != ""
    assert without.keys() == with_card.keys() and "Jetson" not in without


@pytest.mark.parametrize("kind", ["0x020000", "0x04"])
def test_other_devices_of_the_bus_are_no_gpu(tmp_path: Path, kind: str) -> None:
    files = {"a/vendor": "0x10de", "a/class": kind, "b/vendor": "0x8086", "b/class": "0x030000", "c/vendor": "0x10de"}
    assert not gpu_on_bus(tree(tmp_path, {f"sys/bus/pci/devices/{name}": text for name, text in files.items()}))


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(
    ("names", "part", "keep"),
    [
        (("onnxruntime", "onnxruntime_gpu"), "ONNX Runtime packages", "onnxruntime"),
        (("opencv_python", "opencv_python_headless"), "OpenCV packages", "opencv-python"),
    ],
)
def test_packages_that_overwrite_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], part: str, keep: str
) -> None:
    def install(folder: Path, *packages: str) -> None:
        for name in packages:
            record = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 99.1\n"
            tree(folder, {f"{name}-99.1.dist-info/METADATA": record})
        monkeypatch.syspath_prepend(str(folder))

    install(tmp_path / "one", names[0])
    install(tmp_path / "two", names[1])
    assert part not in by_part(examine(tmp_path).findings), "in two folders they do each other no harm"
    install(tmp_path / "both", *names)
    finding = by_part(examine(tmp_path).findings)[part]
    assert finding.state == "broken" and finding.found.count(" 99.1") == 2 and finding.cost
    uninstall, install_again = finding.command.split(" && ")
    assert all(name.replace("_", "-") in uninstall.split() for name in names)
    assert install_again == f"pip install {keep}"


def test_the_command_with_nothing_that_runs(irdet_command: Callable[..., Any], found: dict[str, Fact]) -> None:
    found["OpenVINO"] = Fact("OpenVINO", "broken", "crashes (SIGSEGV)")
    done = irdet_command("doctor")
    assert done.code == 1 and done.err == "" and done.out.endswith("models run here on nothing\n")
    lines = done.out.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("broken  OpenVINO"))
    assert lines[at].endswith("crashes (SIGSEGV)")
    assert lines[at + 1].split(": ", 1)[1] == PARTS["OpenVINO"].lack
    assert lines[at + 2].split(": ", 1)[1].strip() == "pip install 'irdet[openvino]'"

    found["OpenVINO"] = Fact("OpenVINO", "ok", "2026.4", runs=True)
    done = irdet_command("doctor")
    assert done.code == 0 and done.out.endswith("models run here on OpenVINO\n")


def test_the_command_for_real(irdet_command: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> None:
    """Every probe runs: nothing but JSON on stdout, nothing on stderr, and what the tests use is found usable."""
    pytest.importorskip("onnxruntime")
    started = time.monotonic()
    done = irdet_command("doctor", "--json")
    assert time.monotonic() - started < module.PATIENCE
    assert done.code == 0 and done.err == ""
    report = json.loads(done.out, parse_constant=pytest.fail)
    assert report.keys() == {"irdet", "machine", "findings", "runtimes"}
    assert "ONNX Runtime" in report["runtimes"]
    told = {finding["part"]: finding for finding in report["findings"]}
    for finding in told.values():
        assert finding.keys() == {"part", "state", "found", "cost", "command"}
        assert finding["state"] in ("ok", "missing", "broken") and finding["found"]
        assert (finding["state"] == "ok") == (finding["cost"] == "")
        assert "\n" not in "".join(finding.values())
    for part in ("Python", "NumPy", "OpenCV", "OpenCV: FFmpeg", "shipped models", "ONNX Runtime"):
        assert told[part]["state"] == "ok", told[part]
    assert PROBES.keys() <= told.keys()
