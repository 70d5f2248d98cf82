"""irdet's record in an ONNX file, read without onnx.

On a device that builds its own engine neither onnx nor ONNX Runtime need be there, and the record is one entry of
`metadata_props`: field 14 of `ModelProto`, whose entries hold key (1) and value (2) (onnx.proto, opset 7 on). Only
the outermost fields of the file are walked; the graph is skipped over by its length.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from irdet.core.errors import ModelError
from irdet.core.info import MAX_JSON_BYTES, METADATA_KEY, ModelInfo

_GRAPH, _METADATA = 7, 14
_KEY, _VALUE = 1, 2

#: Wire types (protobuf encoding): varint, 8 bytes, length and bytes, 4 bytes.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_record(path: str | os.PathLike[str]) -> ModelInfo:
    """Returns the record of an ONNX file that irdet exported.

    Raises:
        ModelError: No such file, no ONNX file, or one without irdet's record.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            return ModelInfo.from_json(_record(file, path.stat().st_size))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _record(file: BinaryIO, size: int) -> bytes:
    graphs = 0
    for field, wire, length in fields(file, size):
        graphs += field == _GRAPH and wire == _BYTES
        if field != _METADATA or wire != _BYTES or length > MAX_JSON_BYTES + 1024:
            continue
        end = file.tell() + length
        entry = {}
        for inner, kind, count in fields(file, end):
            if kind == _BYTES:
                entry[inner] = file.read(count)
        if entry.get(_KEY) == METADATA_KEY.encode():
            return entry.get(_VALUE, b"")
    if not graphs:
        raise ModelError("not an ONNX model")
    raise ModelError("no record of irdet's in it; build from a file that irdet export wrote")


def fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields number, wire type and length of each field of a message, up to the place where it ends.

    The file then stands at the field's value; what is not read of it is skipped.

    Raises:
        ModelError: These are no fields.
    """
    while file.tell() < end:
        tag = _varint(file)
        if tag >> 32:  # readers cut it to 32 bits, and would see another field than we do
            raise ModelError("not an ONNX model")
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _varint(file)
            length = 0
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            length = _varint(file)
        else:
            raise ModelError("not an ONNX model")
        start = file.tell()
        if not field or start + length > end:
            raise ModelError("not an ONNX model, or one that is cut off")
        yield field, wire, length
        file.seek(start + length)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise ModelError("not an ONNX model, or one that is cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ModelError("not an ONNX model")
