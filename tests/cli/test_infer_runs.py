"""Runs of `irdet infer` as processes of their own: signals, kills, stalls, pipes, and going on afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import IrdetError
from irdet.core.images import write_png
from irdet.core.nuc import identity
from irdet.runtime import sinks
from irdet.runtime.sources import open_source

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 96, 64
RAW = ("--raw-shape", f"{WIDTH}x{HEIGHT}", "--raw-dtype", "uint16le")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and named pipes of POSIX")


def frame(index: int) -> NDArray[np.uint16]:
    pixels = np.random.default_rng(index).integers(2000, 2100, (HEIGHT, WIDTH)).astype("<u2")
    pixels[20:23, index % 80 + 5 : index % 80 + 8] = 9000 - 50 * (index % 30)  # so that the range moves
    return pixels


def raw_file(path: Path, frames: int) -> Path:
    path.write_bytes(b"".join(frame(index).tobytes() for index in range(frames)))
    return path


def infer(*words: object, **more: Any) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "irdet", "infer", *map(str, words), "--model", "tophat", *RAW]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment, **more}
    return subprocess.Popen(arguments, **more)


def numbers(folder: Path) -> list[int]:
    return [json.loads(line)["frame"] for line in (folder / "targets.jsonl").read_text().splitlines()]


def wait_for_lines(folder: Path, count: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if (folder / "targets.jsonl").exists() and len((folder / "targets.jsonl").read_bytes().splitlines()) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"no {count} frames within 30 s")


class Feeder:
    """Feeds frames into a named pipe at a steady pace until it is stopped, then holds the pipe open."""

    def __init__(self, path: Path, frames: int) -> None:
        os.mkfifo(path)
        code = (
            "import sys, time; sys.path.insert(0, sys.argv[1]); from tests.cli.test_infer_runs import frame\n"
            "with open(sys.argv[2], 'wb', buffering=0) as pipe:\n"
            "    for index in range(int(sys.argv[3])):\n"
            "        pipe.write(frame(index).tobytes()); time.sleep(0.01)\n"
            "    time.sleep(60)\n"
        )
        self.process = subprocess.Popen([sys.executable, "-c", code, str(ROOT), str(path), str(frames)])

    def __enter__(self) -> Feeder:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_finishes_the_frame_and_the_files(tmp_path: Path, number: int, word: str) -> None:
    out = tmp_path / "out"
    with Feeder(tmp_path / "pipe", 10**6):
        run = infer(tmp_path / "pipe", "-o", out, "--quiet")
        wait_for_lines(out, 5)
        run.send_signal(number)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 128 + number
    assert said.startswith(f"irdet: {word} after ") and said.count("\n") == 1
    done = numbers(out)
    assert done == list(range(len(done))) and len(done) >= 5
    rows = (out / "targets.csv").read_text().splitlines()[1:]
    assert {int(row.split(",")[0]) for row in rows} == set(done)
    with open_source(out / "annotated.mkv") as video:
        assert video.length == len(done)


def test_a_signal_ends_a_run_that_waits_for_its_source(tmp_path: Path) -> None:
    with Feeder(tmp_path / "pipe", 3):
        run = infer(tmp_path / "pipe", "-o", tmp_path / "out", "--quiet")
        wait_for_lines(tmp_path / "out", 3)
        time.sleep(0.3)
        run.terminate()
        _, said = run.communicate(timeout=30)
    assert run.returncode == 143
    assert said == "irdet: the run is over; the source does not answer\n"
    assert numbers(tmp_path / "out") == [0, 1, 2]
    with open_source(tmp_path / "out" / "annotated.mkv") as video:
        assert video.length == 3


def test_a_stall_is_given_up(tmp_path: Path) -> None:
    with Feeder(tmp_path / "pipe", 4):
        run = infer(tmp_path / "pipe", "-o", tmp_path / "out", "--quiet", "--max-stall", "1")
        _, said = run.communicate(timeout=60)
    assert run.returncode == 1
    assert said == "irdet: no frame for 1 s (--max-stall): the source does not answer\n"
    assert numbers(tmp_path / "out") == [0, 1, 2, 3]
    with open_source(tmp_path / "out" / "annotated.mkv") as video:
        assert video.length == 4


@pytest.mark.parametrize("how", ["stall", "signal"])
def test_waiting_for_the_first_frame_is_watched_too(tmp_path: Path, how: str) -> None:
    with Feeder(tmp_path / "pipe", 0):
        run = infer(
            tmp_path / "pipe", "-o", tmp_path / "out", "--quiet", "--max-stall", "1" if how == "stall" else "60"
        )
        if how == "signal":
            time.sleep(3)
            run.terminate()
        _, said = run.communicate(timeout=60)
    if how == "stall":
        assert (run.returncode, said) == (1, "irdet: no frame for 1 s (--max-stall): the source does not answer\n")
    else:
        assert (run.returncode, said) == (143, "irdet: terminated before the first frame\n")


def test_a_signal_that_ends_the_source_too_is_told_as_one(tmp_path: Path) -> None:
    """Ctrl-C ends what feeds a pipe with the run, and the pipe's end must not hide it."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        run = infer("-", "-o", tmp_path / "out", "--quiet", stdin=pipe)
    time.sleep(3)
    run.send_signal(signal.SIGINT)
    os.close(writing)
    _, said = run.communicate(timeout=30)
    assert (run.returncode, said) == (130, "irdet: interrupted before the first frame\n")


