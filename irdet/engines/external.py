"""ONNX files whose weights lie in other files: only such in the model's own folder are read.

A graph names those files itself, and a name such as `../../etc/passwd` or a link would have a runtime read anything.
The graph is walked without onnx (field numbers of onnx.proto), so that the check stands before every runtime.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from irdet.core.errors import ModelError
from irdet.engines.record import fields

#: A text longer than this is no file's name (bytes).
_MAX_NAME = 4096

#: Graphs within graphs (If, Loop, Scan) that are followed.
_MAX_DEPTH = 64

_WIRE_BYTES = 2

#: Key of the entry that names a tensor's file. What does not hold it anywhere is not walked: that would take as long
#: as loading the model does.
_KEY = b"location"


@dataclass(eq=False)
class _Message:
    """A type of message: the fields that lead on, and the type of each."""

    children: dict[int, _Message] = field(default_factory=dict)


_ENTRY, _TENSOR, _SPARSE, _ATTRIBUTE, _NODE, _GRAPH = (_Message() for _ in range(6))
_TENSOR.children[13] = _ENTRY  # external_data
_SPARSE.children |= {1: _TENSOR, 2: _TENSOR}
_ATTRIBUTE.children |= {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE}
_NODE.children[5] = _ATTRIBUTE
_GRAPH.children |= {1: _NODE, 5: _TENSOR, 15: _SPARSE}
_FUNCTION = _Message({7: _NODE, 11: _ATTRIBUTE})
_TRAINING = _Message({1: _GRAPH, 2: _GRAPH})
_MODEL = _Message({7: _GRAPH, 20: _TRAINING, 25: _FUNCTION})


def check_external(path: str | os.PathLike[str]) -> None:
    """Refuses an ONNX file that wants data from outside of its own folder.

    Raises:
        ModelError: It does, names the file that it wants; or it is no ONNX file.
    """
    path = Path(path)
    folders = {path.resolve().parent, path.parent.resolve()}  # runtimes differ in where they look behind a link
    try:
        with path.open("rb") as file:
            names = set(_locations(file, path.stat().st_size))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except ModelError as error:
        raise ModelError(f"{path} cannot be loaded as an ONNX model: {error}") from error
    for name in sorted(names):
        if not all(_inside(folder, name, folders) for folder in folders):
            raise ModelError(
                f"{path} wants its weights from {name!r}, outside of its own folder, and that is never read; "
                "save the model with its weights inside"
            )
        if not any((folder / name).is_file() for folder in folders):  # some names stand for a place in memory
            raise ModelError(f"{path} wants its weights from {name!r}, and there is no such file beside it")


def _inside(folder: Path, name: str, folders: Set[Path]) -> bool:
    # Names are judged by the rules of every system, so that a file is refused here that another one would read.
    plain = bool(name) and "\0" not in name
    for kind in (PurePosixPath, PureWindowsPath):
        other = kind(name)
        plain = plain and not other.is_absolute() and not other.drive and not other.root and ".." not in other.parts
    # Links may lead from one of the folders into the other, as those of download caches do.
    return plain and any((folder / name).resolve().is_relative_to(one) for one in folders)


def _locations(file: BinaryIO, size: int) -> Iterator[str]:
    """Yields the names of all files that the tensors of a model are said to lie in."""
    whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    stack = [(_MODEL, fields(file, size), 0)]
    graphs = 0
    while stack:
        message, rest, depth = stack[-1]
        step = next(rest, None)
        if step is None:
            stack.pop()
            continue
        number, wire, length = step
        child = message.children.get(number)
        if child is None or wire != _WIRE_BYTES:
            continue
        graphs += child is _GRAPH
        start = file.tell()
        if whole.find(_KEY, start, start + length) < 0:
            continue
        if child is _ENTRY:
            yield from _location(_strings(file, start + length))
            continue
        if depth >= 8 * _MAX_DEPTH:
            raise ModelError("graphs within graphs, deeper than any real one")
        # Its fields are read before the next of this message: that one's generator goes on at its own place.
        stack.append((child, fields(file, start + length), depth + 1))
    if not graphs:
        raise ModelError("there is no graph in it")


def _strings(file: BinaryIO, end: int) -> dict[int, bytes]:
    found = {}
    for number, wire, length in fields(file, end):
        if wire == _WIRE_BYTES:
            if length > _MAX_NAME:
                raise ModelError("a name in it is longer than any file's")
            found[number] = file.read(length)
    return found


def _location(entry: Mapping[int, bytes]) -> Iterator[str]:
    if entry.get(1) == _KEY:
        try:
            yield entry.get(2, b"").decode("utf-8")
        except UnicodeDecodeError:
            raise ModelError("the name of its weights' file is no text") from None
