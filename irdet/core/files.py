"""Writing files so that a run that dies leaves no half file."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from irdet.core.errors import IrdetError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends without an error.

    The temporary name keeps the suffix, because writers choose their format by it.

    Args:
        path: The file to create or replace. Its folder is made when missing.

    Yields:
        The temporary path to write to.

    Raises:
        IrdetError: The folder cannot be made or written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:40]}-{os.urandom(8).hex()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not mkstemp: its file is for its owner alone, and what the others may cannot be read without being set.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise IrdetError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None and str(error.filename) not in (str(temporary), str(path)):
            raise  # the block stumbled over another file
        raise IrdetError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def abandoned(folder: Path) -> list[Path]:
    """Returns the temporary files of writers that were killed, which nobody renames any more.

    Args:
        folder: Where nobody writes now; empty where it is not there.
    """
    return list(folder.glob(f".*-{'[0-9a-f]' * 16}.*"))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in one step (UTF-8)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def cache_folder(kind: str) -> Path:
    """Returns where things are kept that can be made again: `irdet/KIND` in `$XDG_CACHE_HOME`, by default `~/.cache`.

    A user without a home has them in the folder for temporary files.

    Args:
        kind: What is kept there, for instance `"calibration"`.
    """
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home, as services have
        base = Path(tempfile.gettempdir()) / f"irdet-{os.getuid()}"
        with suppress(FileExistsError):
            base.mkdir(mode=0o700)
        if base.is_symlink() or base.stat().st_uid != os.getuid():  # somebody else's, who would choose what we load
            base = Path(tempfile.mkdtemp(prefix="irdet-"))
    return base / "irdet" / kind


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_arrays(path: str | os.PathLike[str], limit: int) -> dict[str, NDArray[np.generic]]:
    """Reads all arrays of a .npz file. Nothing in it is executed, and nothing unpacked that is declared too large.

    Args:
        path: The file.
        limit: Most bytes that all arrays together may have.

    Raises:
        ValueError: It is no such file, damaged, or too large.
        OSError: It cannot be read.
    """
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > limit:
                raise ValueError(f"more than {limit} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except (OSError, ValueError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy have no one error for a damaged file
        raise ValueError(f"damaged: {error}") from error