def test_images_with_a_rate_have_times_and_keep_their_names(irdet_command: Callable[..., Any], tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"shot{index}.png"), frame(index))
    words = ("infer", folder, "--model", "tophat", "--masks", "--quiet")
    assert irdet_command(*words, "-o", out, "--fps", 10).code == 0
    lines = [json.loads(line) for line in (out / "targets.jsonl").read_text().splitlines()]
    assert [line["time"] for line in lines] == [0.0, 0.1, 0.2]
    for kind in ("masks", "annotated"):
        assert sorted(path.name for path in (out / kind).iterdir()) == ["shot0.png", "shot1.png", "shot2.png"]


def test_heartbeats(tmp_path: Path) -> None:
    with Feeder(tmp_path / "pipe", 200):
        run = infer(
            tmp_path / "pipe", "-o", tmp_path / "out", "--quiet", "--no-video", "--heartbeat", "0.3", "--limit", 90
        )
        _, said = run.communicate(timeout=60)
    lines = [line for line in said.splitlines() if line.startswith("alive: ")]
    assert run.returncode == 0 and len(lines) >= 2
    assert "frames/s" in lines[-1] and "from capture to record" in lines[-1]


def test_a_killed_run_is_gone_on_with_and_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    source = raw_file(tmp_path / "clip.raw", 300)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert infer(source, "-o", whole, "--no-video", "--quiet").wait(60) == 0
    kills = 0
    words: tuple[object, ...] = ("-o", cut)
    for delay in (5, 60, 150):
        run = infer(source, *words, "--no-video", "--quiet")
        wait_for_lines(cut, delay)
        run.kill()
        run.communicate()
        kills += run.returncode == -signal.SIGKILL
        words = ("--resume", cut)
    assert kills >= 1
    last = infer(source, "--resume", cut, "--no-video", "--quiet")
    _, said = last.communicate(timeout=60)
    assert last.returncode == 0, said
    for name in ("targets.jsonl", "targets.csv"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_resumed_videos_are_numbered(tmp_path: Path) -> None:
    source = raw_file(tmp_path / "clip.raw", 40)
    out = tmp_path / "out"
    assert infer(source, "-o", out, "--limit", 15, "--quiet").wait(60) == 0
    assert infer(source, "--resume", out, "--quiet").wait(60) == 0
    assert numbers(out) == list(range(40))
    with open_source(out / "annotated.mkv") as one, open_source(out / "annotated-2.mkv") as two:
        assert (one.length, two.length) == (15, 25)
    before = (out / "targets.jsonl").read_bytes()
    for limit in ((), ("--limit", 40)):
        again = infer(source, "--resume", out, *limit)
        said = again.communicate()[1]
        assert again.returncode == 0 and "nothing is left to do" in said, said
        assert (out / "targets.jsonl").read_bytes() == before and not (out / "annotated-3.mkv").exists()


def test_going_on_with_another_source_is_misuse(irdet_command: Callable[..., Any], tmp_path: Path) -> None:
    one, two = raw_file(tmp_path / "one.raw", 9), raw_file(tmp_path / "two.raw", 9)
    out = tmp_path / "out"
    words = ("--model", "tophat", *RAW, "--no-video", "--quiet")
    assert irdet_command("infer", one, "-o", out, "--limit", 3, *words).code == 0
    before = (out / "targets.jsonl").read_bytes()
    done = irdet_command("infer", two, "--resume", out, *words)
    assert done.code == 2 and "its frame 2 is of one.raw" in done.err and done.err.count("\n") == 1
    shorter = raw_file(tmp_path / "three.raw", 3)
    done = irdet_command("infer", shorter, "--resume", out, *words)
    assert done.code == 2 and "its frame 2 is of one.raw" in done.err, "nothing is left of it, but it is another one"
    assert (out / "targets.jsonl").read_bytes() == before
    assert irdet_command("infer", one, "--resume", out, *words).code == 0 and numbers(out) == list(range(9))


def test_going_on_with_another_model_or_other_options_is_misuse(
    irdet_command: Callable[..., Any], tmp_path: Path
) -> None:
    source, out = raw_file(tmp_path / "clip.raw", 9), tmp_path / "out"
    mask = tmp_path / "mask.png"
    cv2.imwrite(str(mask), np.zeros((HEIGHT, WIDTH), np.uint8))
    words = (source, *RAW, "--no-video", "--quiet", "--ignore", mask)
    assert irdet_command("infer", *words, "-o", out, "--limit", 3, "--model", "tophat").code == 0
    assert json.loads((out / "run.json").read_text())["model"] == "tophat"
    before = (out / "targets.jsonl").read_bytes()
    for changed, told in (
        (("--model", "lcm"), 'model was "tophat" in that run and is "lcm" here'),
        (("--model", "tophat", "--masks"), "masks was false in that run and is true here"),
        (("--model", "tophat", "--min-area", 2), "min_area was 1 in that run and is 2 here"),
        (("--model", "tophat", "--threshold", "mean+9std"), 'is "mean+9std" here'),
    ):
        done = irdet_command("infer", *words, "--resume", out, *changed)
        assert done.code == 2 and told in done.err and done.err.count("\n") == 1, done.err
    cv2.imwrite(str(mask), np.ones((HEIGHT, WIDTH), np.uint8))
    done = irdet_command("infer", *words, "--resume", out, "--model", "tophat")
    assert done.code == 2 and "ignore_sha256 was" in done.err
    assert (out / "targets.jsonl").read_bytes() == before
    cv2.imwrite(str(mask), np.zeros((HEIGHT, WIDTH), np.uint8))
    assert irdet_command("infer", *words, "--resume", out, "--model", "tophat").code == 0
    assert numbers(out) == list(range(9))


def test_going_on_when_nothing_is_left_is_json_too(irdet_command: Callable[..., Any], tmp_path: Path) -> None:
    source, out = raw_file(tmp_path / "clip.raw", 5), tmp_path / "out"
    words = ("--model", "tophat", *RAW, "--no-video", "--quiet", "--json")
    first = json.loads(irdet_command("infer", source, "-o", out, *words).out)
    again = irdet_command("infer", source, "--resume", out, *words)
    record = json.loads(again.out)
    assert again.code == 0 and first["frames"] == 5 and record["frames"] == 0 and record.keys() <= first.keys()


def test_going_on_where_the_rest_cannot_be_used(irdet_command: Callable[..., Any], tmp_path: Path) -> None:
    """Frames without a value are read, and refused later than damaged files are."""
    stack = np.stack([frame(index) for index in range(4)]).astype(np.float32)
    stack[2:] = np.nan
    np.save(tmp_path / "clip.npy", stack)
    words = ("infer", tmp_path / "clip.npy", "--model", "tophat", "--no-video", "--json")
    first = irdet_command(*words, "-o", tmp_path / "out")
    again = irdet_command(*words, "--resume", tmp_path / "out")
    for run, frames in ((first, 2), (again, 0)):
        assert run.code == 0, run.err
        assert (json.loads(run.out)["frames"], json.loads(run.out)["skipped_frames"]) == (frames, 2)
    assert numbers(tmp_path / "out") == [0, 1]
    assert irdet_command(*words, "--start", 2).code == 1, "nothing is done by anybody"


def test_going_on_behind_what_cannot_be_read(irdet_command: Callable[..., Any], tmp_path: Path) -> None:
    """The last image is damaged, or standard input has no more: the run is done, as it is for a video."""
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), frame(index))
    (folder / "3.png").write_bytes(b"no image")
    words = ("--model", "tophat", "--no-video")
    assert irdet_command("infer", folder, "-o", out, *words).code == 0
    again = irdet_command("infer", folder, "--resume", out, *words, "--json")
    assert again.code == 0 and "nothing is left to do" in again.err and "skipped: cannot read" in again.err
    record = json.loads(again.out)
    assert record["skipped_frames"] == 1 and "3.png" in record["skipped"][0]["reason"], "as the whole run tells"
    (folder / "1.png").unlink()
    other = irdet_command("infer", folder, "--resume", out, *words)
    assert other.code == 2 and "give the source of that run" in other.err
    raw = raw_file(tmp_path / "clip.raw", 4)
    for option in ("-o", "--resume"):
        with raw.open("rb") as piped:
            run = infer("-", option, tmp_path / "piped", "--no-video", stdin=piped)
            _, said = run.communicate(timeout=60)
        assert run.returncode == 0, said
    assert "nothing is left to do" in said and numbers(tmp_path / "piped") == [0, 1, 2, 3]


