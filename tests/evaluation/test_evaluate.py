from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import DataError
from irdet.core.frame import Preprocessor
from irdet.core.info import ModelInfo
from irdet.data.sirst import Dataset, load_dataset
from irdet.engines.base import BaseEngine
from irdet.evaluation.evaluate import WORST, evaluate
from irdet.metrics.accumulator import Metrics
from irdet.runtime.detector import Detector


class Bright(BaseEngine):
    """Takes brightness for probability: what it finds can be worked out by hand."""

    runtime = "numpy"
    max_batch: int | None = None

    def __init__(self, threshold: float = 0.5) -> None:
        self.info = ModelInfo("bright", stride=8, threshold=threshold)
        self.shapes: list[tuple[int, ...]] = []

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(batch.shape)
        return batch.copy()

    def _release(self) -> None:
        return


def write(root: Path, name: str, image: NDArray[np.generic], mask: NDArray[np.bool_]) -> None:
    for folder, values in (("images", image), ("masks", mask.astype(np.uint8) * np.uint8(255))):
        (root / folder).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / folder / f"{name}.png"), values)


def dataset(root: Path, images: int = 3) -> Dataset:
    """Each image has a target of 4 px; in image n, n of them are dim, and image 0 has a false one of 1 px."""
    for number in range(images):
        image, mask = np.full((20, 30), 20, np.uint8), np.zeros((20, 30), bool)
        mask[8:10, 12:14] = True
        image[mask] = 220
        image[8:10, 12:14].flat[: number % 4] = 60
        if number == 0:
            image[2, 25] = 255
        write(root, f"image{number}", image, mask)
    return load_dataset(root)


def test_by_hand_at_native_size(tmp_path: Path) -> None:
    seen: list[int] = []
    engine = Bright()
    evaluation = evaluate(Detector(engine), dataset(tmp_path), progress=lambda: seen.append(1))
    metrics = evaluation.metrics
    assert (metrics.images, metrics.targets, metrics.matched, metrics.false_targets) == (3, 3, 3, 1)
    assert metrics.iou == (4 + 3 + 2) / (12 + 1)
    assert metrics.niou == pytest.approx((4 / 5 + 3 / 4 + 2 / 4) / 3)
    assert metrics.fa == pytest.approx(1e6 / 1800)
    assert len(seen) == 3
    assert set(engine.shapes) == {(1, 1, 24, 32)}  # padded to the stride, cropped back
    assert (evaluation.data, evaluation.model, evaluation.runtime) == (tmp_path.name, "bright", "numpy")


def test_the_models_own_threshold_is_used_and_on_the_curve(tmp_path: Path) -> None:
    evaluation = evaluate(Detector(Bright(threshold=0.1234)), dataset(tmp_path))
    assert evaluation.metrics.threshold == 0.1234
    step = int(np.flatnonzero(evaluation.curves.thresholds == np.float32(0.1234))[0])
    assert evaluation.curves.iou[step] == evaluation.metrics.iou == 12 / 13
    assert (np.diff(evaluation.curves.thresholds) > 0).all()


def test_worst_first(tmp_path: Path) -> None:
    evaluation = evaluate(Detector(Bright()), dataset(tmp_path, images=12))
    assert len(evaluation.worst) == WORST
    ious = [case.result.iou for case in evaluation.worst]
    assert ious == sorted(ious) == sorted(image.iou for image in evaluation.metrics.per_image)[:WORST]
    case = evaluation.worst[0]
    assert case.result.name in ("image3", "image7", "image11")
    assert (case.predicted.sum(), case.truth.sum(), case.pixels.shape) == (1, 4, (20, 30))


def test_a_clean_target_free_frame_is_not_among_the_worst(tmp_path: Path) -> None:
    for number in range(WORST + 2):
        image = np.full((16, 16), 20, np.uint8)
        image[5, 5 : 5 + number] = 200
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    evaluation = evaluate(Detector(Bright()), load_dataset(tmp_path, empty_truth=True))
    assert [case.result.name for case in evaluation.worst] == [str(n) for n in range(WORST + 1, 1, -1)]
    assert evaluation.metrics.false_targets == WORST + 1


def test_figures_are_json_with_their_protocol(tmp_path: Path) -> None:
    figures = evaluate(Detector(Bright()), dataset(tmp_path), resize=(60, 40), empty="skip", distance=2).to_dict()
    figures = json.loads(json.dumps(figures, allow_nan=False))
    wanted = {"iou", "niou", "pd", "fa", "precision", "recall", "f1", "images", "targets", "iou_interval"}
    assert wanted <= figures.keys()
    assert (figures["threshold"], figures["resize"], figures["empty"], figures["distance"]) == (
        0.5,
        [60, 40],
        "skip",
        2,
    )


def test_resizing_changes_what_is_measured(tmp_path: Path) -> None:
    engine = Bright()
    evaluation = evaluate(Detector(engine), dataset(tmp_path), resize=(64, 64))
    assert set(engine.shapes) == {(1, 1, 64, 64)}
    assert sum(image.pixels for image in evaluation.metrics.per_image) == 3 * 64 * 64


@pytest.mark.parametrize("mode", ["range", "local"])
def test_what_is_resized_is_measured_in_the_images_own_pixels_too(tmp_path: Path, mode: str) -> None:
    """The second measure is of what a detector finds that resizes frames by itself, as `irdet infer` has it."""
    data = dataset(tmp_path)
    own = evaluate(Detector(Bright()), data, resize=(90, 60), preprocessor=Preprocessor(mode=mode)).own_pixels
    assert own is not None
    metrics = Metrics(distance=own.distance)
    for sample in data:
        image, mask = sample.read()
        detection = Detector(Bright(), resize=(90, 60)).detect(Preprocessor(mode=mode)(image))
        metrics.add(detection.probability, mask, sample.name)
    assert own.to_dict() == metrics.result().to_dict()
    assert sum(image.pixels for image in own.per_image) == 3 * 20 * 30
    assert evaluate(Detector(Bright()), data).own_pixels is None


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no images"):
        evaluate(Detector(Bright()), Dataset("nothing", tmp_path, ()))


def test_targets_that_vanish_by_resizing_are_told(tmp_path: Path) -> None:
    """The protocol measures what is left of the masks, so Pd would say nothing of them."""
    mask = np.zeros((64, 64), bool)
    mask[11, 11] = mask[30:36, 30:36] = True
    write(tmp_path, "one", mask.astype(np.uint8) * 200, mask)
    small = evaluate(Detector(Bright()), load_dataset(tmp_path), resize=(16, 16))
    assert (small.metrics.targets, small.vanished) == (1, 1)
    native = evaluate(Detector(Bright()), load_dataset(tmp_path))
    assert (native.metrics.targets, native.vanished, native.to_dict()["vanished"]) == (2, 0, 0)
