"""What each fault leaves of a run of `irdet infer`: the table of docs/reliability.md.

    python benchmarks/faults.py [--output docs/reliability.md] [--random-kills N]

Each fault hits a process of its own, which searches made frames with a classical method. Afterwards its lines, rows and
video are read back, and the run is gone on with by `--resume`: the files must then be those of a run that nothing hit.
Faults inside the process (a kill in a stage, an error of the engine) are put there by this script around irdet's own
functions. The disk that is full is a tmpfs, which only root may mount; that row is left out elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError
from irdet.runtime.sources import open_source

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, FRAMES = 128, 96, 120

#: The frame at which faults inside the process strike.
STRIKE = 57

#: Root may write anywhere; root without its capabilities is held to permissions like anybody else.
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


@dataclass(frozen=True)
class Row:
    """What a fault did."""

    fault: str
    code: int
    said: str
    lines: int
    rows_fit: bool
    video: str
    resumed: str


def frame(index: int) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(index).integers(60, 70, (HEIGHT, WIDTH)).astype(np.uint8)
    for number in range(index % 3):
        y, x = 10 + 25 * number, (7 * index + 40 * number) % (WIDTH - 8) + 2
        pixels[y : y + 3, x : x + 3] = 230
    return pixels


def raw_file(path: Path) -> Path:
    path.write_bytes(b"".join(frame(index).tobytes() for index in range(FRAMES)))
    return path


def pictures(folder: Path) -> Path:
    folder.mkdir()
    for index in range(FRAMES):
        cv2.imwrite(str(folder / f"{index}.png"), frame(index))
    return folder


RAW = ("--raw-shape", f"{WIDTH}x{HEIGHT}", "--raw-dtype", "uint8")


def start(*words: object, strike: str = "", before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Starts `irdet infer` with a fault in a stage."""
    command = [*before, sys.executable, __file__, "--child", strike, *map(str, words), "--model", "tophat", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def child(strike: str, words: list[str]) -> int:
    """Runs irdet in this process, with a fault put into a stage."""
    from irdet.cli import main
    from irdet.engines.base import BaseEngine
    from irdet.runtime import detector, pipeline, sinks
    from irdet.runtime.sources import stacks

    calls = 0

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fail() -> None:
        raise RuntimeError("the accelerator fell off the bus")

    def hook(owner: Any, name: str, then: Callable[[], None]) -> None:
        plain = getattr(owner, name)

        def struck(*arguments: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == STRIKE:
                then()
            return plain(*arguments, **more)

        setattr(owner, name, struck)

    places: dict[str, tuple[Any, str, Callable[[], None]]] = {
        "decode": (stacks.RawFormat, "frame", kill),
        "preprocess": (pipeline.Preprocessor, "__call__", kill),
        "inference": (BaseEngine, "run", kill),
        "targets": (detector, "extract_targets", kill),
        "draw": (pipeline, "annotate", kill),
        "lines": (sinks.JsonLinesSink, "write", kill),
        "rows": (sinks.CsvSink, "write", kill),
        "video": (sinks.VideoSink, "write", kill),
        "engine": (BaseEngine, "run", fail),
    }
    if strike:
        hook(*places[strike])
    return main(["infer", *words])


def judge(fault: str, run: subprocess.Popen[str], out: Path, whole: Path, again: tuple[object, ...] | None) -> Row:
    """Reads back what a run left, goes on with it, and compares."""
    said = (run.communicate(timeout=120)[1] or "").strip().replace(str(out.parent), "")
    lines = out / "targets.jsonl"
    records = []
    if lines.exists():
        for line in lines.read_bytes().splitlines(keepends=True):
            with suppress(ValueError):
                records.append(json.loads(line)["frame"])
    rows = (out / "targets.csv").read_text().splitlines()[1:] if (out / "targets.csv").exists() else []
    fit = {int(row.split(",")[0]) for row in rows if row.split(",")[0].isdecimal()} <= {*records}
    video = "none"
    if (out / "annotated.mkv").exists():
        try:
            with open_source(out / "annotated.mkv") as clip:
                video = f"plays, {sum(1 for _ in clip)} frames"
        except IrdetError:
            video = "does not play"
    resumed = "-"
    if again is not None:
        done = start(*again, "--resume", out)
        told = done.communicate(timeout=120)[1].strip()
        same = all(
            (out / name).read_bytes() == (whole / name).read_bytes() for name in ("targets.jsonl", "targets.csv")
        )
        resumed = "same files as without the fault" if done.returncode == 0 and same else f"differs: {told}"
    last = said.splitlines()[-1] if said else ""
    return Row(fault, run.returncode, last, len(records), fit, video, resumed)


def measure(folder: Path) -> list[Row]:
    source = raw_file(folder / "clip.raw")
    images = pictures(folder / "images")
    whole, whole_images = folder / "whole", folder / "whole-images"
    for what, out in (((source, *RAW), whole), ((images,), whole_images)):
        done = start(*what, "-o", out, "--no-video")
        if done.wait(120):
            raise SystemExit(f"the run without a fault failed: {done.communicate()[1]}")
    rows = []

    def one(fault: str, *words: object, strike: str = "", out: Path | None = None, resume: bool = True) -> None:
        where = out or folder / f"run-{len(rows)}"
        run = start(*words, "-o", where, strike=strike)
        rows.append(judge(fault, run, where, whole, tuple(words) if resume else None))

    for stage in ("decode", "preprocess", "inference", "targets", "draw"):
        one(f"kill -9 in stage {stage}", source, *RAW, strike=stage)
    one("kill -9 before a frame's line", source, *RAW, strike="lines")
    one("kill -9 between a frame's line and its rows", source, *RAW, strike="rows")
    one("kill -9 before a frame goes into the video", source, *RAW, strike="video")
    one(f"the engine fails at frame {STRIKE - 1}", source, *RAW, strike="engine")

    for number in (signal.SIGTERM, signal.SIGINT):
        out = folder / f"run-{len(rows)}"
        run = start(source, *RAW, "-o", out)
        wait_for(out / "targets.jsonl")
        run.send_signal(number)
        rows.append(judge(signal.Signals(number).name, run, out, whole, (source, *RAW)))

    cut = folder / "cut.raw"
    cut.write_bytes(source.read_bytes()[: int(70.5 * WIDTH * HEIGHT)])
    one("the source is cut within frame 70", cut, *RAW, resume=False)
    damaged = folder / "damaged"
    shutil.copytree(images, damaged)
    for index in range(0, FRAMES, 10):
        file = damaged / f"{index}.png"
        file.write_bytes(file.read_bytes()[:60])
    one("every tenth picture is corrupt", damaged, resume=False)
    other = folder / "other"
    shutil.copytree(images, other)
    cv2.imwrite(str(other / "60.png"), frame(60)[:-16, :-32])
    one("picture 60 has another size", other, resume=False)
    mask = folder / "mask.png"
    cv2.imwrite(str(mask), np.zeros((HEIGHT, WIDTH), np.uint8))
    one("picture 60 has another size than the mask of --ignore", other, "--ignore", mask, resume=False)

    if os.geteuid() == 0:
        rows += [full_disk(folder, source, whole), permission(folder, images)]
    return rows


def full_disk(folder: Path, source: Path, whole: Path) -> Row:
    """A tmpfs that the annotated video fills."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    try:
        run = start(source, *RAW, "-o", disk / "out")
        row = judge("the disk, of 2 MB, is full", run, disk / "out", whole, (source, *RAW))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    return row


def permission(folder: Path, images: Path) -> Row:
    """The folder of the pictures may not be written to any more."""
    out = folder / "lost"
    run = start(images, "-o", out, before=POWERLESS)
    wait_for(out / "targets.jsonl")
    (out / "annotated").chmod(0o500)
    return judge("the permission to write is lost", run, out, folder, None)


def wait_for(file: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and not (file.exists() and file.stat().st_size > 1500):
        time.sleep(0.002)


def random_kills(folder: Path, count: int) -> tuple[int, int]:
    """Kills runs at random moments, again and again, each time going on; returns kills and files that differ."""
    source = raw_file(folder / "random.raw")
    whole = folder / "random-whole"
    if start(source, *RAW, "-o", whole, "--no-video").wait(120):
        raise SystemExit("the run without a fault failed")
    chance = random.Random(0)
    kills = wrong = number = 0
    while kills < count:
        out = folder / f"random-{number}"
        number += 1
        words: tuple[object, ...] = ("-o", out)
        while True:
            run = start(source, *RAW, *words, "--no-video")
            with suppress(subprocess.TimeoutExpired):
                run.wait(0.25 + 0.4 * chance.random())
            run.kill()
            run.communicate()
            if run.returncode == 0:
                break
            kills += 1
            if (out / "targets.jsonl").exists():
                words = ("--resume", out)
        wrong += any(
            (out / name).read_bytes() != (whole / name).read_bytes() for name in ("targets.jsonl", "targets.csv")
        )
    return kills, wrong


def markdown(rows: list[Row], kills: tuple[int, int] | None) -> str:
    lines = [
        "# Reliability",
        "",
        f"What faults leave of a run of `irdet infer --model tophat` over {FRAMES} made frames of {WIDTH}x{HEIGHT}. "
        f"Faults inside the process strike at frame {STRIKE - 1}. *Lines* are the whole lines of targets.jsonl; *rows* "
        "tells whether each row of targets.csv belongs to one of them. Then the run is gone on with by `--resume`, and "
        "both files are compared with those of a run that nothing hit.",
        "",
        "| fault | exit code | said | lines | rows | video | resumed |",
        "| --- | ---: | --- | ---: | --- | --- | --- |",
    ]
    for row in rows:
        said = row.said.replace("|", "\\|") or "-"
        lines.append(
            f"| {row.fault} | {row.code} | {said} | {row.lines} | {'fit' if row.rows_fit else 'do not fit'} "
            f"| {row.video} | {row.resumed} |"
        )
    lines += [
        "",
        "Exit codes below 0 are signals; nothing is said by a process that is killed. Reading, searching and writing "
        "overlap, so some frames before the one that a kill strikes are without their line; `--resume` searches them "
        "again. A video that is killed lacks the last frames, which its container still held.",
    ]
    if kills is not None:
        lines += [
            "",
            f"Killed at {kills[0]} random moments and gone on with each time: {kills[1]} files differ in the end.",
        ]
    damaged = (ROOT / "docs" / "fuzz.md").read_text(encoding="utf-8").split("\n\n")
    lines += ["", "## Damaged files", "", damaged[1], "", damaged[2].strip(), "", "More: [fuzz.md](fuzz.md)."]
    return "\n".join([*lines, "", "Made by `python benchmarks/faults.py`.", ""])


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        sys.exit(child(sys.argv[2], sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "reliability.md")
    parser.add_argument("--random-kills", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = measure(Path(name))
        kills = random_kills(Path(name), arguments.random_kills) if arguments.random_kills else None
    arguments.output.write_text(markdown(rows, kills), encoding="utf-8")
    print(arguments.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