def test_a_frame_is_done_when_all_of_it_is_there(
    irdet_command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What --resume would not make anew is written before the line by which a frame counts as done."""
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for index in range(5):
        cv2.imwrite(str(folder / f"{index}.png"), frame(index))
    words = ("infer", folder, "--model", "tophat", "--masks", "--quiet")
    real = write_png

    def full(path: Path, pixels: NDArray[np.uint8]) -> None:
        if path.name == "3.png":
            raise IrdetError("disk full")
        real(path, pixels)

    with monkeypatch.context() as failing:
        failing.setattr(sinks, "write_png", full)
        assert irdet_command(*words, "-o", out).code == 1
    assert irdet_command(*words, "--resume", out).code == 0
    for kind in ("masks", "annotated"):
        assert sorted(path.name for path in (out / kind).iterdir()) == [f"{index}.png" for index in range(5)]
    assert numbers(out) == [0, 1, 2, 3, 4]


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Feeder(tmp_path / "pipe", 10**6):
        first = infer(tmp_path / "pipe", "-o", out, "--no-video", "--quiet")
        wait_for_lines(out, 3)
        for words in (("--resume", out), ("-o", out, "--exist-ok")):
            second = infer(raw_file(tmp_path / "clip.raw", 4), *words, "--no-video", "--quiet")
            said = second.communicate(timeout=60)[1]
            assert second.returncode == 2 and "another run of irdet is writing there" in said
        first.terminate()
        assert first.wait(60) == 143
    done = numbers(out)
    assert done == list(range(len(done))) and len(done) >= 3


@pytest.mark.parametrize("record", [None, '{"model": "tophat"}'])
def test_stopped_before_the_first_frame(tmp_path: Path, record: str | None) -> None:
    """What such a run says to do next works."""
    out = tmp_path / "out"
    out.mkdir()
    if record is not None:
        (out / "run.json").write_text(record)
        (out / "masks").mkdir()
        (out / "masks" / "0.png").write_bytes(b"written before the line")
    run = infer(raw_file(tmp_path / "clip.raw", 4), "--resume", out, "--no-video", "--quiet")
    _, said = run.communicate(timeout=60)
    assert run.returncode == 0 and numbers(out) == [0, 1, 2, 3], said


def test_a_run_in_a_used_folder_leaves_nothing_of_the_one_before(
    tmp_path: Path, irdet_command: Callable[..., Any]
) -> None:
    """Else its record would stand beside the other's lines where it stops before its first frame."""
    out, good, bad = tmp_path / "out", tmp_path / "good", tmp_path / "bad"
    for folder, pixels in ((good, frame(0).astype(np.float32)), (bad, np.full((HEIGHT, WIDTH), np.nan, np.float32))):
        folder.mkdir()
        (folder / "0.tiff").write_bytes(cv2.imencode(".tiff", pixels)[1].tobytes())
    words = ("--model", "tophat", "--no-video", "-q")
    assert irdet_command("infer", good, "-o", out, "--coco", *words).code == 0
    assert irdet_command("infer", bad, "-o", out, "--exist-ok", "--threshold", "0.9", *words).code == 1
    assert sorted(path.name for path in out.iterdir()) == ["run.json"]
    assert json.loads((out / "run.json").read_text())["threshold"] == 0.9


@pytest.mark.parametrize("source", ["good", "out"])
def test_what_a_run_reads_is_not_cleared_for_it(tmp_path: Path, irdet_command: Callable[..., Any], source: str) -> None:
    """Pictures of an earlier run may be read by the next one, in the same folder."""
    out = tmp_path / "out"
    (out / "annotated").mkdir(parents=True)
    (out / "run.json").write_text("{}")
    (tmp_path / "good").mkdir()
    for path in (out / "annotated" / "0.png", tmp_path / "good" / "7.png"):
        cv2.imwrite(str(path), frame(0))
    (out / "part-0003" / "masks").mkdir(parents=True)
    (out / "part-0003" / "masks" / "5.png").touch()
    (out / "part-0003" / "notes.txt").touch()
    read = out / "annotated" if source == "out" else tmp_path / "good"
    words = ("infer", read, "-o", out, "--exist-ok", "--model", "tophat", "--no-video", "-q")
    assert irdet_command(*words).code == 0
    assert (out / "annotated" / "0.png").exists() == (source == "out")
    assert (out / "part-0003" / "notes.txt").exists() and not (out / "part-0003" / "masks").exists()


def test_resume_tells_clips_of_one_name_apart(tmp_path: Path, irdet_command: Callable[..., Any]) -> None:
    """As of cameras that write video.raw into a folder for each day."""
    out = tmp_path / "out"
    for day in "ab":
        (tmp_path / day).mkdir()
        (tmp_path / day / "clip.raw").write_bytes(b"".join(frame(n + ord(day)).tobytes() for n in range(4)))
    words = ("--model", "tophat", "--no-video", "-q", *RAW)
    assert irdet_command("infer", tmp_path / "a" / "clip.raw", "-o", out, "--limit", "2", *words).code == 0
    result = irdet_command("infer", tmp_path / "b" / "clip.raw", "--resume", out, *words)
    assert result.code == 2 and "is not the" in result.err and numbers(out) == [0, 1]
    masks = irdet_command("infer", tmp_path / "a" / "clip.raw", "--resume", out, "--masks", *words)
    assert masks.code == 2 and "masks was false in that run and is true here" in masks.err
    (tmp_path / "a" / "clip.raw").rename(tmp_path / "clip.raw")
    assert irdet_command("infer", tmp_path / "clip.raw", "--resume", out, *words).code == 0
    assert numbers(out) == [0, 1, 2, 3]


def test_a_correction_of_another_size_is_told_at_once(tmp_path: Path, irdet_command: Callable[..., Any]) -> None:
    identity((8, 8)).write(tmp_path / "camera.npz")
    out = tmp_path / "out"
    result = irdet_command(
        *("infer", raw_file(tmp_path / "clip.raw", 4), "-o", out, "--nuc", tmp_path / "camera.npz"),
        *("--model", "tophat", *RAW),
    )
    assert result.code == 2 and f"8x8 px does not fit frames of {WIDTH}x{HEIGHT} px" in result.err
    assert result.err.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize("inside", ["", "/*.png"], ids=["folder", "glob"])
def test_resume_refuses_another_folder_of_the_same_names(
    inside: str, tmp_path: Path, irdet_command: Callable[..., Any]
) -> None:
    for name, first in (("one", 0), ("other", 5)):
        (tmp_path / name).mkdir()
        for index in range(4):
            cv2.imwrite(str(tmp_path / name / f"{index}.png"), frame(first + index))
    words, out = ("--model", "tophat", "--no-video", "-q"), tmp_path / "out"
    assert irdet_command("infer", f"{tmp_path}/one{inside}", "-o", out, "--limit", "2", *words).code == 0
    other = irdet_command("infer", f"{tmp_path}/other{inside}", "--resume", out, *words)
    assert other.code == 2 and "give the source of that run" in other.err and numbers(out) == [0, 1]
    (tmp_path / "one").rename(tmp_path / "moved")
    moved = irdet_command("infer", f"{tmp_path}/moved{inside}", "--resume", out, *words)
    assert moved.code == 0 and numbers(out) == [0, 1, 2, 3]


def test_a_reader_of_messages_that_leaves_costs_no_frame(tmp_path: Path) -> None:
    """As a collector of logs that dies."""
    out, reader, writer = tmp_path / "out", *os.pipe()
    run = infer(raw_file(tmp_path / "clip.raw", 20), "-o", out, "--no-video", stderr=writer)
    os.close(writer)
    os.close(reader)
    run.communicate(timeout=60)
    assert run.returncode == 0 and numbers(out) == list(range(20))


def test_a_run_says_when_it_started(tmp_path: Path, irdet_command: Callable[..., Any]) -> None:
    before = datetime.now(timezone.utc)
    words = (raw_file(tmp_path / "clip.raw", 2), "-o", tmp_path / "out", "--model", "tophat", "--no-video", *RAW)
    told = json.loads(irdet_command("infer", *words, "--json").out)
    started = datetime.fromisoformat(json.loads((tmp_path / "out/run.json").read_text())["started"])
    assert before - timedelta(seconds=1) <= started <= datetime.now(timezone.utc)
    assert told["started"] == started.isoformat(timespec="milliseconds")


def test_frames_that_the_mask_does_not_fit_are_skipped(tmp_path: Path, irdet_command: Callable[..., Any]) -> None:
    (tmp_path / "images").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"images/{index}.png"), frame(index)[: -1 if index == 1 else None])
    cv2.imwrite(str(tmp_path / "ignore.png"), 0 * frame(0))
    words = ("--model", "tophat", "-o", tmp_path / "out", "--ignore", tmp_path / "ignore.png", "--no-video")
    done = irdet_command("infer", tmp_path / "images", *words)
    assert done.code == 0 and numbers(tmp_path / "out") == [0, 2]
    assert "skipped: 1.png: ignore mask of" in done.err


