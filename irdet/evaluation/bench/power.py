"""What the board draws: INA sensors of a Jetson from sysfs, NVIDIA's management library (NVML) on a desktop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irdet.core.errors import MissingDependency
from irdet.core.extras import require

#: Seconds between two readings: NVML and INA sensors average over about this time themselves.
PERIOD = 0.1

#: Rails that carry the whole board's power. Where a board has none of these, its rails are added up.
WHOLE = ("VDD_IN", "POM_5V_IN", "5V_IN", "VDD_TOTAL")


@dataclass(frozen=True)
class Sensor:
    """A way to read the power.

    Attributes:
        name: What is measured, for instance `"VDD_IN"`.
        watts: Reads it, W.
    """

    name: str
    watts: Callable[[], float]


@dataclass
class Meter:
    """Readings taken while something ran.

    Attributes:
        readings: Watts.
    """

    readings: list[float] = field(default_factory=list)

    @property
    def watts(self) -> float | None:
        """Their mean; None where nothing was read."""
        return sum(self.readings) / len(self.readings) if self.readings else None


def find_sensor(gpu: bool, root: Path = Path("/")) -> Sensor | None:
    """Returns how this machine tells its power; None where it does not.

    Args:
        gpu: An NVIDIA GPU computes, so a desktop's GPU is asked where the board has no sensors.
        root: Where the system's files begin.
    """
    return _ina(root) or (_nvml() if gpu else None)


@contextmanager
def metered(sensor: Sensor | None, meter: Meter) -> Iterator[None]:
    """Reads the sensor in a thread of its own while the block runs."""
    if sensor is None:
        yield
        return
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            with contextlib.suppress(Exception):  # a sensor that is busy or gone gives no reading, no more
                meter.readings.append(sensor.watts())
            stop.wait(PERIOD)

    thread = threading.Thread(target=read, name="power", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10 * PERIOD + time.get_clock_info("monotonic").resolution)


def _ina(root: Path) -> Sensor | None:
    """INA3221: volts and amperes per channel under hwmon (JetPack 5 and later)."""
    rails = {}
    for label in sorted((root / "sys/class/hwmon").glob("hwmon*/in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        volts, amperes = label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")
        if volts.is_file() and amperes.is_file():
            with contextlib.suppress(OSError):
                rails[label.read_text(encoding="utf-8").strip()] = (volts, amperes)
    if not rails:
        return None
    chosen = next(([name] for name in WHOLE if name in rails), list(rails))

    def watts() -> float:
        # Millivolts times milliamperes are microwatts.
        return sum(1e-6 * float(rails[name][0].read_text()) * float(rails[name][1].read_text()) for name in chosen)

    return Sensor("+".join(chosen), watts)


def _nvml() -> Sensor | None:
    try:
        nvml: Any = require("pynvml", "gpu", "reading the GPU's power")
    except MissingDependency:
        return None
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        nvml.nvmlDeviceGetPowerUsage(handle)
    except Exception:  # no driver, or a GPU that does not tell
        return None

    def watts() -> float:
        return 1e-3 * float(nvml.nvmlDeviceGetPowerUsage(handle))

    return Sensor("GPU 0", watts)
