"""The authors' released checkpoints load, and give the authors' outputs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from irdet.core.errors import ModelError
from irdet.models import load_model

DATA = Path(__file__).parent.parent / "data"
SEEDS = {"base": 7, "small": 11}


def authors_weights(variant: str) -> dict[str, torch.Tensor]:
    """Weights as the README of the reference outputs makes them."""
    random = np.random.RandomState(SEEDS[variant])
    weights = {}
    for key, shape in json.loads((DATA / f"{variant}_shapes.json").read_text()):
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.tensor(0)
            continue
        values = random.standard_normal(shape).astype("f4")
        if key.endswith("running_var"):
            values = 0.5 + abs(values)
        elif key.endswith("running_mean"):
            values = 0.1 * values
        elif len(shape) == 4:
            values = values * np.float32(math.sqrt(1.5 / math.prod(shape[1:])))
        elif key.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values = 0.1 * values
        weights[key] = torch.from_numpy(np.asarray(values, "f4"))
    return weights


def output(path: Path) -> np.ndarray:
    x = torch.from_numpy(np.random.RandomState(3).rand(1, 1, 48, 64).astype("f4"))
    with torch.inference_mode():
        return torch.sigmoid(load_model(path).module(x)).numpy()


@pytest.mark.parametrize("variant", ["base", "small"])
def test_outputs_are_the_authors(variant: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save(authors_weights(variant), path)
    reference = np.load(DATA / "mlcl_ref.npz")[variant]
    assert np.ptp(reference) > 0.1  # a flat reference would prove nothing
    assert np.abs(output(path) - reference).max() < 1e-5
    info = load_model(path).info
    assert (info.variant, info.stride) == (f"mlcl-{variant}", 4)
    assert info.parameters == {"base": 656_961, "small": 559_521}[variant]


@pytest.mark.parametrize("wrapper", ["state_dict", "net", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers_and_prefix_make_no_difference(wrapper: str, prefix: str, tmp_path: Path) -> None:
    weights = authors_weights("small")
    bare, wrapped = tmp_path / "bare.pth", tmp_path / "wrapped.pth"
    torch.save(weights, bare)
    torch.save({"epoch": 3, wrapper: {prefix + key: value for key, value in weights.items()}}, wrapped)
    assert load_model(wrapped).info == load_model(bare).info


def test_prefix_without_wrapper(tmp_path: Path) -> None:
    path = tmp_path / "parallel.pth"
    torch.save({f"module.{key}": value for key, value in authors_weights("small").items()}, path)
    assert load_model(path).info.variant == "mlcl-small"


def test_a_key_that_is_not_theirs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({**authors_weights("small"), "stage.attention.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"stage\.attention\.weight"):
        load_model(path)


def test_missing_layers_are_named(tmp_path: Path) -> None:
    path = tmp_path / "part.pth"
    weights = authors_weights("base")
    del weights["mlcl2.conv.bias"]
    torch.save(weights, path)
    with pytest.raises(ModelError, match=r"missing mlcl\.1\.fuse\.bias"):
        load_model(path)
