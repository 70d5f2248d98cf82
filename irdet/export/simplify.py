"""Simplification of ONNX graphs by onnxsim, in a process of its own.

onnxsim is native code that has been seen to crash and to hang; in a process of its own that costs a warning.
Run as `python -m irdet.export.simplify IN OUT`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: More than any network of ours takes by far (seconds).
TIMEOUT = 300.0


def simplify(source: Path, destination: Path, timeout: float = TIMEOUT) -> str:
    """Writes a simplified copy of an ONNX file.

    Args:
        source: The file.
        destination: Where the simplified one is written; not touched unless all went well.
        timeout: Seconds after which it is given up.

    Returns:
        "" when all went well, else why there is no simplified file.
    """
    root = str(Path(__file__).resolve().parents[2])  # the child finds this irdet, installed or not
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-m", __name__, str(source), str(destination)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"onnxsim did not end within {timeout:g} s"
    except OSError as error:
        return f"onnxsim could not be started ({error.strerror})"
    if done.returncode < 0:
        return f"onnxsim crashed (signal {-done.returncode})"
    if done.returncode:
        return f"onnxsim failed ({(done.stderr.strip().splitlines() or ['no message'])[-1]})"
    return ""


def _main(source: str, destination: str) -> None:
    import onnx
    import onnxsim

    simplified, sound = onnxsim.simplify(onnx.load(source))
    if not sound:
        raise SystemExit("the simplified graph computes something else")
    onnx.save(simplified, destination)


if __name__ == "__main__":
    _main(*sys.argv[1:])
