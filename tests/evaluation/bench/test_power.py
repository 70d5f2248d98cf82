from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from irdet.evaluation.bench.power import PERIOD, Meter, Sensor, find_sensor, metered


def _rails(root: Path, rails: dict[str, tuple[int, int]]) -> Path:
    folder = root / "sys/class/hwmon/hwmon3"
    folder.mkdir(parents=True)
    for number, (name, (millivolts, milliamperes)) in enumerate(rails.items(), 1):
        (folder / f"in{number}_label").write_text(f"{name}\n")
        (folder / f"in{number}_input").write_text(f"{millivolts}\n")
        (folder / f"curr{number}_input").write_text(f"{milliamperes}\n")
    (folder / "in7_label").write_text("sum of shunt voltages\n")  # has no current
    return root


def test_the_whole_boards_rail(tmp_path: Path) -> None:
    sensor = find_sensor(True, _rails(tmp_path, {"VDD_IN": (5000, 1500), "VDD_CPU_GPU_CV": (5000, 700)}))
    assert sensor is not None and sensor.name == "VDD_IN"
    assert sensor.watts() == pytest.approx(7.5)


def test_rails_are_added_up_where_none_is_the_whole(tmp_path: Path) -> None:
    sensor = find_sensor(True, _rails(tmp_path, {"VDD_GPU_SOC": (12000, 1000), "VDD_CPU_CV": (12000, 500)}))
    assert sensor is not None and sensor.watts() == pytest.approx(18.0)


def test_a_machine_that_does_not_tell(tmp_path: Path) -> None:
    assert find_sensor(False, tmp_path) is None
    meter = Meter()
    with metered(None, meter):
        pass
    assert meter.watts is None


def test_readings_go_on_while_the_block_runs_and_stop_with_it() -> None:
    values, enough = iter([1.0, 3.0] + [2.0] * 1000), threading.Event()

    def watts() -> float:
        value = next(values)
        if value == 2.0:
            enough.set()
        if value == 3.0:
            raise OSError("busy")
        return value

    meter = Meter()
    with metered(Sensor("x", watts), meter):
        assert enough.wait(60)
    count = len(meter.readings)
    assert count >= 2 and 1.0 < (meter.watts or 0) <= 2.0
    time.sleep(2 * PERIOD)
    assert len(meter.readings) == count


def test_a_sensor_that_fails_gives_no_reading() -> None:
    def fail() -> float:
        raise RuntimeError("GPU is lost")

    meter = Meter()
    raised: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", raised.append)
        with metered(Sensor("gone", fail), meter):
            time.sleep(3 * PERIOD)
    assert not raised and not meter.readings
