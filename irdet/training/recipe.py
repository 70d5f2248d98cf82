"""Recipes: everything that decides which weights a training run ends with, by name."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from irdet.core.errors import UsageError, unknown_name
from irdet.data.crops import Sampling
from irdet.data.scenes import FOLDS
from irdet.models.registry import find_spec

#: Longer crops and squares are a slip of the finger, px.
MAX_SIDE = 4096


@dataclass(frozen=True)
class Recipe(Sampling):
    """Hyper-parameters of one run. With the data and the seed they fix the weights.

    Attributes:
        name: Name of the recipe.
        model: Network to train, a key of `irdet.models.MODELS`.
        epochs: An epoch is as many crops as there are labelled images to train on.
        learning_rate: Peak rate of AdamW.
        final_share: Share of the peak at which the rate ends.
        weight_decay: Of AdamW, on convolution weights alone.
        warmup: Steps of linear warm-up; a cosine follows.
        ema: Decay of the averaged weights, which are the ones that are validated and kept.
        mean_share: Share, in the weights that the run ends with, of those that it is given for the mean.
        fixed_norm: Batch normalisation keeps the statistics that the run starts with, so that it does what it does at
            run time, however few crops a step has. Weights to start from must have some.
        clip: Largest norm of the gradient.
        per_sample: Weight of the soft IoU of single crops beside that of the whole batch.
        pixel: Weight of the cross-entropy over the hardest pixels.
        hard_share: Share of pixels that count as hardest.
        alarm: Weight of the cross-entropy over the brightest pixels of each crop that lie far from its targets.
        fold: Part that is held out for validation, 1 to `irdet.data.scenes.FOLDS`, whole scenes; 0 trains on all.
        validate_every: Epochs between validations.
    """

    name: str = "custom"
    model: str = "mlcl-edge"
    epochs: int = 100
    learning_rate: float = 1.5e-3
    final_share: float = 0.01
    weight_decay: float = 0.01
    warmup: int = 200
    ema: float = 0.998
    mean_share: float = 0.0
    fixed_norm: bool = False
    clip: float = 5.0
    per_sample: float = 0.5
    pixel: float = 0.5
    hard_share: float = 0.02
    alarm: float = 0.0
    fold: int = 1
    validate_every: int = 4

    def __post_init__(self) -> None:
        """Refuses values that cannot be."""

        def need(condition: bool, what: str) -> None:
            if not condition:
                raise UsageError(f"recipe {self.name}: {what}")

        find_spec(self.model)
        for name in ("epochs", "batch", "crop", "square", "validate_every"):
            need(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in (
            "squared_share",
            "whole_share",
            "centred_share",
            "background_share",
            "mined_share",
            "local_share",
            "final_share",
            "paste",
            "turned_share",
            "mixed_share",
            "joined_share",
            "exact_share",
            "plain_share",
            "hard_share",
            "mean_share",
        ):
            need(0 <= getattr(self, name) <= 1, f"{name} must lie in 0 to 1")
        need(0 <= self.fold <= FOLDS, f"fold must lie in 0 to {FOLDS}")
        need(self.crop % 16 == 0, "crop must be a multiple of 16")
        need(self.square % 16 == 0 or not self.whole_share, "square must be a multiple of 16 for whole frames")
        need(max(self.crop, self.square) <= MAX_SIDE, f"crop and square must be at most {MAX_SIDE}")
        need(self.batch > 1 or self.crop > 16, "a batch of 1 needs crops of 32 at least, for batch normalisation")
        need(math.isfinite(self.learning_rate) and self.learning_rate > 0, "learning_rate must be positive")
        need(math.isfinite(self.skew) and self.skew >= 0, "skew must be at least 0")
        need(0 < self.jitter[0] <= self.jitter[1], "jitter must be a range of positive scales")
        need(0 <= self.ema < 1, "ema must lie in 0 to 1")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> Recipe:
        """Returns a copy with some fields changed; fields given as None stay as they are."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})


#: What the shipped weights have in common: scales, intensities and pasted targets vary much, since otherwise a few
#: hundred images are learned by heart. A part of the crops is mapped locally: `--normalise local` on 14-bit scenes
#: needs a network that has seen it.
_VARIED = Recipe(
    weight_decay=0.05, alarm=0.2, exact_share=0.3, plain_share=0.3, local_share=0.08, paste=0.5, jitter=(0.6, 1.7)
)
_EDGE = _VARIED.replace(model="mlcl-edge", ema=0.9995, final_share=0.03, validate_every=50)
_BASE = _VARIED.replace(model="mlcl-base", ema=0.999, final_share=0.05, squared_share=0.4)

