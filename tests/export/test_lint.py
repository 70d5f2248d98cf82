"""The graph lint on graphs that are sound, on graphs with one fault each, and beside TensorRT-RTX itself."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from irdet.core.errors import IrdetError, ModelError, UsageError
from irdet.core.info import ModelInfo
from irdet.engines.external import check_external
from irdet.export.limits import LIMITS
from irdet.export.lint import RULES, Finding, lint_model, lint_own
from irdet.models import LoadedModel


def _load() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "lint.py"
    spec = importlib.util.spec_from_file_location("lint_benchmark", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


bench: Any = _load()
NAMES = [mutation.name for mutation in bench.MUTATIONS]
BY_NAME = dict(zip(NAMES, bench.MUTATIONS, strict=True))


@pytest.fixture(scope="session")
def bases(edge: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Any]:
    base: Callable[[Any], Any] = bench.make_bases(edge, tmp_path_factory.mktemp("bases"))
    return base


def test_names_differ_and_there_are_enough() -> None:
    assert len(NAMES) == len(set(NAMES)) >= 30


@pytest.mark.parametrize("name", NAMES)
def test_each_fault_is_found(bases: Callable[[Any], Any], tmp_path: Path, name: str) -> None:
    mutation = BY_NAME[name]
    found = lint_model(bench.mutate(mutation, bases, tmp_path / "a.onnx"), mutation.target)
    if not mutation.rule:
        assert found == ()
        return
    finding = next((item for item in found if item.rule == mutation.rule), None)
    assert finding is not None, found
    assert finding.message and finding.remedy and finding.severity in ("error", "warning")
    assert finding.node or mutation.rule in ("record", "opset", "invalid", "external-data"), "it names the place"
    assert "\n" not in str(finding)
    assert [item.severity for item in found] == sorted(item.severity for item in found), "errors first"


@pytest.mark.parametrize("name", ["mlcl-edge", "mlcl-small", "mlcl-base"])
def test_sound_graphs_have_no_finding(
    bases: Callable[[Any], Any], sharp_model: Callable[..., LoadedModel], tmp_path: Path, name: str
) -> None:
    """The networks differ in operators, not in what an opset does to them: one of them is exported at 17 as well."""
    base = bases if name == "mlcl-edge" else bench.make_bases(sharp_model(name), tmp_path)
    wanted = 17 if name == "mlcl-edge" else 19
    for precision in ("fp32", "fp16", "int8", "int8+fp16"):
        half = precision == "int8+fp16"
        for free in (False, True):
            sound = bench.Mutation("sound", precision, bench.opset(19 if half else 17), opset=wanted, free=free)
            path = bench.mutate(sound if not half else replace(sound, opset=19), base, tmp_path / "sound.onnx")
            for target in LIMITS:
                if not half or target != "tensorrt-8.6":
                    assert lint_model(path, target) == (), (precision, free, target)


def test_what_befalls_many_nodes_is_one_finding(bases: Callable[[Any], Any], tmp_path: Path) -> None:
    mutation = BY_NAME["all weights as int8 with DQ alone"]
    (finding,) = lint_model(bench.mutate(mutation, bases, tmp_path / "a.onnx"), "tensorrt-8.6")
    assert finding.message.endswith(" more)") and finding.node.endswith("weight_DequantizeLinear")


def test_foreign_graphs_are_warned_of(bases: Callable[[Any], Any], tmp_path: Path) -> None:
    """What irdet does not run may be another's graph all the same, so ports that are not ours are no error."""
    path = bench.mutate(BY_NAME["a second output"], bases, tmp_path / "a.onnx")
    graph = onnx.load(str(path))
    del graph.metadata_props[:]
    onnx.save(graph, str(path))
    ports = [item for item in lint_model(path, "tensorrt-10") if item.rule == "port"]
    assert [item.severity for item in ports] == ["warning"] and "2 outputs" in ports[0].message


