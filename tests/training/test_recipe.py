"""Recipes are found by name and refuse what cannot be."""

from __future__ import annotations

import pytest

from irdet.core.errors import UsageError
from irdet.models import MODELS
from irdet.training.recipe import RECIPES, Recipe, get_recipe


def test_shipped_recipes_name_known_networks() -> None:
    assert RECIPES
    for name, recipe in RECIPES.items():
        assert get_recipe(name) is recipe and recipe.name == name and recipe.model in MODELS


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean edge-v20"):
        get_recipe("edge_v20")


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 0},
        {"crop": 100},
        {"paste": 1.5},
        {"skew": -0.1},
        {"turned_share": 1.5},
        {"mixed_share": -0.1},
        {"joined_share": 1.1},
        {"fold": -1},
        {"fold": 6},
        {"mined_share": 1.1},
        {"mean_share": 1.5},
        {"learning_rate": float("nan")},
        {"learning_rate": -1.0},
        {"jitter": (1.0, 0.5)},
        {"ema": 1.0},
        {"model": "mlcl-huge"},
    ],
)
def test_impossible_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Recipe(**wrong)  # type: ignore[arg-type]


def test_replace_keeps_what_is_not_given() -> None:
    recipe = Recipe(epochs=7).replace(batch=3, crop=None)
    assert (recipe.epochs, recipe.batch, recipe.crop) == (7, 3, Recipe().crop)