def test_names_with_signs_of_other_systems(tmp_path: Path, irdet_command: Callable[..., Any]) -> None:
    cv2.imwrite(str(tmp_path / "back\\slash.png"), frame(0))
    done = irdet_command("infer", tmp_path / "back\\slash.png", "--model", "tophat", "-q")
    assert done.code == 0 and "runs/infer/back_slash" in done.out


def test_a_link_into_nowhere_is_called_one(tmp_path: Path, irdet_command: Callable[..., Any]) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    assert "a.png: no such file or folder (a link into nowhere)" in irdet_command("infer", tmp_path / "a.png").err


def test_labels_are_not_taken_for_an_old_runs_masks(tmp_path: Path, irdet_command: Callable[..., Any]) -> None:
    labels = tmp_path / "set/masks"
    for folder in (labels, tmp_path / "set/images"):
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "0.png"), frame(0))
    (tmp_path / "set/coco.json").write_text("{}")
    words = ("infer", tmp_path / "set/images", "-o", tmp_path / "set", "--exist-ok", "--model", "tophat", "-q")
    for more in ((), ("--masks",)):
        refused = irdet_command(*words, *more)
        assert refused.code == 2 and f"{labels} holds pictures that are no run's" in refused.err
    assert (labels / "0.png").read_bytes() == (tmp_path / "set/images/0.png").read_bytes()
    labels.rename(tmp_path / "labels")
    (tmp_path / "set/annotated_by_hand.mkv").touch()
    cv2.imwrite(str(tmp_path / "ignore.png"), 0 * frame(0))
    for _ in range(2):
        assert irdet_command(*words, "--masks", "--ignore", tmp_path / "ignore.png").code == 0
    kept = {path.name for path in (tmp_path / "set").iterdir()}
    assert {"annotated_by_hand.mkv", "masks", "run.json"} <= kept
    assert "coco.json" not in kept, "the second run takes it for one of the first"


