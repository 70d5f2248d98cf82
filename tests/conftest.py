"""What all tests share."""

from __future__ import annotations

import functools
import os

# One thread per test process: xdist runs several beside each other. Set before anything loads OpenMP.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from irdet.models import LoadedModel

# What irdet keeps between runs is not the user's here.
_CACHE = tempfile.TemporaryDirectory(prefix="irdet-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

settings.register_profile(
    "irdet",
    deadline=None,
    max_examples=30,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("irdet")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real frames, clips and reference outputs that lie beside the checkout, not in it."""
    folder = Path(os.environ.get("IRDET_SHARED", ROOT.parent / "shared"))
    if not (folder / "DESIGN.md").is_file():
        pytest.skip(f"no shared data in {folder} (set IRDET_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@dataclass(frozen=True)
class CommandResult:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def irdet_command(capfd: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Runs the command line in this process: `irdet_command("info", "mlcl-edge", "--json").code`."""

    def run(*arguments: object) -> CommandResult:
        from irdet.cli import main

        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return CommandResult(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def sharp_model() -> Callable[..., LoadedModel]:
    """Makes networks with random weights that find targets: `sharp_model("mlcl-edge", threshold=0.3)`.

    The last layer is scaled so that one pixel in two hundred of a made frame stands above the threshold, and few stand
    close to it.
    """
    import torch

    from irdet.core.info import ModelInfo
    from irdet.engines.probe import as_batch, probe_frame
    from irdet.models import LoadedModel, create_model
    from irdet.models.checkpoints import describe

    @functools.cache
    def make(name: str = "mlcl-edge", *, threshold: float = 0.5, seed: int = 0) -> LoadedModel:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            module = create_model(name).eval()
            logits = module(torch.from_numpy(as_batch(probe_frame(128, 160)[None])))
            head: Any = module.head
            last = head[-1]
            scale = 2 / logits.std()
            last.weight *= scale
            last.bias *= scale
            logit = torch.logit(torch.tensor(threshold))
            last.bias += logit - torch.quantile(logits * scale, 0.995)
        return LoadedModel(module, describe(module, ModelInfo(name, threshold=threshold)))

    return make