def test_weights_beside_the_file(bases: Callable[[Any], Any], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "a.onnx"
    onnx.save(
        bases(bench.Mutation("none", "fp32", bench.nothing, opset=17)),
        str(path),
        save_as_external_data=True,
        location="a.bin",
        size_threshold=1024,
    )
    (finding,) = lint_model(path, "rtx")
    assert (finding.rule, finding.severity) == ("external-data", "warning")
    # What irdet's builder refuses is an error.
    (folder / "a.bin").rename(tmp_path / "b.bin")
    for told in ("no such file beside it", "outside of its own folder"):
        if "outside" in told:
            (folder / "a.bin").symlink_to(tmp_path / "b.bin")
        (finding,) = (item for item in lint_model(path, "rtx") if item.rule == "external-data")
        assert finding.severity == "error" and "'a.bin'" in finding.message and told in finding.message
        with pytest.raises(ModelError) as caught:
            check_external(path)
        assert str(caught.value) == finding.message


@pytest.mark.parametrize("beside", [False, True])
def test_an_output_needs_no_shape(tmp_path: Path, beside: bool) -> None:
    """Runtimes infer it; ONNX's checker wants it. The weights are asked for, wherever they are."""
    weight = onnx.numpy_helper.from_array(np.full((1, 1, 3, 3), 0.1, np.float32), "w")
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [4, 1, 48, 80]), ("y", None))
    ]
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "c", pads=[1, 1, 1, 1])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = tmp_path / "a.onnx"
    onnx.save(model, str(path), save_as_external_data=beside, location="a.bin", size_threshold=0)
    assert {item.rule for item in lint_model(path, "tensorrt-8.6")} == {"record", *["external-data"] * beside}
    model.graph.node[0].input[0] = "nowhere"
    onnx.save(model, str(path), save_as_external_data=beside, location="a.bin", size_threshold=0)
    assert "invalid" in {item.rule for item in lint_model(path, "tensorrt-8.6")}


def test_a_circle_of_quantisers_comes_to_an_end(tmp_path: Path) -> None:
    constants = [onnx.numpy_helper.from_array(np.float32(0.1), "s"), onnx.numpy_helper.from_array(np.int8(0), "z")]
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, 32, 32]) for name in ("x", "y")]
    nodes = [
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["b"], "q"),
        helper.make_node("DequantizeLinear", ["b", "s", "z"], ["a"], "d"),
        helper.make_node("Conv", ["x", "a"], ["y"], "c"),
    ]
    path = tmp_path / "a.onnx"
    path.write_bytes(
        helper.make_model(
            helper.make_graph(nodes, "g", ports[:1], ports[1:], constants),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        ).SerializeToString()
    )
    assert "error" in {item.severity for item in lint_model(path, "tensorrt-8.6")}


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*gone\.onnx: No such file"):
        lint_model(tmp_path / "gone.onnx", "rtx")
    for content in (b"", b"\xff" * 64, b"no model at all"):
        (tmp_path / "a.onnx").write_bytes(content)
        with pytest.raises(ModelError, match="not an ONNX model"):
            lint_model(tmp_path / "a.onnx", "rtx")
    with pytest.raises(UsageError, match="did you mean tensorrt-11"):
        lint_model(tmp_path / "a.onnx", "tensorrt-1")


def test_any_cut_of_a_file_is_judged_or_refused(bases: Callable[[Any], Any], tmp_path: Path) -> None:
    content = bases(bench.Mutation("none", "int8", bench.nothing)).SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in np.linspace(1, len(content) - 1, 25).astype(int):
        path.write_bytes(content[:length])
        with contextlib.suppress(ModelError):
            assert any(item.severity == "error" for item in lint_model(path, "rtx"))


def test_damaged_graphs_are_judged(bases: Callable[[Any], Any], tmp_path: Path) -> None:
    """Whatever is left out or changed in a graph, the lint comes to an end; some is valid ONNX, as a missing bias."""
    source = bases(bench.Mutation("none", "int8", bench.nothing))
    random = np.random.default_rng(0)
    path = tmp_path / "a.onnx"
    for _ in range(40):
        model = onnx.ModelProto()
        model.CopyFrom(source)
        node = model.graph.node[random.integers(len(model.graph.node))]
        kind = random.integers(6)
        if kind == 0:
            del node.input[random.integers(len(node.input)) :]
        elif kind == 1:
            node.op_type = str(random.choice(["Conv", "Resize", "QuantizeLinear", "MaxPool", "If", "Constant"]))
        elif kind == 2:
            del node.output[:]
        elif kind == 3:
            del model.graph.initializer[random.integers(len(model.graph.initializer))]
        elif kind == 4:
            tensor = model.graph.initializer[random.integers(len(model.graph.initializer))]
            tensor.data_type = int(random.choice([2, 3, 5, 7, 8, 10, 11, 16, 17, 22]))
        else:
            del model.graph.output[:]
        path.write_bytes(model.SerializeToString())
        assert all(isinstance(item, Finding) for item in lint_model(path, "rtx"))
    path.write_bytes(source.SerializeToString().replace(b"Resize", b"\xff\xfeize\xff"))
    with pytest.raises(ModelError, match="not an ONNX model"):
        lint_model(path, "rtx")


