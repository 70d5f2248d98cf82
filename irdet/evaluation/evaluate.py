"""Runs a detector over a labelled data set and measures it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import DataError
from irdet.core.frame import Preprocessor
from irdet.core.jsonable import jsonable
from irdet.core.threshold import AdaptiveThreshold, threshold_of
from irdet.data.protocol import resize_protocol
from irdet.data.sirst import Dataset
from irdet.metrics.accumulator import ImageResult, Metrics, MetricsResult, bootstrap
from irdet.metrics.curves import GRID, Curves, CurvesAccumulator
from irdet.metrics.pixel import Empty
from irdet.metrics.target import DISTANCE
from irdet.runtime.detector import Detector

#: Images that are kept to be looked at.
WORST = 8

#: Up to this false-alarm rate the area under the Pd-Fa curve is taken, in 1e-6.
AREA_MAX_FA = 100.0


@dataclass(frozen=True, eq=False)
class Case:
    """One image with its truth and what was predicted.

    Attributes:
        result: Its counts.
        pixels: float32 [H, W] in [0, 1].
        truth: bool [H, W].
        predicted: bool [H, W].
    """

    result: ImageResult
    pixels: NDArray[np.float32]
    truth: NDArray[np.bool_]
    predicted: NDArray[np.bool_]

    @property
    def badness(self) -> tuple[float, int, int, int]:
        """Sorts the worst last: low IoU, then many missed and false targets, then many wrong pixels."""
        # An image where nothing is and nothing was predicted has nothing to show, whatever it counts for in nIoU.
        counts = self.result.counts
        return -counts.iou("one"), self.result.missed + self.result.false, counts.fp + counts.fn, counts.pixels


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured, on what, and how.

    Attributes:
        metrics: The metrics at the detector's threshold.
        curves: The same over thresholds.
        intervals: Bootstrap intervals (95 %) of `"iou"` and `"niou"` over images.
        worst: The images that went worst, worst first.
        data: Name of the data set.
        model: Name of the network.
        runtime: What computed it, and where.
        resize: Width and height to which images and masks were resized; None for native size.
        views: Ways round in which each image was looked at.
        own_pixels: The metrics of a `Detector` that resizes, as at run time, in the images' own pixels, by the masks as
            they are. None where nothing is resized.
    """

    metrics: MetricsResult
    curves: Curves
    intervals: dict[str, tuple[float, float]]
    worst: tuple[Case, ...]
    data: str
    model: str
    runtime: str
    resize: tuple[int, int] | None
    views: int = 1
    own_pixels: MetricsResult | None = None

    @property
    def vanished(self) -> int:
        """Targets that there are fewer of where images are resized: some are too small for it, some grow together."""
        return 0 if self.own_pixels is None else max(0, self.own_pixels.targets - self.metrics.targets)

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures and their protocol as JSON values, without curves and images."""
        return {
            **self.metrics.to_dict(),
            **{f"{name}_interval": jsonable(ends) for name, ends in self.intervals.items()},
            "average_precision": jsonable(self.curves.average_precision),
            "pd_fa_area": jsonable(self.curves.pd_fa_area(AREA_MAX_FA)),
            "pd_fa_area_max_fa": AREA_MAX_FA,
            "data": self.data,
            "model": self.model,
            "runtime": self.runtime,
            "resize": jsonable(self.resize),
            "views": self.views,
            "vanished": self.vanished,
            "own_pixels": None if self.own_pixels is None else self.own_pixels.to_dict(),
        }


def evaluate(
    detector: Detector,
    dataset: Dataset,
    *,
    resize: tuple[int, int] | None = None,
    empty: Empty = "zero",
    distance: float = DISTANCE,
    thresholds: Sequence[float] = GRID,
    preprocessor: Preprocessor | None = None,
    progress: Callable[[], object] | None = None,
) -> Evaluation:
    """Measures a detector. The metrics come from its probability maps; its area filters play no part.

    Args:
        detector: The detector; its threshold, connectivity and views are used.
        dataset: Images with their truth.
        resize: Width and height to which images and masks are resized, the metrics being measured there: 512x512
            is the protocol of MLCL-Net's paper, which resizes counts. What the detector finds where it resizes, after
            its mapping to [0, 1], is measured in the images' own pixels besides. None measures at native size.
        empty: What an image without target and without prediction counts for in nIoU.
        distance: A target is found when a centroid lies closer than this, px of what is measured.
        thresholds: Thresholds of the curves; the detector's own is added where it is fixed.
        preprocessor: Maps the images, each by itself; one that follows the data where None.
        progress: Called after every image.

    Raises:
        DataError: The data set is empty, or an image cannot be read.
        ModelError: The engine failed.
    """
    if not len(dataset):
        raise DataError(f"{dataset.name} has no images")
    preprocessor = preprocessor or Preprocessor()
    metrics, own_pixels = (Metrics(detector.threshold, empty, distance, detector.connectivity) for _ in range(2))
    own = () if isinstance(detector.threshold, AdaptiveThreshold) else (detector.threshold,)
    grid = np.unique(np.array([*thresholds, *own], np.float32))
    curves = CurvesAccumulator(grid.tolist(), empty, distance, detector.connectivity)
    worst: list[Case] = []
    resizing = copy(detector)
    resizing.resize = resize
    for sample in dataset:
        raw, truth = sample.read()
        if resize is not None:
            preprocessor.begin()
            own_pixels.add(resizing.probability(preprocessor(raw, source=sample.name)), truth, sample.name)
            raw, truth = resize_protocol(raw, truth, resize)
        preprocessor.begin()
        frame = preprocessor(raw, source=sample.name)
        probability = detector.probability(frame)
        result = metrics.add(probability, truth, sample.name)
        curves.add(probability, truth)
        case = Case(
            result, frame.pixels, truth, probability >= np.float32(threshold_of(detector.threshold, probability))
        )
        worst = sorted([*worst, case], key=lambda case: case.badness, reverse=True)[:WORST]
        if progress is not None:
            progress()
    measured = metrics.result()
    return Evaluation(
        metrics=measured,
        curves=curves.result(),
        intervals=bootstrap(measured),
        worst=tuple(worst),
        data=dataset.name,
        model=detector.engine.info.variant,
        runtime=detector.engine.runtime,
        resize=resize,
        views=detector.views,
        own_pixels=None if resize is None else own_pixels.result(),
    )
