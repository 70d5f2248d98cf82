from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irdet.core.errors import DataError, IrdetError, ModelError, UsageError
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.engines import open_engine, resolve_model
from irdet.engines.golden import golden_path, read_golden, replay
from irdet.evaluation.tune import choose_threshold, write_threshold
from irdet.metrics.curves import Curves, CurvesAccumulator


def curves(
    thresholds: list[float],
    matched: list[int],
    false_pixels: list[int],
    tp: list[int],
    targets: int = 10,
    fp: list[int] | None = None,
) -> Curves:
    """Curves over a million pixels, so that a false pixel is 1e-6; ten pixels per target."""
    hits = np.array(tp)
    return Curves(
        thresholds=np.array(thresholds, np.float32),
        tp=hits,
        fp=np.array(fp or false_pixels),
        fn=10 * targets - hits,
        niou=np.zeros(len(tp)),
        matched=np.array(matched),
        false_targets=np.array(false_pixels),
        false_pixels=np.array(false_pixels),
        images=4,
        targets=targets,
        pixels=1_000_000,
    )


CURVES = curves([0.1, 0.3, 0.5, 0.7, 0.9], [10, 9, 8, 8, 5], [300, 40, 20, 10, 2], [95, 90, 80, 80, 40])


@pytest.mark.parametrize(
    ("budget", "threshold"),
    [(1000, 0.1), (300, 0.1), (299.9, 0.3), (20, 0.7), (15, 0.7), (9.9, 0.9), (2, 0.9), (None, 0.7)],
)
def test_highest_pd_within_the_budget(budget: float | None, threshold: float) -> None:
    # At a budget of 20 both 0.5 and 0.7 have Pd 0.8; 0.7 has the better IoU.
    assert CURVES.thresholds[choose_threshold(CURVES, budget)] == np.float32(threshold)


def test_equals_go_to_the_middle() -> None:
    flat = curves([0.1, 0.4, 0.8], [9, 9, 9], [3, 3, 3], [50, 50, 50])
    assert choose_threshold(flat, 10) == choose_threshold(flat) == 1


def test_a_budget_out_of_reach_names_the_lowest() -> None:
    with pytest.raises(IrdetError, match=r"within 1e-6 .* lowest Fa is 2e-6 at threshold 0\.9 \(Pd 0\.500\)"):
        choose_threshold(CURVES, 1)


def test_a_frame_that_is_one_component_meets_no_budget() -> None:
    # At 0.01 nearly every pixel is set and none counts as false: all of them are on the target's component.
    merged = curves([0.01, 0.5, 0.9], [10, 8, 5], [0, 50, 1], [95, 80, 40], fp=[900_000, 60, 5])
    assert merged.thresholds[choose_threshold(merged, 10)] == np.float32(0.9)
    assert merged.pd_fa_area(10) == pytest.approx(0.5 * 9 / 10)


def test_finding_nothing_is_no_way_to_meet_a_budget() -> None:
    silent = curves([0.5, 0.9], [5, 0], [30, 0], [50, 0])
    with pytest.raises(IrdetError, match="lowest Fa is 30e-6"):
        choose_threshold(silent, 10)
    with pytest.raises(IrdetError, match="finds none of the targets"):
        choose_threshold(curves([0.5], [0], [0], [0]))


def test_fragments_at_high_thresholds_do_not_bar_the_lower_ones() -> None:
    """Real curves do this: near 1 a target breaks into pieces, one of which is false, and Fa rises once more."""
    broken = curves([0.3, 0.5, 0.9, 0.999], matched=[10, 9, 8, 7], false_pixels=[90, 9, 4, 12], tp=[80, 90, 60, 30])
    assert broken.thresholds[choose_threshold(broken, 10)] == 0.5


def test_data_without_targets() -> None:
    with pytest.raises(DataError, match="no targets"):
        choose_threshold(curves([0.5], [0], [0], [0], targets=0), 10)