#: False targets weigh more, and more crops hold none; or a little less so.
_QUIET = MappingProxyType({"alarm": 0.5, "background_share": 0.35})
_CALM = MappingProxyType({"alarm": 0.35, "background_share": 0.3})

#: Turned, skewed and mixed crops; joined ones, too.
_TOSSED = MappingProxyType({"turned_share": 0.7, "skew": 0.5, "mixed_share": 0.6})
_JOINED = MappingProxyType({**_TOSSED, "joined_share": 0.5})

#: A short go in which half of the work is on whole frames.
_WHOLE = MappingProxyType({"learning_rate": 7e-4, "whole_share": 0.5, "squared_share": 0.25})

_RECIPES = (
    # mlcl-edge in four goes, once with every frame and once for each fold (`--fold`): from random weights, with joined
    # crops; from those, without.
    _EDGE.replace(name="edge-v20", epochs=500, learning_rate=2e-3, fold=0, **_CALM, **_JOINED),
    _EDGE.replace(name="edge-v21", epochs=300, learning_rate=1.5e-3, fold=0, **_CALM, **_TOSSED),
    # From there on frames as whole as they are at run time, in half of the steps; the others are mostly at native size.
    # Two whole frames are too few for statistics of their own: with those, targets are lost.
    _EDGE.replace(
        name="edge-v22", epochs=120, fold=0, fixed_norm=True, validate_every=60, **_WHOLE, **_CALM, **_TOSSED
    ),
    # With those, also from edge-v21, since masks gain; three fifths of edge-v22 in the mean bring most targets back.
    _EDGE.replace(name="edge-v23", epochs=120, fold=0, mean_share=0.6, validate_every=60, **_WHOLE, **_CALM, **_TOSSED),
    # mlcl-base: from random weights on small crops, which leave two fifths of the work of a step and hold nearly every
    # target whole; from those on larger ones; from those, quieter. Fold 1 is held out of all three.
    _BASE.replace(name="base-v2", crop=160, epochs=150, learning_rate=1.5e-3, final_share=0.3, validate_every=50),
    _BASE.replace(name="base-v3", crop=256, epochs=30, learning_rate=4.5e-4, ema=0.998, validate_every=15),
    _BASE.replace(
        name="base-v4", crop=192, epochs=160, learning_rate=1e-3, squared_share=0.6, validate_every=40, **_QUIET
    ),
    # From base-v4, varied: on small joined crops; on larger ones; on such as hold most frames whole, with base-v4's
    # weights in the mean. Fold 1 is held out of these, too. From there with every frame, or without it (`--fold 1`).
    _BASE.replace(
        name="base-v5",
        crop=160,
        epochs=200,
        learning_rate=1.5e-3,
        squared_share=0.5,
        validate_every=100,
        **_CALM,
        **_JOINED,
    ),
    _BASE.replace(
        name="base-v6",
        crop=192,
        epochs=200,
        learning_rate=1e-3,
        squared_share=0.6,
        validate_every=70,
        **_CALM,
        **_TOSSED,
    ),
    _BASE.replace(
        name="base-v7",
        crop=256,
        epochs=26,
        learning_rate=5e-4,
        squared_share=0.7,
        validate_every=26,
        mean_share=0.4,
        **_QUIET,
        **_TOSSED,
    ),
    _BASE.replace(
        name="base-v8",
        crop=256,
        epochs=100,
        learning_rate=1e-3,
        squared_share=0.6,
        validate_every=34,
        fold=0,
        **_QUIET,
        **_TOSSED,
    ),
    # From there on whole frames, as edge-v22, with three tenths of base-v8 in the mean.
    _BASE.replace(
        name="base-v9",
        crop=256,
        epochs=48,
        fold=0,
        fixed_norm=True,
        mean_share=0.3,
        validate_every=24,
        **_WHOLE,
        **_QUIET,
        **_TOSSED,
    ),
    # The authors' networks and what came before them, at one equal budget: 3,808 crops of fold 1's training part.
    *(
        Recipe(name=f"{name}-v1", model=model, epochs=14, batch=4, validate_every=7)
        for name, model in (
            ("base", "mlcl-base"),
            ("small", "mlcl-small"),
            ("fpn", "resnet20-fpn"),
            ("alcnet", "alcnet"),
            ("short", "mlcl-edge"),
        )
    ),
)

#: The recipes that come with irdet, by name.
RECIPES = MappingProxyType({recipe.name: recipe for recipe in _RECIPES})


def get_recipe(name: str) -> Recipe:
    """Returns a recipe by name.

    Raises:
        UsageError: No such recipe; suggests the nearest name.
    """
    if name in RECIPES:
        return RECIPES[name]
    raise unknown_name("recipe", name, RECIPES)
