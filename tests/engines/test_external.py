from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irdet.core.errors import ModelError
from irdet.engines import open_engine
from irdet.engines.external import check_external
from irdet.engines.onnx import OnnxEngine
from irdet.engines.openvino import OpenVinoEngine
from irdet.engines.shipped import shipped_path

onnx = pytest.importorskip("onnx", reason="the graphs are made with onnx: pip install 'irdet[export]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

KERNEL = np.full((1, 1, 3, 3), 1 / 9, np.float32)


def external(name: str) -> TensorProto:
    tensor = numpy_helper.from_array(KERNEL, "w")
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", name), ("offset", "0"), ("length", str(len(data)))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model_of(tensor: TensorProto, *, where: str = "initializer") -> Any:
    """A blur, whose kernel lies where it is said to."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 16, 16]) for name in ("x", "y")]
    nodes, initializers = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], [tensor]
    if where == "constant":
        nodes, initializers = [helper.make_node("Constant", [], ["w"], value=tensor), *nodes], []
    elif where == "branch":
        branch = helper.make_graph([helper.make_node("Identity", ["w"], ["b"])], "branch", [], [], [tensor])
        branch.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 1, 3, 3]))
        yes = numpy_helper.from_array(np.array(True), "yes")
        nodes = [
            helper.make_node("If", ["yes"], ["k"], then_branch=branch, else_branch=branch),
            helper.make_node("Conv", ["x", "k"], ["y"], pads=[1] * 4),
        ]
        initializers = [yes]
    graph = helper.make_graph(nodes, "blur", ports[:1], ports[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(folder: Path, model: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("where", ["initializer", "constant", "branch"])
@pytest.mark.parametrize(
    "name", ["../secret.bin", "/etc/hostname", "a/../../secret.bin", "C:\\secret.bin", "..\\secret.bin", "", "a\0b"]
)
@pytest.mark.parametrize("engine", [OnnxEngine, OpenVinoEngine])
def test_data_from_elsewhere_is_refused(tmp_path: Path, where: str, name: str, engine: Any) -> None:
    (tmp_path / "secret.bin").write_bytes(KERNEL.tobytes())
    path = save(tmp_path / "model", model_of(external(name), where=where))
    with pytest.raises(ModelError, match=r"model\.onnx wants its weights from .*outside of its own folder"):
        engine(path, "cpu")


def test_a_link_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(KERNEL.tobytes())
    path = save(tmp_path / "model", model_of(external("weights.bin")))
    (path.parent / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="outside of its own folder"):
        open_engine(path, device="cpu")


def test_a_model_behind_a_link_has_two_folders(tmp_path: Path) -> None:
    """Some runtimes look beside the link, some beside the file: the data must lie within both."""
    real = save(tmp_path / "real", model_of(external("w.bin")))
    (tmp_path / "real" / "w.bin").write_bytes(KERNEL.tobytes())
    check_external(real)
    (tmp_path / "secret.bin").write_bytes(KERNEL.tobytes())
    link = tmp_path / "links" / "model.onnx"
    link.parent.mkdir()
    link.symlink_to(real)
    (link.parent / "w.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="outside of its own folder"):
        check_external(link)


def test_links_into_one_folder_as_download_caches_have_them(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    save(blobs, model_of(external("w.bin"))).rename(blobs / "aa")
    (blobs / "bb").write_bytes(KERNEL.tobytes())
    snapshot.mkdir()
    (snapshot / "model.onnx").symlink_to(blobs / "aa")
    (snapshot / "w.bin").symlink_to(blobs / "bb")
    check_external(snapshot / "model.onnx")


@pytest.mark.parametrize("name", ["*/_ORT_MEM_ADDR_/*", "gone.bin"])
def test_names_that_are_no_file_are_refused(tmp_path: Path, name: str) -> None:
    """One of them stands for a place in memory, and crashes a runtime."""
    with pytest.raises(ModelError, match="there is no such file beside it"):
        check_external(save(tmp_path, model_of(external(name))))


def test_tags_of_more_than_32_bits_are_refused(tmp_path: Path) -> None:
    """Readers of protobuf cut them, and then see a field that was passed over here."""
    path = save(tmp_path, model_of(external("../secret.bin")))
    data = path.read_bytes()
    entry = helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString()
    assert entry
    tag = bytes([0x80 | ((13 << 3 | 2) & 0x7F), 0x80, 0x80, 0x80, 0x10])  # field 13 with bit 32 set
    path.write_bytes(data + tag + b"\x00")
    with pytest.raises(ModelError, match="not an ONNX model"):
        check_external(path)


def test_data_beside_the_model_is_read(tmp_path: Path) -> None:
    path = save(tmp_path, model_of(external("weights.bin")))
    (tmp_path / "weights.bin").write_bytes(KERNEL.tobytes())
    with OnnxEngine(path, "cpu") as engine:
        assert engine.info.variant == "foreign"


def test_a_model_without_such_data_is_let_through(tmp_path: Path) -> None:
    check_external(save(tmp_path, model_of(numpy_helper.from_array(KERNEL, "w"))))
    shipped = shipped_path("mlcl-edge", ".onnx")
    assert shipped is not None
    check_external(shipped)
    # The folder may itself be reached through a link.
    (tmp_path / "link").symlink_to(tmp_path)
    shutil.copy(shipped, tmp_path / "edge.onnx")
    check_external(tmp_path / "link" / "edge.onnx")


@pytest.mark.parametrize("data", [b"", b"text", b"\x3a\xff\xff\xff\xff\x7f", bytes(100)])
def test_what_is_no_model(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"a\.onnx cannot be loaded as an ONNX model"):
        check_external(tmp_path / "a.onnx")


def test_graphs_without_end_are_refused(tmp_path: Path) -> None:
    """GraphProto.node, NodeProto.attribute, AttributeProto.g, and again; what holds no such word is not walked."""
    data = b"location"
    for _ in range(3000):
        for tag in (0x32, 0x2A, 0x0A):
            length, size = len(data), b""
            while length > 0x7F:
                size += bytes([length & 0x7F | 0x80])
                length >>= 7
            data = bytes([tag]) + size + bytes([length]) + data
    size = b""
    length = len(data)
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    (tmp_path / "a.onnx").write_bytes(b"\x3a" + size + bytes([length]) + data)
    with pytest.raises(ModelError, match="deeper than any real one"):
        check_external(tmp_path / "a.onnx")


@pytest.mark.parametrize("engine", [OnnxEngine, OpenVinoEngine])
def test_names_that_are_no_text_are_told_in_one_line(tmp_path: Path, engine: Any) -> None:
    """Found by benchmarks/fuzz.py: both runtimes load such a file, and fail when they are asked for the name."""
    data = model_of(numpy_helper.from_array(KERNEL, "w")).SerializeToString()
    (tmp_path / "a.onnx").write_bytes(data.replace(b"\x01x", b"\x01\x80"))
    with pytest.raises(ModelError, match=r"a\.onnx "):
        engine(tmp_path / "a.onnx", "cpu")