def test_what_a_run_is_given_is_not_cleared(tmp_path: Path, irdet_command: Callable[..., Any]) -> None:
    source, out = raw_file(tmp_path / "clip.raw", 2), tmp_path / "out"
    words = ("infer", source, "-o", out, "--exist-ok", "--model", "tophat", "--no-video", "-q", *RAW)
    assert irdet_command(*words, "--masks").code == 0
    assert irdet_command(*words, "--ignore", out / "masks/000000.png").code == 0
    assert [path.name for path in (out / "masks").iterdir()] == ["000000.png"]


def test_json_tells_the_rate_that_was_reached_and_the_one_that_was_given(
    tmp_path: Path, irdet_command: Callable[..., Any]
) -> None:
    source, out = raw_file(tmp_path / "clip.raw", 4), tmp_path / "out"
    done = irdet_command(
        "infer", source, "-o", out, "--fps", "12", "--model", "tophat", "--json", "--stride", "2", *RAW
    )
    told, record = json.loads(done.out), json.loads((out / "run.json").read_text())
    assert record["frame_rate"] == told["frame_rate"] == 12 and told["fps"] != 12
    assert record["source"] == told["source"] == str(source)
    with open_source(out / "annotated.mkv") as video:
        assert video.fps == 6, "it plays as fast as its source"


