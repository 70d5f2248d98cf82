"""The house rules of imports: down only, and each heavy package behind its own door. Imports in functions count too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import irdet

PACKAGE = Path(irdet.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py"))

#: A part may import those on lower floors, and itself.
FLOORS = {
    "core": 0,
    "engines": 1,
    "tracking": 1,
    "models": 2,
    "data": 2,
    "metrics": 2,
    "runtime": 2,
    "doctor": 2,
    "training": 3,
    "export": 3,
    "evaluation": 3,
    "cli": 4,
}

#: Imports that go up or sideways on purpose.
EXCEPTIONS = {
    ("irdet.engines.torch", "models"),  # the engine of checkpoints runs our networks
}

#: What each part may import besides the standard library; a module's own entry goes before its part's.
PLAIN = {"numpy", "cv2", "typing_extensions"}
PACKAGES = {
    "core": PLAIN | {"imagesize"},
    "engines": PLAIN,
    "engines.onnx": PLAIN | {"onnxruntime"},
    "engines.fastest": PLAIN | {"onnxruntime"},
    "engines.openvino": PLAIN | {"openvino"},
    "engines.torch": PLAIN | {"torch"},
    "tracking": PLAIN | {"scipy"},
    "runtime": PLAIN,
    "doctor": PLAIN,
    "doctor.probes": PLAIN | {"onnxruntime"},
    "metrics": PLAIN,
    "data": PLAIN,
    "evaluation": PLAIN | {"matplotlib"},
    "evaluation.bench.power": PLAIN | {"pynvml"},
    "evaluation.tune": PLAIN | {"onnx"},  # it writes the threshold into a copy of the model
    "models": PLAIN | {"torch"},
    "training": PLAIN | {"torch", "matplotlib"},
    "export": PLAIN | {"torch", "onnx", "onnxruntime", "onnxsim", "onnxconverter_common"},
    "cli": {"typer", "rich", "typing_extensions", "numpy", "cv2"},
}


def _name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line and full name of everything that a module imports, also by a name in `require` or `import_module`.

    A `require` that stands alone only asks whether the package is there, for whoever imports it later.
    """
    nodes = list(ast.walk(ast.parse((PACKAGE.parent / path).read_text(encoding="utf-8"))))
    questions = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written in full"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and id(node) not in questions and node.args:
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("require", "import_module", "__import__") and isinstance(node.args[0], ast.Constant):
                yield node.lineno, str(node.args[0].value)


def _faults(path: Path) -> Iterator[str]:
    name = _name(path)
    part = name.split(".")[1] if "." in name else ""
    if part in ("", "__main__"):
        return  # the lazy door to everything
    for line, imported in _imports(path):
        top, *rest = imported.split(".")
        if top == "irdet":
            other = rest[0]
            if other in FLOORS and other != part and (name, other) not in EXCEPTIONS and FLOORS[other] >= FLOORS[part]:
                yield f"{path}:{line}: {part} may not import {imported}"
        elif top not in sys.stdlib_module_names:
            allowed = PACKAGES.get(name.removeprefix("irdet."), PACKAGES[part])
            if top not in allowed:
                yield f"{path}:{line}: {name} may not import {top}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_down_and_stay_behind_their_doors(path: Path) -> None:
    assert list(_faults(path)) == []


def test_every_part_has_its_floor() -> None:
    parts = {path.parts[1] for path in MODULES if len(path.parts) > 2}
    assert parts <= FLOORS.keys()
    assert FLOORS.keys() == {name for name in PACKAGES if "." not in name}


def test_the_rule_sees_imports_in_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "irdet" / "core" / "wrong.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "def f():\n    import json, torch.nn\n    from irdet.cli import app\n"
        "    require('torch', 'train', 'it')\n    onnx = require('onnx', 'export', 'it')\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "irdet")
    assert [fault.split(": ", 1)[1] for fault in _faults(Path("irdet/core/wrong.py"))] == [
        "irdet.core.wrong may not import torch",
        "core may not import irdet.cli.app",
        "irdet.core.wrong may not import onnx",
    ]
