"""Simplification of ONNX graphs by onnxsim, in a process of its own.

onnxsim is native code that has been seen to crash and to hang; in a process of its own that costs a warning.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from irdet.core.child import python

#: More than any network of ours takes by far (seconds).
TIMEOUT = 300.0

_PROGRAM = "from irdet.export.simplify import main; main(*sys.argv[1:])"


def simplify(source: Path, destination: Path, timeout: float = TIMEOUT) -> str:
    """Writes a simplified copy of an ONNX file.

    Args:
        source: The file.
        destination: Where the simplified one is written; not touched unless all went well.
        timeout: Seconds after which it is given up.

    Returns:
        "" when all went well, else why there is no simplified file.
    """
    command = python(_PROGRAM, str(source), str(destination))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"onnxsim did not end within {timeout:g} s"
    except OSError as error:
        return f"onnxsim could not be started ({error.strerror})"
    if done.returncode < 0:
        return f"onnxsim crashed (signal {-done.returncode})"
    if done.returncode:
        return f"onnxsim failed ({(done.stderr.strip().splitlines() or ['no message'])[-1]})"
    return ""


def main(source: str, destination: str) -> None:
    """Simplifies a file in this process, which is the child."""
    import onnx
    import onnxsim

    simplified, sound = onnxsim.simplify(onnx.load(source))
    if not sound:
        raise SystemExit("the simplified graph computes something else")
    onnx.save(simplified, destination)
