"""The weights that come with irdet: they are there, agree with each other, and find targets in scenes made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import irdet
from irdet.core.files import sha256
from irdet.data.synth import SceneConfig, generate_frame
from irdet.engines.golden import golden_path, read_golden, replay
from irdet.engines.shipped import DEFAULT_MODEL, shipped_models, shipped_path
from irdet.metrics.accumulator import Metrics

SCENES = 24

#: Those that come trained; the wheel leaves the checkpoint of the second choice to the repository.
NETWORKS = (DEFAULT_MODEL, "mlcl-base")


@pytest.mark.parametrize("name", NETWORKS)
def test_they_ship_for_running_and_for_training(name: str) -> None:
    assert name in shipped_models()
    for suffix in (".onnx", ".pt", ".md", ".golden.npz"):
        assert shipped_path(name, suffix) is not None, suffix


@pytest.mark.parametrize("name", NETWORKS)
def test_the_cpus_8_bit_form_ships_and_was_made_from_the_same_weights(name: str) -> None:
    names = (name, f"{name}-int8-cpu")
    with irdet.open_engine(names[0], device="cpu") as one, irdet.open_engine(names[1], device="cpu") as other:
        assert (other.info.precision, other.info.target) == ("int8", "cpu")
        assert one.info.weights_sha256 == other.info.weights_sha256
        assert other.info.metrics["gate"]["drop"] <= 0.01


@pytest.mark.parametrize("name", [name for name in shipped_models() if shipped_path(name, ".pt")])
def test_both_files_hold_the_same_weights(name: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'irdet[train]'")
    onnx, checkpoint = shipped_path(name, ".onnx"), shipped_path(name, ".pt")
    assert onnx is not None and checkpoint is not None
    with irdet.open_engine(onnx) as graph, irdet.open_engine(checkpoint) as network:
        assert graph.info.weights_sha256 == network.info.weights_sha256 != ""
        assert graph.info.training["recipe"]["name"], "the recipe that made them is on record"
        frame = generate_frame(SceneConfig(), 5).raw
        pixels = irdet.Preprocessor()(frame).pixels[None, None, :256, :320]
        np.testing.assert_allclose(graph.run(pixels), network.run(pixels), atol=1e-4)


@pytest.mark.parametrize("name", shipped_models())
def test_golden_frames_replay(name: str) -> None:
    path = shipped_path(name, ".onnx")
    assert path is not None
    with irdet.open_engine(path) as engine:
        result = replay(engine, read_golden(golden_path(path)))
    assert result.passed and result.targets > 0


@pytest.mark.parametrize("name", shipped_models())
def test_finds_made_targets(name: str) -> None:
    """Not a measure of quality (real frames are), but a guard against weights and code that no longer fit."""
    metrics = Metrics()
    config = SceneConfig(
        targets=(1, 3), scr=(8.0, 30.0), area=(6.0, 60.0), hot_pixels=(0, 0), kind="clouds,cumulus,ridge"
    )
    with irdet.open_engine(name) as engine:
        detector = irdet.Detector(engine)
        for seed in range(SCENES):
            scene = generate_frame(config, seed)
            metrics.add(detector.detect(scene.raw).probability, scene.mask, str(seed))
    result = metrics.result()
    assert result.pd >= 0.8, result
    assert result.false_per_frame <= 2.0, result


def test_shipped_files_are_small() -> None:
    """What the wheel holds, that is; test_packaging weighs the wheel itself."""
    files = {path for name in shipped_models() for path in Path(irdet.__file__).parent.glob(f"weights/{name}*")}
    assert files and len({sha256(path) for path in files}) == len(files)
    assert sum(path.stat().st_size for path in files if path.name != "mlcl-base.pt") < 10e6
