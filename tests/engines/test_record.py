from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irdet.core.errors import ModelError
from irdet.engines import resolve_model
from irdet.engines.record import read_record


def test_reads_what_onnx_reads() -> None:
    ort = pytest.importorskip("onnxruntime")
    path = resolve_model("mlcl-edge")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert read_record(path).to_json() == session.get_modelmeta().custom_metadata_map["irdet"]


def test_any_place_in_the_file(write_onnx: Callable[..., Path]) -> None:
    path = write_onnx("int8")
    assert read_record(path).precision == "int8"
    # Fields of other wire types before and between: a varint, eight and four bytes.
    path.write_bytes(b"\x08\x96\x01" + b"\x09" + bytes(8) + b"\x0d" + bytes(4) + path.read_bytes())
    assert read_record(path).precision == "int8"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "not an ONNX model"), (b"hello, world", "not an ONNX model"), (b"\x3a\x05graph", "no record of irdet's")],
)
def test_other_files(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=said):
        read_record(path)
    with pytest.raises(ModelError, match="cannot read"):
        read_record(tmp_path / "none.onnx")


@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_damaged_files_raise_one_kind_of_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flips: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.onnx"
    data = bytearray(resolve_model("mlcl-edge").read_bytes()[-400:])
    for place, value in flips:
        data[place % len(data)] = value
    path.write_bytes(data[:cut])
    try:
        read_record(path)
    except ModelError as error:
        assert "\n" not in str(error)
