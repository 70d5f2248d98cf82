from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from irdet.core.errors import MissingDependency
from irdet.evaluation.evaluate import Case, Evaluation
from irdet.evaluation.report import PREDICTION, TILE_HEIGHT, TRUTH, save_curves, save_figures, worst_sheet
from irdet.metrics.accumulator import Metrics, bootstrap
from irdet.metrics.curves import CurvesAccumulator


def case(name: str = "one", shape: tuple[int, int] = (90, 120), found: bool = True, target: bool = True) -> Case:
    height, width = shape
    truth, predicted = np.zeros(shape, bool), np.zeros(shape, bool)
    if target:
        truth[height // 2 : height // 2 + 4, width // 2 : width // 2 + 4] = True
    if found:
        predicted[height // 2 : height // 2 + 2, width // 2 : width // 2 + 4] = True
    pixels = np.random.default_rng(1).random(shape).astype(np.float32)
    return Case(Metrics().add(predicted.astype(np.float32), truth, name), pixels, truth, predicted)


def evaluation(*cases: Case) -> Evaluation:
    metrics, curves = Metrics(), CurvesAccumulator()
    for one in cases:
        metrics.add(one.predicted.astype(np.float32), one.truth, one.result.name)
        curves.add(one.predicted.astype(np.float32), one.truth)
    result = metrics.result()
    return Evaluation(result, curves.result(), bootstrap(result), cases, "data", "bright", "numpy", None)


def shows(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(colour, np.uint8)).all(axis=2).any())


def test_outlines_are_drawn_in_their_colours() -> None:
    header = 26
    both, missed, false = (
        worst_sheet([one])[header : header + TILE_HEIGHT] for one in (case(), case(found=False), case(target=False))
    )
    assert (shows(both, TRUTH), shows(both, PREDICTION)) == (True, True)
    assert (shows(missed, TRUTH), shows(missed, PREDICTION)) == (True, False)
    assert (shows(false, TRUTH), shows(false, PREDICTION)) == (False, True)


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (400, 5), (64, 85), (512, 640)])
@pytest.mark.parametrize("found", [True, False])
def test_sheet_of_any_size(shape: tuple[int, int], found: bool) -> None:
    sheet = worst_sheet([case(shape=shape, found=found), case("é" * 90), case(found=False, target=False)])
    assert (sheet.dtype, sheet.ndim, sheet.shape[2]) == (np.uint8, 3, 3)
    one = worst_sheet([case()])
    assert sheet.shape[1] == 2 * one.shape[1]


def test_the_cut_shows_what_went_wrong() -> None:
    # A target that was found exactly in one corner, one that was missed in the other: the cut is around the latter.
    good = case(shape=(300, 400), found=False, target=False)
    good.truth[10:14, 10:14] = good.predicted[10:14, 10:14] = True
    good.truth[280:282, 380:383] = True
    sheet = worst_sheet([good])
    cut = sheet[26 : 26 + TILE_HEIGHT, sheet.shape[1] // 2 + 3 :]
    assert shows(cut, TRUTH)
    assert not shows(cut, PREDICTION)


def test_files(tmp_path: Path) -> None:
    measured = evaluation(case("one"), case("two", found=False))
    files = save_figures(tmp_path / "run", measured, measured.to_dict())
    assert [file.name for file in files] == ["metrics.json", "per_image.csv", "worst.png"]
    figures = json.loads(files[0].read_text())
    assert figures["iou"] == 8 / 32
    assert len(figures["curves"]["pd"]) == len(figures["curves"]["thresholds"])
    rows = list(csv.DictReader(files[1].open()))
    assert [(row["name"], row["tp"], row["missed"], row["iou"]) for row in rows] == [
        ("one", "8", "0", "0.500000"),
        ("two", "0", "1", "0.000000"),
    ]
    assert cv2.imread(str(files[2])) is not None
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.json", "per_image.csv", "worst.png"]


@pytest.mark.parametrize("target", [True, False])
def test_curves_are_drawn(tmp_path: Path, target: bool) -> None:
    pytest.importorskip("matplotlib")
    path = save_curves(tmp_path / "curves.png", evaluation(case(target=target)))
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape[1] > 3 * 400
    assert picture.std() > 10


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match=r"irdet\[plot\]"):
        save_curves(tmp_path / "curves.png", evaluation(case()))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_folders_with_names_that_are_no_text(tmp_path: Path) -> None:
    bad = os.fsdecode(b"bad_\xff")
    files = save_figures(tmp_path / bad, evaluation(case(bad)), {})
    assert all(file.stat().st_size for file in files)
