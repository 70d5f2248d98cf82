"""`irdet train`, as a user calls it."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from irdet.cli.rundir import claimed
from irdet.core.info import ModelInfo
from irdet.models import create_model, load_checkpoint, save_checkpoint

SMALL = ("--epochs", "2", "--batch", "2", "--crop", "64", "--device", "cpu", "--threads", "1", "--quiet")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    rng = np.random.default_rng(1)
    for number in range(0, 16, 2):
        image = cv2.GaussianBlur(rng.random((80, 96), dtype=np.float32), (0, 0), 3)
        image = cv2.normalize(image, None, 40, 150, cv2.NORM_MINMAX)
        mask = np.zeros(image.shape, np.uint8)
        y, x = rng.integers(20, 60, 2)
        mask[y : y + 4, x : x + 4] = 255
        image[mask > 0] = 230
        cv2.imwrite(str(root / "images" / f"{number}.png"), image.astype(np.uint8))
        cv2.imwrite(str(root / "masks" / f"{number}.png"), mask)
    return root


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_trains_and_tells_where_things_are(irdet_command: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    done = irdet_command("train", "--data", data, *SMALL, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert Path(told["folder"]) == Path("runs/train/mlcl-edge")
    assert {"validation", "validation_512x512"} <= set(told["metrics"])
    for name in ("best.pt", "last.pt", "log.csv", "predictions.png"):
        assert (tmp_path / "runs/train/mlcl-edge" / name).stat().st_size
    again = irdet_command("train", "--data", data, *SMALL, "--json", "--ckpt", told["best"])
    assert json.loads(again.out)["folder"] == "runs/train/mlcl-edge-2", "never over an older run"


def test_a_start_that_may_have_seen_what_is_held_out_is_told(irdet_command: Callable[..., Any], data: Path) -> None:
    """Figures of a fold are honest only where the start held the same fold of the same data out."""
    first = json.loads(irdet_command("train", "--data", data, *SMALL, "--json", "--fold", "0").out)
    same = json.loads(irdet_command("train", "--data", data, *SMALL, "--json").out)
    seen = irdet_command("train", "--data", data, *SMALL, "--json", "--ckpt", first["best"])
    assert seen.code == 0 and "may have been trained on what is held out here" in seen.err
    unseen = irdet_command("train", "--data", data, *SMALL, "--json", "--ckpt", same["best"])
    assert unseen.code == 0 and "may have been trained" not in unseen.err
    loaded, _ = load_checkpoint(json.loads(unseen.out)["best"])
    start, _ = load_checkpoint(same["best"])
    assert loaded.info.training["initial"] == start.info.weights_sha256


def test_two_runs_do_not_train_in_one_folder(irdet_command: Callable[..., Any], data: Path) -> None:
    done = json.loads(irdet_command("train", "--data", data, *SMALL, "--json").out)
    with claimed(Path(done["folder"])):
        second = irdet_command("train", "--data", data, "--resume", done["folder"])
    assert second.code == 2 and "another run of irdet is writing there" in second.err


def test_what_does_not_fit_is_drawn_by_the_seed(irdet_command: Callable[..., Any], data: Path) -> None:
    other = create_model("mlcl-small")
    save_checkpoint("other.pt", other, ModelInfo("mlcl-small"))
    words = ("train", "--data", data, *SMALL, "--json", "--ckpt", "other.pt", "--model", "mlcl-base", "--fold", "0")
    one, two = (load_checkpoint(json.loads(irdet_command(*words).out)["last"])[0].info for _ in range(2))
    assert one.weights_sha256 == two.weights_sha256


def test_where_nothing_is_held_out_there_are_no_figures(irdet_command: Callable[..., Any], data: Path) -> None:
    done = irdet_command("train", "--data", data, *SMALL, "--epochs", "1", "--fold", "0")
    assert done.code == 0, done.err
    assert "nothing was held out" in done.err and "runs/train/mlcl-edge" in done.err and done.out == ""


def test_a_killed_run_goes_on(data: Path, tmp_path: Path) -> None:
    """Ctrl-C in a real process: exit code 130, one line that says how to go on, and that line works."""
    spaced = tmp_path / "my data"
    spaced.symlink_to(data)
    command = [sys.executable, "-m", "irdet", "train", "--data", str(spaced), *SMALL, "--epochs", "60"]
    command += ["--name", "long"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "runs/train/long/log.csv"
    deadline = time.monotonic() + 240
    while not (log.exists() and len(log.read_text().splitlines()) > 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert len(message.splitlines()) == 1 and "--resume" in message
    before = len(log.read_text().splitlines())
    first, *again = shlex.split(message.split("to go on: ")[1])
    assert first == "irdet" and {"--resume", "--threads", str(spaced)} <= set(again)
    resumed = subprocess.Popen([sys.executable, "-m", "irdet", *again, "--quiet"], stderr=subprocess.PIPE, text=True)
    while len(log.read_text().splitlines()) <= before:
        assert resumed.poll() is None and time.monotonic() < deadline + 240
        time.sleep(0.05)
    resumed.send_signal(signal.SIGTERM)
    resumed.communicate(timeout=120)
    assert resumed.returncode == 143
    epochs = [line.split(",")[0] for line in log.read_text().splitlines()[1:]]
    assert epochs == [str(n) for n in range(len(epochs))], "no epoch twice, none missing"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--data", "nowhere"], 2, "nowhere"),
        (["--model", "mlcl-egde"], 2, "did you mean mlcl-edge"),
        (["--recipe", "edge"], 2, "did you mean edge-v"),
        (["--crop", "50"], 2, "multiple of 16"),
        (["--crop", "100000"], 2, "at most 4096"),
        (["--device", "gpu"], 2, "must be auto, cpu or cuda"),
        (["--resume", "runs/none"], 2, "--resume runs/none: no folder of a run"),
        (["--resume", "."], 1, "no such file: last.pt"),
        (["--resume", ".", "--recipe", "edge-v20"], 2, "leave --recipe out"),
        (["--resume", ".", "--name", "x"], 2, "leave --name out"),
        (["--resume", ".", "--mean", "mlcl-edge"], 2, "leave --mean out"),
        (["--recipe", "base-v7"], 2, "--mean"),
        (["--mean", "mlcl-edge"], 2, "has no mean_share"),
        (["--recipe", "edge-v22"], 2, "name these with --ckpt"),
        (["--mean", "none.pt"], 1, "none.pt"),
        (["--recipe", "base-v7", "--mean", "mlcl-edge"], 2, "another network than mlcl-base"),
        (["--batch", "1", "--crop", "16"], 2, "batch normalisation"),
        (["--fold", "9"], 2, "fold must lie in 0 to 5"),
        (["--ckpt", "none.pt"], 1, "none.pt"),
        (["--ckpt", "mlcl-egde"], 2, "did you mean mlcl-edge"),
        (["--epochs", "0"], 2, "epochs"),
        (["--backgrounds", "nowhere"], 2, "nowhere"),
    ],
)
def test_misuse_is_one_line(
    irdet_command: Callable[..., Any], data: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    if "--data" not in arguments:
        arguments = ["--data", str(data), *arguments]
    result = irdet_command("train", *arguments, "--quiet")
    assert result.code == code, result.err
    assert words in result.err and len(result.err.strip().splitlines()) == 1
    assert not (tmp_path / "runs/train").exists(), "no folder is left behind"