def test_graphs_of_nothing_known(tmp_path: Path) -> None:
    """Rules look at whatever ONNX allows to be left out."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s"], ["y"]), helper.make_node("Conv", ["y", "w"], ["z"])]
    loose = helper.make_graph(nodes, "g", [], [])
    path = tmp_path / "a.onnx"
    path.write_bytes(helper.make_model(loose, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    rules = {item.rule for target in LIMITS for item in lint_model(path, target)}
    assert {"record", "port", "qdq-scale", "qdq-unsigned", "qdq-pair"} <= rules
    assert "QuantizeLinear of y" in {item.node for item in lint_model(path, "rtx")}, "nodes without names are named"
    del loose.node[1].input[1:]
    path.write_bytes(helper.make_model(loose).SerializeToString())
    (finding,) = lint_model(path, "rtx")
    assert (finding.rule, finding.message) == ("invalid", "this Conv lacks inputs or outputs")


def test_exports_are_judged_before_they_are_published(bases: Callable[[Any], Any], tmp_path: Path) -> None:
    path = bench.mutate(BY_NAME["Loop"], bases, tmp_path / "a.onnx")
    info = ModelInfo.from_json(onnx.load(str(path)).metadata_props[0].value)
    notes = lint_own(path, info)
    assert [note.partition(":")[0] for note in notes] == ["for TensorRT 10", "for TensorRT 11", "for TensorRT-RTX"]
    path = bench.mutate(BY_NAME["QLinearConv"], bases, tmp_path / "b.onnx")
    with pytest.raises(
        IrdetError, match=r"TensorRT 10 does not take, a fault of irdet's own: error \[operator\] qlinear"
    ):
        lint_own(path, info)
    assert lint_own(path, info.replace(target="cpu")) == ()


def test_findings_read_as_one_line() -> None:
    finding = Finding("pool", "error", "/pool", "it dilates", "pool without it")
    assert str(finding) == "error [pool] /pool: it dilates; pool without it"
    assert len(RULES) == len(set(RULES))


# Beside the real one.


def real() -> Any:
    return pytest.importorskip(
        "tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'irdet[tensorrt-rtx]'"
    )


@pytest.mark.parametrize(
    "name",
    [
        "bias quantised to int32",
        "zero point 3 of an activation",
        "activation in uint8, zero point 0",
        "one scale too few",
        "scale 0",
        "activation in int16",
        "Q without DQ",
        "half scales",
        "half and float32 added",
        "uint8 inside",
        "If with Unique in a branch",
        "Resize, antialias",
        "MaxPool with dilation",
        "free size",
        "free size, no record, no profile",
        "nodes out of order",
    ],
)
def test_tensorrt_rtx_agrees_or_is_known_not_to(bases: Callable[[Any], Any], tmp_path: Path, name: str) -> None:
    real()
    mutation = BY_NAME[name]
    path = bench.mutate(mutation, bases, tmp_path / "a.onnx")
    refused = any(item.severity == "error" for item in lint_model(path, "rtx"))
    built = bench.judged(path, mutation.profile).stage == "built"
    assert refused != built or (refused and mutation.rule in bench.STRICTER)


@pytest.mark.parametrize("own", [17, 18])
def test_functions_of_another_opset_are_looked_into(bases: Callable[[Any], Any], tmp_path: Path, own: int) -> None:
    mutation = replace(BY_NAME["a function in the file"], target="tensorrt-10", opset=18)
    path = bench.mutate(mutation, bases, tmp_path / "a.onnx")
    model = onnx.load(str(path))
    model.functions[0].opset_import[0].version = own
    onnx.save(model, str(path))
    assert not [one for one in lint_model(path, "tensorrt-10") if one.rule in ("domain", "operator")]


def test_operators_are_those_of_tensorrt_rtx() -> None:
    trt = real()
    from irdet.engines.tensorrt.build import _network_flags
    from irdet.engines.tensorrt.library import find_library

    library = find_library("tensorrt_rtx")
    log = library.logger()
    builder = library.create("Builder", log)
    network = builder.create_network(_network_flags(library))
    parser = trt.OnnxParser(network, log)
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    told = {name for name in known if parser.supports_operator(name)}
    assert LIMITS["rtx"].operators & known == told - {"NonZero", "RoiAlign"}, "whose plugins it does not bring"
