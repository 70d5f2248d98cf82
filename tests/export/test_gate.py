"""The accuracy gate: layers go back to float in the order of their harm, and not too many of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from irdet.core.errors import IrdetError, ModelError
from irdet.core.frame import Preprocessor
from irdet.data.sirst import load_dataset
from irdet.engines.onnx import OnnxEngine
from irdet.export.gate import Measured, harm, hold, measure
from irdet.export.int8 import Layer
from irdet.metrics import Metrics

#: Squares of probability in a frame; a mask that is one column short stands for what a layer costs.
TRUTH = np.zeros((16, 16), bool)
TRUTH[2:12, 2:12] = True

LAYERS = tuple(Layer(name, macs) for name, macs in (("a", 10), ("b", 60), ("c", 5), ("d", 5), ("e", 20)))


def measured(lost: int) -> Measured:
    """A model that loses so many of ten rows, compared with one that loses none."""
    probability = TRUTH.astype(np.float32)
    probability[2 : 2 + lost] = 0
    metrics = Metrics(0.5)
    metrics.add(probability, TRUTH)
    return Measured(metrics.result(), max_difference=float(lost > 0))


def never() -> dict[str, float]:
    raise AssertionError("sensitivity is measured only where it is needed")


def test_what_holds_is_left_alone() -> None:
    verdict = hold(LAYERS, lambda kept: measured(1), measured(0), 0.1, never, ("c",))
    assert verdict.kept == ("c",) and verdict.share == pytest.approx(0.95)
    assert verdict.drop == pytest.approx(0.1) and verdict.max_difference == 1
    assert (verdict.before.iou, verdict.after.iou) == (1.0, pytest.approx(0.9))
    report = verdict.to_dict()
    assert report["fp32"]["iou"] == 1.0 and report["reduced"]["pd"] == 1.0 and report["mac_share"] == verdict.share


def test_a_gain_is_no_drop() -> None:
    assert hold(LAYERS, lambda kept: measured(0), measured(3), 0.0, never).kept == ()


def test_the_most_harmful_go_back_first() -> None:
    asked: list[tuple[str, ...]] = []

    def reduced(kept: tuple[str, ...]) -> Measured:
        asked.append(kept)
        return measured(3 - len(kept))

    verdict = hold(LAYERS, reduced, measured(0), 0.1, lambda: {"a": 0.1, "b": 0.0, "c": 0.7, "d": 0.3, "e": 0.2})
    assert asked == [(), ("c",), ("c", "d")]
    assert verdict.kept == ("c", "d") and verdict.share == pytest.approx(0.9)


def test_it_fails_before_too_much_is_in_float() -> None:
    with pytest.raises(IrdetError, match=r"IoU 0\.5000 instead of 1\.0000 .*80% of the work.*--max-drop") as caught:
        hold(LAYERS, lambda kept: measured(5), measured(0), 0.01, lambda: {"e": 0.9, "a": 0.8, "b": 0.7})
    assert "(1 are there)" in str(caught.value) and "\n" not in str(caught.value)


def test_a_layer_that_is_too_much_work_is_passed_over() -> None:
    def reduced(kept: tuple[str, ...]) -> Measured:
        return measured(0 if "c" in kept else 3)

    verdict = hold(LAYERS, reduced, measured(0), 0.1, lambda: {"a": 0.1, "b": 0.9, "c": 0.3, "d": 0.0, "e": 0.2})
    assert verdict.kept == ("c",)


@pytest.mark.parametrize("lost", [10, "elsewhere"])
def test_a_model_that_finds_nothing_proves_nothing(lost: Any) -> None:
    before = measured(10)
    if lost == "elsewhere":  # it touches the target, but so that it is not found
        before = replace(before, metrics=replace(before.metrics, iou=0.01))

    def reduced(kept: tuple[str, ...]) -> Measured:
        raise AssertionError("what there is to lose is known before")

    with pytest.raises(
        ModelError, match=r"fp32 model finds no target in the 1 labelled frames \(1 are there\)"
    ) as caught:
        hold(LAYERS, reduced, before, 0.01, never)
    assert "\n" not in str(caught.value)


def test_harm_is_per_target_pixel(made: Path) -> None:
    samples = load_dataset(made).samples[:2]
    targets = sum(int(sample.read()[1].sum()) for sample in samples)
    assert harm(measured(0), samples) == 0
    assert harm(replace(measured(0), moved=100.0), samples) == pytest.approx(100 / targets)


def test_measuring_is_what_eval_measures(made: Path, graph: Any, tmp_path: Path) -> None:
    from irdet.evaluation.evaluate import evaluate
    from irdet.runtime.detector import Detector

    onnx.save(graph, str(tmp_path / "edge.onnx"))
    dataset, steps = load_dataset(made), []
    with OnnxEngine(tmp_path / "edge.onnx", device="cpu") as engine:
        detector = Detector(engine)
        ours = measure(detector, dataset.samples, Preprocessor(), lambda: steps.append(1))
        theirs = evaluate(detector, dataset).metrics
        again = measure(detector, dataset.samples, Preprocessor(), before=ours)
        darker = replace(ours, maps=tuple(np.maximum(one - 0.25, 0) for one in ours.maps))
        other = measure(detector, dataset.samples, Preprocessor(), before=darker)
        mapped = [
            run(Detector(engine, polarity="black-hot"), Preprocessor((0, 100)))
            for run in (
                lambda detector, how: measure(detector, dataset.samples, how).metrics,
                lambda detector, how: evaluate(detector, dataset, preprocessor=how).metrics,
            )
        ]
    assert mapped[0].to_dict() == mapped[1].to_dict() != ours.metrics.to_dict()
    assert ours.metrics.to_dict() == theirs.to_dict()
    assert len(steps) == len(ours.maps) == len(dataset)
    assert (again.metrics, again.maps, again.max_difference, again.moved) == (ours.metrics, (), 0, 0)
    assert other.maps == () and other.max_difference == pytest.approx(0.25)
    moved = sum(float(np.minimum(one, 0.25).sum()) for one in ours.maps)
    assert other.moved == pytest.approx(moved, rel=1e-4)
