from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

import irdet
from irdet.cli import COMMANDS, build_app
from irdet.cli.console import print_json, print_table, progress
from irdet.cli.options import (
    DeviceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    RangeOption,
    ResizeOption,
    SeedOption,
    ThreadsOption,
    parse_range,
    parse_size,
)
from irdet.core.errors import FrameError, UsageError

ERRORS: dict[str, BaseException] = {
    "frame": FrameError("clip.mkv (frame 3) is cut off\nafter 10 bytes"),
    "usage": UsageError("--threads 9: this machine has 4"),
    "opencv": ModuleNotFoundError("No module named 'cv2'", name="cv2"),
    "bug": ZeroDivisionError("division by zero"),
    "disk": OSError(28, "No space left on device", "out/targets.jsonl"),
    "interrupt": KeyboardInterrupt(),
    "exit": SystemExit(7),
}


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Adds a command `probe KIND` that raises `ERRORS[KIND]`; gives a list of the options that it was called with."""
    calls: list[dict[str, object]] = []

    def command(
        kind: str,
        model: ModelOption = None,
        resize: ResizeOption = None,
        range: RangeOption = None,
        device: DeviceOption = "auto",
        threads: ThreadsOption = None,
        quiet: QuietOption = False,
        json: JsonOption = False,
        seed: SeedOption = 0,
    ) -> None:
        calls.append(locals().copy())
        if kind in ERRORS:
            raise ERRORS[kind]

    module = ModuleType("irdet_probe")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(COMMANDS["Use"], "probe", "irdet_probe:command")
    return calls


def test_version(irdet_command: Callable) -> None:
    result = irdet_command("--version")
    assert (result.code, result.out, result.err) == (0, f"irdet {irdet.__version__}\n", "")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=str)
def test_help_lists_every_command_in_its_panel(irdet_command: Callable, words: list[str]) -> None:
    result = irdet_command(*words)
    assert result.code == 0 and result.err == ""
    place = -1
    for panel, commands in COMMANDS.items():
        for word in (panel, *commands) if commands else ():
            place = result.out.index(f" {word} ", place + 1)


@pytest.mark.parametrize("name", [name for commands in COMMANDS.values() for name in commands])
def test_every_command_has_help(irdet_command: Callable, name: str) -> None:
    result = irdet_command(name, "--help")
    assert result.code == 0 and f"irdet {name}" in result.out


def test_only_the_command_that_is_called_is_imported() -> None:
    code = (
        "import sys; from irdet.cli import main; main(['doctor', '--help']); "
        "print(sorted(name for name in sys.modules if name.startswith('irdet.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert "irdet.cli.doctor" in modules and "irdet.cli.infer" not in modules and "irdet.cli.train" not in modules


def test_an_app_of_one_command_names_it() -> None:
    names = [command.name for command in build_app("check").registered_commands]
    assert names == ["check"]
    assert len(build_app("chekc").registered_commands) > 5, "all, for the error names the nearest"


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prob", "x"], "'probe'"),
        (["zzz"], "No such command 'zzz'"),
        (["probe"], "Missing argument"),
        (["probe", "x", "--modle", "a"], "--model"),
        (["probe", "x", "--threads", "0"], "--threads"),
        (["probe", "x", "--threads", "many"], "--threads"),
        (["probe", "x", "y"], "unexpected extra argument"),
        (["probe", "x", "--resize", "640y512"], "640y512"),
        (["--vresion"], "--version"),
    ],
    ids=str,
)
def test_misuse_is_one_line_and_2(irdet_command: Callable, words: list[str], message: str) -> None:
    result = irdet_command(*words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("irdet: ") and message in result.err and result.err.count("\n") == 1


def test_a_name_does_not_steer_the_terminal(irdet_command: Callable) -> None:
    result = irdet_command("verify", "a\x1b[31m.onnx")
    assert result.code == 1 and "a\ufffd[31m.onnx" in result.err and "\x1b" not in result.err


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("frame", 1, "irdet: clip.mkv (frame 3) is cut off after 10 bytes\n"),
        ("usage", 2, "irdet: --threads 9: this machine has 4\n"),
        ("disk", 1, "irdet: out/targets.jsonl: No space left on device\n"),
        ("opencv", 1, "irdet: this command needs cv2, which is not installed: pip install 'irdet[cpu]'\n"),
        (
            "bug",
            1,
            "irdet: internal error: ZeroDivisionError: division by zero (run again with --debug for the traceback)\n",
        ),
        ("interrupt", 130, ""),
        ("nothing", 0, ""),
    ],
)
def test_errors_become_a_line_and_a_code(irdet_command: Callable, kind: str, code: int, message: str) -> None:
    result = irdet_command("probe", kind)
    assert (result.code, result.out, result.err) == (code, "", message)


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize("words", [["--debug", "probe", "bug"], ["probe", "bug", "--debug"]], ids=str)
def test_debug_lets_the_traceback_through(irdet_command: Callable, words: list[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        irdet_command(*words)


def test_debug_behind_two_dashes_is_an_argument(irdet_command: Callable, probe: list[dict[str, object]]) -> None:
    assert irdet_command("probe", "--", "--debug").code == 0
    assert probe[0]["kind"] == "--debug"


def test_shared_options(irdet_command: Callable, probe: list[dict[str, object]]) -> None:
    for name in ("--model", "-m", "--ckpt", "--engine"):
        words = [
            "--resize",
            "640x512",
            "--range",
            "-1.5,20",
            "--device",
            "cpu",
            "--threads",
            2,
            "-q",
            "--json",
            "--seed",
            3,
        ]
        assert irdet_command("probe", "x", name, "a.onnx", *words).code == 0
        assert probe.pop() == {
            "kind": "x",
            "model": "a.onnx",
            "resize": (640, 512),
            "range": (-1.5, 20),
            "device": "cpu",
            "threads": 2,
            "quiet": True,
            "json": True,
            "seed": 3,
        } | {"calls": probe}


@pytest.mark.parametrize(("text", "size"), [("640x512", (640, 512)), ("1X2", (1, 2)), (" 256 ", (256, 256))])
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "640x", "x512", "0x4", "4x0", "-1x4", "1.5", "1x2x3", "٤x4"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
        parse_size(text)


def test_a_size_that_is_too_large_is_told_so() -> None:
    with pytest.raises(UsageError, match=r"99999x4.*no side may be longer than \d+ px"):
        parse_size("99999x4")


@pytest.mark.parametrize("text", ["", "1", "1,", "1,2,3", "a,b", "1;2"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(UsageError, match="LOW,HIGH"):
        parse_range(text)


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"pd": 0.5, "fa": float("nan"), "name": "Nacht"})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"pd": 0.5, "fa": None, "name": "Nacht"}


def test_a_table_keeps_long_cells_whole_and_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Found", [("clip[1].mkv", 3, 0.123456), ("x" * 100, None, True)], ("source", "targets", "score"))
    out = capsys.readouterr().out
    for text in ("Found", "source", "clip[1].mkv", "0.1235", "x" * 100, "-", "yes"):
        assert text in out


def test_a_table_takes_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    """Names come from files: neither markup nor escape sequences in them reach the terminal."""
    print_table("[/red] mini[b]", [("shot[bold].png", "\x1b]0;owned\x07", "k\udce4")], ("[i]a", "b", "c"))
    out = capsys.readouterr().out
    assert "[/red] mini[b]" in out and "shot[bold].png" in out and "[i]a" in out
    print_table("", [("Shot 3.01\u202fPM.png", "a\u00a0b")])
    assert "3.01\u202fPM" in capsys.readouterr().out, "blanks of every kind stay"
    assert "\x1b" not in out and "\x07" not in out and "\udce4" not in out


@pytest.mark.skipif(os.name != "posix", reason="streams are closed by POSIX shells")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_end_no_command(closed: str) -> None:
    done = subprocess.run(["sh", "-c", f"{shlex.quote(sys.executable)} -m irdet info tophat {closed}"])
    assert done.returncode == 0


def test_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Found", [], ("source", "targets"))
    assert "targets" in capsys.readouterr().out


def test_progress_without_a_terminal_is_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading [a]", 250) as advance:
        for step in range(250):
            advance(loss=step / 2)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 10
    assert lines[0] == "reading [a] 25/250 loss=12" and lines[-1] == "reading [a] 250/250 loss=124.5"


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", 10, quiet=True) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [None, 3])
def test_progress_on_a_terminal_is_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, total: int | None
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress("reading [a]", total) as advance:
        advance(2, loss=0.25)
        advance()
    err = capsys.readouterr().err
    assert "reading [a]" in err and "loss=0.25" in err and "3/" in err


def test_as_a_module_into_a_pipe_that_nobody_reads() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "irdet", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
