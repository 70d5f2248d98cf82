"""The errors that irdet raises on purpose.

Each carries one line that says what was wrong, where, and what to do. The command line prints that line
and exits with the error's code; library users catch `IrdetError`.
"""

from __future__ import annotations

from collections.abc import Iterable


class IrdetError(Exception):
    """A run that failed for a reason that the user can act on (exit code 1)."""

    exit_code = 1


class UsageError(IrdetError):
    """Misuse: arguments, options or names that cannot be what was meant (exit code 2)."""

    exit_code = 2


def unknown_name(what: str, name: str, known: Iterable[str]) -> UsageError:
    """Returns the error for a name that is not one of the known ones; suggests the nearest, else lists them all.

    Args:
        what: What was looked for, for instance `"network"`.
        name: What was given.
        known: The names that there are.
    """
    import difflib  # only a wrong name pays for it

    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
    return UsageError(f"no {what} is called {name!r}; {hint}")


class FrameError(IrdetError):
    """One frame that cannot be read or used; a stream may go on without it."""


class ModelError(IrdetError):
    """A model file that cannot be read, or that does not fit what is asked of it."""


class DataError(IrdetError):
    """A data set whose files do not fit together; names the files."""


class MissingDependency(IrdetError, ImportError):
    """A package that is needed here is not installed; names the extra that brings it."""
