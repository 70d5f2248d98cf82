"""What a probe found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: `"missing"`: not installed. `"broken"`: installed, and not usable here.
State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Fact:
    """One part as it was found.

    Attributes:
        part: A name of `irdet.doctor.parts.PARTS`.
        state: Whether it can be used.
        found: Version and particulars, or what is wrong with it.
        runs: Models run on it here, which was tried.
    """

    part: str
    state: State
    found: str
    runs: bool = False


def brief(error: BaseException | str, limit: int = 200) -> str:
    """Returns what an error says in one line of at most `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]} ..."
