"""The accuracy gate: a reduced model is let out only if it finds what the fp32 one finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, ModelError
from irdet.core.frame import Preprocessor
from irdet.data.sirst import Sample
from irdet.export.int8 import Layer
from irdet.metrics import Metrics, MetricsResult
from irdet.runtime.detector import Detector

#: At least this share of the convolutions' work must stay reduced, else it was not worth it.
LEAST_SHARE = 0.8

#: What is compared, in this order.
FIGURES = ("iou", "niou", "pd", "fa")


@dataclass(frozen=True, eq=False)
class Measured:
    """What a model made of labelled frames.

    Attributes:
        metrics: The figures.
        maps: Its probabilities, float32 [H, W] each; none of a model that was compared with another.
        max_difference: Largest difference of a probability from that other's; 0 where there is none.
        moved: Differences from that other's probabilities, summed over pixels and frames.
    """

    metrics: MetricsResult
    maps: tuple[NDArray[np.float32], ...] = ()
    max_difference: float = 0.0
    moved: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """How a reduced model compares with the fp32 one.

    Attributes:
        before: The fp32 model's figures.
        after: The reduced model's, at the same threshold on the same frames.
        max_difference: Largest difference of a probability.
        max_drop: What IoU may lose.
        kept: Layers that went back to float, the most sensitive first.
        share: Share of the convolutions' multiply-accumulates that stay reduced.
    """

    before: MetricsResult
    after: MetricsResult
    max_difference: float
    max_drop: float
    kept: tuple[str, ...]
    share: float

    @property
    def drop(self) -> float:
        """IoU lost."""
        return self.before.iou - self.after.iou

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "fp32": {name: getattr(self.before, name) for name in FIGURES},
            "reduced": {name: getattr(self.after, name) for name in FIGURES},
            "images": self.before.images,
            "targets": self.before.targets,
            "threshold": self.before.threshold,
            "drop": self.drop,
            "max_drop": self.max_drop,
            "max_difference": self.max_difference,
            "kept_in_float": list(self.kept),
            "mac_share": self.share,
        }


def measure(
    detector: Detector,
    samples: Sequence[Sample],
    preprocessor: Preprocessor,
    progress: Callable[[], object] | None = None,
    *,
    before: Measured | None = None,
) -> Measured:
    """Runs a model over labelled frames at its own threshold.

    Args:
        detector: The model; its threshold is the model's own.
        samples: The frames.
        preprocessor: Maps each of them by itself.
        progress: Called after every frame.
        before: The fp32 model on the same frames, to compare with. It is done frame by frame, so that the maps of one
            model alone are held: those of a thousand frames are more than a gigabyte.
    """
    metrics = Metrics(detector.threshold)
    maps = []
    max_difference = moved = 0.0
    for index, sample in enumerate(samples):
        raw, truth = sample.read()
        preprocessor.begin()
        probability = detector.probability(preprocessor(raw, source=sample.name))
        metrics.add(probability, truth, sample.name)
        if before is None:
            maps.append(probability)
        else:
            difference = np.abs(probability - before.maps[index])
            max_difference = max(max_difference, float(difference.max()))
            moved += float(difference.sum())
        if progress is not None:
            progress()
    return Measured(metrics.result(), tuple(maps), max_difference, moved)


def hold(
    layers: Sequence[Layer],
    reduced: Callable[[tuple[str, ...]], Measured],
    before: Measured,
    max_drop: float,
    sensitivity: Callable[[], dict[str, float]],
    always_kept: tuple[str, ...] = (),
) -> Verdict:
    """Sends layers back to float, the most sensitive first, until the IoU is within `max_drop` of fp32's.

    One that is too much work to be in float is passed over.

    Args:
        layers: All convolutions.
        reduced: Measures the model with these layers in float on the gate's frames, compared with `before`.
        before: The fp32 model on the same frames.
        max_drop: What IoU may lose.
        sensitivity: Measures how much each layer alone harms; called only when the first try does not hold.
        always_kept: Layers that are in float from the start.

    Raises:
        ModelError: The fp32 model finds no target, so that nothing could be lost.
        IrdetError: It does not hold while `LEAST_SHARE` of the work stays reduced.
    """
    if not min(before.metrics.iou, before.metrics.matched):
        raise ModelError(
            f"accuracy gate: the fp32 model finds no target in the {before.metrics.images} labelled frames "
            f"({before.metrics.targets} are there), so no loss would show on them; give frames that the network was "
            "made for, with their masks, or a trained checkpoint"
        )
    work = {layer.name: layer.macs for layer in layers}
    kept = always_kept
    after = reduced(kept)
    order: list[str] | None = None
    while before.metrics.iou - after.metrics.iou > max_drop:
        if order is None:
            harm = sensitivity()
            order = sorted((name for name in harm if name not in kept), key=lambda name: -harm[name])
        name = next((name for name in order if _share(work, (*kept, name)) >= LEAST_SHARE), None)
        if name is None:
            raise IrdetError(
                f"accuracy gate: IoU {after.metrics.iou:.4f} instead of {before.metrics.iou:.4f} in fp32, a drop of "
                f"more than {max_drop:g}, and no further layer can go back to float with {LEAST_SHARE:.0%} of the work "
                f"reduced ({len(kept)} are there); calibrate on more frames, or raise --max-drop"
            )
        order.remove(name)
        kept = (*kept, name)
        after = reduced(kept)
    return Verdict(before.metrics, after.metrics, after.max_difference, max_drop, kept, _share(work, kept))


def harm(reduced: Measured, samples: Sequence[Sample]) -> float:
    """Returns how far probabilities moved, summed over pixels, per pixel of a target.

    It moves with every pixel, where IoU on a few frames moves in jumps.
    """
    return reduced.moved / max(1, sum(int(sample.read()[1].sum()) for sample in samples))


def _share(work: dict[str, int], kept: tuple[str, ...]) -> float:
    return 1 - sum(work.get(name, 0) for name in kept) / sum(work.values())