def test_resume_reads_raw_frames_as_before(tmp_path: Path, irdet_command: Callable[..., Any]) -> None:
    """Nothing in a raw file tells how it is to be read."""
    out = tmp_path / "out"
    words = ("infer", raw_file(tmp_path / "clip.raw", 4), "--model", "tophat", "--no-video", "-q", *RAW)
    assert irdet_command(*words, "-o", out).code == 0
    for more in (("--raw-dtype", "uint16be"), ("--raw-shape", f"{HEIGHT}x{WIDTH}"), ("--fps", "3")):
        result = irdet_command(*words, "--resume", out, *more)
        assert result.code == 2 and "give the model and the options of that run" in result.err


def test_standard_output_for_the_next_program(tmp_path: Path) -> None:
    source = raw_file(tmp_path / "clip.raw", 30)
    run = infer(source, "-o", tmp_path / "out", "--stdout", "--quiet", "--no-video")
    out, said = run.communicate(timeout=60)
    assert run.returncode == 0 and said == ""
    assert out == (tmp_path / "out" / "targets.jsonl").read_text()


def test_a_reader_that_leaves_ends_the_run_in_one_line(tmp_path: Path) -> None:
    source = raw_file(tmp_path / "clip.raw", 2000)
    run = infer(source, "-o", tmp_path / "out", "--stdout", "--quiet")
    assert run.stdout is not None and run.stderr is not None
    run.stdout.readline()
    run.stdout.close()
    said = run.stderr.read()
    assert run.wait(60) == 1
    assert said.startswith("irdet: standard output was closed after ") and said.count("\n") == 1
    done = numbers(tmp_path / "out")
    assert done == list(range(len(done))) and 0 < len(done) < 2000
    with open_source(tmp_path / "out" / "annotated.mkv") as video:
        assert abs((video.length or 0) - len(done)) <= 1


