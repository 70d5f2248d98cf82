"""The command line: a Typer app of one module per command. Errors become one line and an exit code here, once."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TextIO, cast

import typer

from irdet import __version__
from irdet.cli.console import plain
from irdet.core.errors import IrdetError
from irdet.core.extras import explained

#: Every command: panel of the help -> name -> where its function is, or its app of sub-commands. Help lists them in
#: this order. Only the one that is called is imported.
COMMANDS: dict[str, dict[str, str]] = {
    "Use": {
        "infer": "irdet.cli.infer:infer",
        "eval": "irdet.cli.eval:eval_",
        "bench": "irdet.cli.bench:bench",
        "info": "irdet.cli.info:info",
        "verify": "irdet.cli.verify:verify",
        "doctor": "irdet.cli.doctor:doctor",
    },
    "Make": {
        "train": "irdet.cli.train:train",
        "tune": "irdet.cli.tune:tune",
        "export": "irdet.cli.export:export",
        "check": "irdet.cli.check:check",
        "calibrate": "irdet.cli.calibrate:calibrate",
        "synth": "irdet.cli.synth:app",
    },
}

#: What Typer raises when arguments do not fit (Click's exception, or that of the copy of Click inside newer Typers).
_TYPER_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def build_app(wanted: str | None = None) -> typer.Typer:
    """Builds the command line.

    Args:
        wanted: The command that is called: the app has only that one, for an app of all takes time to put together.
            All of them where None, or where there is no such command.
    """
    app = typer.Typer(
        name="irdet",
        help="Finds small targets in infrared frames.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_irdet)
    known = any(wanted in commands for commands in COMMANDS.values())
    for panel, commands in COMMANDS.items():
        for name, place in commands.items():
            if known and name != wanted:
                continue
            module, _, attribute = place.partition(":")
            command = getattr(importlib.import_module(module), attribute)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name, rich_help_panel=panel)
            else:
                app.command(name, rich_help_panel=panel)(command)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"irdet {__version__}")
        raise typer.Exit


def _irdet(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors (anywhere).")] = False,
) -> None:
    """Finds small targets in infrared frames."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: What follows `irdet`; those of the process where None.

    Returns:
        Exit code: 0 done, 1 failed, 2 misuse, 130 interrupted. What went wrong stands in one line on stderr;
        `--debug`, anywhere, lets the traceback through.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us; nor may a file of ours take its number
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as we live
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names of files may hold what a terminal has no signs for
    with _patient_stderr():
        return _main(list(sys.argv[1:] if arguments is None else arguments))


def _main(words: list[str]) -> int:
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for word in words[:end] if word != "--debug"] + words[end:]
    _unwind_when_terminated()
    try:
        app = build_app(words[0] if words else None)
        code = app(words or ["--help"], prog_name="irdet", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        _lose(sys.stdout)
        return 1
    except Exception as error:
        if debug:
            raise
        if isinstance(error, ModuleNotFoundError):
            error = explained(error, "this command")
        if isinstance(error, IrdetError):
            return _fail(str(error), error.exit_code)
        if isinstance(error, _TYPER_ERROR):
            return _fail(_usage(error), error.exit_code)
        if isinstance(error, OSError) and error.strerror:
            return _fail(f"{error.filename or 'input or output'}: {error.strerror}", 1)
        return _fail(f"internal error: {type(error).__name__}: {error} (run again with --debug for the traceback)", 1)


class _Patient:
    """A stream whose reader may leave: what is said is lost from then on, and not the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            _lose(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _lose(self._stream)


def _lose(stream: TextIO) -> None:
    """Whoever read a stream has left. Nor may the interpreter complain when it flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def _patient_stderr() -> Iterator[None]:
    stream = sys.stderr
    sys.stderr = cast("TextIO", _Patient(stream))
    try:
        yield
    finally:
        sys.stderr = stream


def _unwind_when_terminated() -> None:
    """Has SIGTERM end a command as an error would, so that files that are half written are taken away."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end)


def _fail(message: str, code: int) -> int:
    print("irdet: " + plain(" ".join(message.split())), file=sys.stderr)
    return code


def _usage(error: Any) -> str:
    """Words Typer's message so that it says which command was meant and where its help is."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "irdet"
    told = error.format_message().rstrip(".") or "name one of its commands"
    return f"{told} (see {command} --help)"
