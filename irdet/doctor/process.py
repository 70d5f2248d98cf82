"""Tries parts in a process of their own, which may crash, hang and print as it likes.

The process gives one line of JSON per part on the pipe that was its stdout; what packages print goes to its stderr.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict

from irdet.core.child import python
from irdet.doctor.fact import Fact, brief
from irdet.doctor.probes import try_part

#: What the process runs.
_PROGRAM = "from irdet.doctor.process import main; main(sys.argv[1:])"


def try_lane(parts: Sequence[str], limit: float) -> list[Fact]:
    """Tries parts one after the other; after one that ends the process or hangs goes on in a new one.

    Args:
        parts: Keys of `irdet.doctor.probes.PROBES`.
        limit: Seconds after which a process hangs.

    Returns:
        What was found, in the order of the parts.
    """
    found: list[Fact] = []
    left = list(parts)
    while left:
        words = python(_PROGRAM, *left)
        try:
            done = subprocess.run(  # noqa: S603 - our own module in our own interpreter
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False
            )
            told, reason = done.stdout, _ending(done.returncode, done.stderr)
        except subprocess.TimeoutExpired as error:
            told, reason = error.stdout or b"", f"hangs: no answer within {limit:g} s"
        for line in told.splitlines():
            left.pop(0)
            found += [Fact(**one) for one in json.loads(line)]
        if left:  # the first of them ended the process
            found.append(Fact(left.pop(0), "broken", reason))
    return found


def main(parts: Sequence[str]) -> None:
    """Tries parts in this process and tells of each as soon as it is done."""
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for part in parts:
        results.write(json.dumps([asdict(fact) for fact in try_part(part)]) + "\n")
        results.flush()
    results.close()
    os._exit(0)  # libraries that crash while they are taken down have done what they were asked


def _ending(code: int, stderr: bytes) -> str:
    """Says how a process ended, with its last words."""
    how = f"exit code {code}"
    if code < 0:
        names = {int(one): one.name for one in signal.Signals}
        how = names.get(-code, f"signal {-code}")
    last = (stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
    return f"crashes ({how})" + (f": {brief(last)}" if last else "")
