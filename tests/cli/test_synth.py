from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from irdet.cli.synth import parse_span
from irdet.core.errors import UsageError
from irdet.data.sirst import load_dataset

SMALL = ("--size", "64x48", "--kind", "clouds", "--quiet")


def test_dataset(tmp_path: Path, irdet_command: Callable) -> None:
    folder = tmp_path / "set"
    options = ("--count", 2, "--bits", 16, "--targets", "2", "--scr", "5,20", "--noise", "3", "--seed", 5)
    result = irdet_command("synth", "dataset", folder, *SMALL, *options)
    assert result.code == 0 and result.err == ""
    assert f"{folder}: 2 images, 4 targets" in result.out
    raw, mask = load_dataset(folder).samples[0].read()
    assert raw.shape == (48, 64) and raw.dtype == "uint16" and mask.any()
    config = json.loads((folder / "scene.json").read_text())["config"]
    assert (config["scr"], config["noise"], config["targets"]) == ([5, 20], [3, 3], [2, 2])
    again = irdet_command("synth", "dataset", folder, *SMALL)
    assert again.code == 2 and "--exist-ok" in again.err
    assert irdet_command("synth", "dataset", folder, *SMALL, "-n", 1, "--exist-ok").code == 0


def test_clip(tmp_path: Path, irdet_command: Callable) -> None:
    result = irdet_command("synth", "clip", tmp_path / "a.mkv", *SMALL, "--frames", 3, "--fps", 10, "--json")
    assert result.code == 0
    record = json.loads(result.out)
    assert record["path"] == str(tmp_path / "a.mkv") and record["frames"] == 3
    reader = cv2.VideoCapture(record["path"])
    assert reader.get(cv2.CAP_PROP_FRAME_WIDTH) == 64 and reader.get(cv2.CAP_PROP_FPS) == 10
    assert len(Path(record["truth"]).read_text().splitlines()) == record["targets"] + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("clip", "a.mkv", "--kind", "cloud"), "did you mean clouds"),
        (("clip", "a.mkv", "--bits", "16"), "name a folder"),
        (("clip", "a.mkv", "--scr", "9,3"), "9,3"),
        (("clip", "a.mkv", "--targets", "1.5"), "whole numbers"),
        (("clip", "a.mkv", "--size", "0x5"), "0x5"),
        (("dataset", "set", "--bits", "12"), "bits 12"),
        (("dataset", "set", "--count", "0"), "--count"),
    ],
)
def test_misuse_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, irdet_command: Callable, arguments: tuple, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = irdet_command("synth", *arguments)
    assert result.code == 2 and result.out == ""
    assert message in result.err and result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_spans() -> None:
    assert parse_span("3,20") == (3, 20) and parse_span("5") == (5, 5)
    for text in ("", "a", "1,2,3", "3,nan", "5,1"):
        with pytest.raises(UsageError, match="LOW,HIGH"):
            parse_span(text)


def test_help_needs_no_opencv() -> None:
    code = "import sys, irdet.cli; irdet.cli.main(['synth', '--help']); print('cv2' in sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "clip" in run.stdout and run.stderr.strip() == "False"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_terminated_it_leaves_no_half_file(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "irdet", "synth", "clip", tmp_path / "clip.mkv", "--frames", "100000", "--quiet"]
    process = subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not any(tmp_path.iterdir()):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (143, "") and list(tmp_path.iterdir()) == []