@given(st.integers(0, 10**6), st.floats(1, 20000))
def test_no_other_threshold_within_the_budget_finds_more(seed: int, budget: float) -> None:
    generator = np.random.default_rng(seed)
    accumulator = CurvesAccumulator(np.linspace(0.05, 0.95, 19).tolist())
    for _ in range(2):
        mask = np.zeros((24, 24), bool)
        for x, y in generator.integers(0, 22, (2, 2)):
            mask[y : y + 2, x : x + 2] = True
        noise = generator.random(mask.shape)
        accumulator.add(np.where(mask, np.sqrt(noise), noise**12).astype(np.float32), mask)
    measured = accumulator.result()
    inside = (measured.fa_bound <= budget) & (measured.matched > 0)
    if not inside.any():
        with pytest.raises(IrdetError, match="lowest Fa"):
            choose_threshold(measured, budget)
        return
    chosen = choose_threshold(measured, budget)
    assert inside[chosen]
    assert measured.pd[chosen] == measured.pd[inside].max()


def test_onnx_keeps_everything_but_the_threshold(tmp_path: Path, bright_model: Callable[..., Path]) -> None:
    onnx = pytest.importorskip("onnx")
    info = ModelInfo("bright", stride=4, training={"epochs": 3})
    source, output = tmp_path / "model.onnx", tmp_path / "new" / "copy.onnx"
    bright_model(source, info, author="somebody")
    before = source.read_bytes()
    write_threshold(source, output, 0.37)
    copy = onnx.load(str(output))
    properties = {entry.key: entry.value for entry in copy.metadata_props}
    assert ModelInfo.from_json(properties[METADATA_KEY]) == info.replace(threshold=0.37)
    assert properties["author"] == "somebody"
    assert copy.graph == onnx.load(str(source)).graph
    assert source.read_bytes() == before


def test_a_tuned_graph_can_be_verified(tmp_path: Path) -> None:
    """The weights are the same, so the golden frames are, with the threshold that the copy has."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    write_threshold(resolve_model("mlcl-edge"), tmp_path / "tuned.onnx", 0.3)
    with open_engine(tmp_path / "tuned.onnx") as engine:
        assert engine.info.threshold == 0.3
        result = replay(engine, read_golden(golden_path(tmp_path / "tuned.onnx")))
    assert result.passed and result.frames and result.targets

    write_threshold(tmp_path / "tuned.onnx", tmp_path / "tuned.onnx", 0.4)  # in its place
    with open_engine(tmp_path / "tuned.onnx") as engine:
        assert engine.info.threshold == 0.4
        assert replay(engine, read_golden(golden_path(tmp_path / "tuned.onnx"))).passed


def test_checkpoint_keeps_weights_and_training_state(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from irdet.models.checkpoints import load_checkpoint, save_checkpoint
    from irdet.models.registry import create_model

    torch.manual_seed(0)
    source, output = tmp_path / "best.pt", tmp_path / "tuned.pt"
    save_checkpoint(source, create_model("mlcl-small"), ModelInfo("mlcl-small"), {"epoch": 7})
    write_threshold(source, output, 0.62)
    (old, _), (new, state) = load_checkpoint(source), load_checkpoint(output)
    assert new.info == old.info.replace(threshold=0.62)
    assert state == {"epoch": 7}
    weights = new.module.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in old.module.state_dict().items())


def test_what_cannot_carry_a_threshold(tmp_path: Path, bright_model: Callable[..., Path]) -> None:
    pytest.importorskip("onnx")
    bright_model(tmp_path / "foreign.onnx", None)
    with pytest.raises(ModelError, match="carries no record"):
        write_threshold(tmp_path / "foreign.onnx", tmp_path / "copy.onnx", 0.4)
    with pytest.raises(UsageError, match=r"must end in \.onnx"):
        write_threshold(tmp_path / "foreign.onnx", tmp_path / "copy.pt", 0.4)
    with pytest.raises(UsageError, match=r"into \.onnx and \.pt"):
        write_threshold(tmp_path / "model.xml", tmp_path / "copy.xml", 0.4)
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.onnx"]
