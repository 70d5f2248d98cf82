"""irdet's own code in a fresh interpreter, which finds packages where this one does and never in the current folder."""

from __future__ import annotations

import sys
from pathlib import Path


def python(program: str, *args: str) -> list[str]:
    """Returns the command line that runs a program of irdet's in a fresh interpreter.

    `python -m` and `python -c` look into the current folder first, which is the user's: a file onnx.py there would be
    run in place of the package. (`python -P` does not, from Python 3.11 on.)

    Args:
        program: Python code; `sys` is imported, and its `argv[1:]` are the arguments.
        args: The arguments.
    """
    root = str(Path(__file__).resolve().parents[2])
    where = [folder for folder in sys.path if folder]
    where += [root] * (root not in where)  # this irdet is found, installed or not
    # Before the path is set nothing may be imported that is not built in.
    return [sys.executable, "-c", f"import sys\nsys.path[:] = {where!a}\n{program}", *args]