def test_parts(irdet_command: Callable[..., Any], tmp_path: Path) -> None:
    source = raw_file(tmp_path / "clip.raw", 20)
    done = irdet_command("infer", source, "--model", "tophat", *RAW, "-o", tmp_path / "out", "--rotate", "1h", "--coco")
    assert done.code == 0
    assert {path.name for path in (tmp_path / "out" / "part-0001").iterdir()} == {
        "targets.jsonl",
        "targets.csv",
        "coco.json",
        "annotated.mkv",
    }
    assert len(json.loads((tmp_path / "out/part-0001/coco.json").read_text())["images"]) == 20


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--stdout", "--json"), "both want standard output"),
        (("--resume", "none"), "no targets.jsonl"),
        (("--resume", "none", "--output", "x"), "leave --output out"),
        (("--resume", "none", "--track"), "needs the whole run"),
        (("--resume", "none", "--rotate", "1h"), "needs the whole run"),
        (("--rotate", "soon"), "a size or an age"),
        (("--udp", "nowhere"), "HOST:PORT"),
        (("--udp", "a..b:5000"), "no name of a host"),
        (("--rotate", "9" * 400 + "GB"), "a size or an age"),
        (("--max-stall", "0"), "--max-stall"),
        (("--max-stall", "nan"), "--max-stall nan: give a finite number"),
        (("--heartbeat", "nan"), "--heartbeat nan: give a finite number"),
        (("--track", "--tracker", "history=1000000000"), "must be at most"),
    ],
)
def test_misuse(
    irdet_command: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    source = raw_file(tmp_path / "clip.raw", 3)
    done = irdet_command("infer", source, "--model", "tophat", *RAW, *words)
    assert done.code == 2 and told in done.err and done.err.count("\n") == 1
