"""The loop: it learns, stops where it is told to, and a resumed run ends with the weights of one that never stopped."""

from __future__ import annotations

import copy
import csv
import dataclasses
import math
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from irdet.core.errors import ModelError, UsageError
from irdet.data.crops import LabelledFrame
from irdet.models import create_model, load_checkpoint, load_model, save_checkpoint
from irdet.models.checkpoints import weights_digest
from irdet.models.mlcl import Network
from irdet.training.dataset import TrainingData, stretch
from irdet.training.loop import COLUMNS, record_protocols, train
from irdet.training.recipe import Recipe
from irdet.training.validation import MINED_PER_FRAME, mine, predict

RECIPE = Recipe(epochs=3, batch=2, crop=64, square=96, warmup=2, validate_every=2, seed=5)


def frame(seed: int, targets: int = 1) -> LabelledFrame:
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:72, :88]
    pixels = 0.3 + 0.1 * np.sin(xs / 30 + seed) + 0.01 * rng.standard_normal(xs.shape)
    mask = np.zeros(xs.shape, bool)
    for _ in range(targets):
        spot = np.exp(-((xs - rng.uniform(15, 70)) ** 2 + (ys - rng.uniform(15, 55)) ** 2) / 5)
        pixels += 0.5 * spot
        mask |= spot > 0.4
    return LabelledFrame(np.clip(pixels, 0, 1).astype(np.float32), mask)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return TrainingData(
        train=tuple(frame(seed) for seed in range(6)),
        backgrounds=(frame(20, targets=0),),
        validation=tuple(frame(seed) for seed in range(30, 33)),
        validation_names=("a", "b", "c"),
        free_validation=(frame(40, targets=0),),
        description={"data": "made"},
        digest="made",
    )


class StopAt:
    """Sends this process a signal after some steps, as Ctrl-C would."""

    def __init__(self, step: int, kind: signal.Signals = signal.SIGINT) -> None:
        self.step, self.kind, self.seen = step, kind, 0

    def __call__(self, n: int = 1, **fields: object) -> None:
        self.seen += n
        if self.seen == self.step:
            os.kill(os.getpid(), self.kind)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path).module.state_dict()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("kind", "model", "share"),
    [
        (signal.SIGINT, "mlcl-edge", 0.4),
        (signal.SIGTERM, "alcnet", 0.0),  # has dropout
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    data: TrainingData, tmp_path: Path, kind: signal.Signals, model: str, share: float
) -> None:
    recipe = RECIPE.replace(model=model, mean_share=share)
    torch.manual_seed(3)
    initial = create_model(model)
    earlier = copy.deepcopy(initial) if share else None
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    complete = train(recipe, data, whole, initial=copy.deepcopy(initial), earlier=earlier)
    before = signal.getsignal(kind)
    stop = StopAt(4, kind)  # in the middle of the second epoch
    first = train(recipe, data, parts, initial=initial, earlier=earlier, advance=stop)
    assert complete.signal is None and first.signal == kind and first.epoch == 1
    assert signal.getsignal(kind) is before, "the signal's handler is put back"
    second = train(recipe, data, parts, resume=True)
    assert second.signal is None

    for name in ("last.pt", "best.pt"):
        for key, tensor in weights(whole / name).items():
            torch.testing.assert_close(weights(parts / name)[key], tensor, rtol=0, atol=0)
    raw = [load_checkpoint(folder / "last.pt")[1] for folder in (whole, parts)]
    assert raw[0] is not None and raw[1] is not None
    for key, tensor in raw[0]["raw"].items():
        torch.testing.assert_close(raw[1]["raw"][key], tensor, rtol=0, atol=0)
    keep = [name for name in COLUMNS if name != "seconds"]
    assert [[r[n] for n in keep] for r in rows(whole)] == [[r[n] for n in keep] for r in rows(parts)]


def test_run_leaves_what_it_promises(data: TrainingData, tmp_path: Path) -> None:
    initial = create_model("mlcl-edge")
    start = {key: value.clone() for key, value in initial.state_dict().items()}
    result = train(RECIPE, data, tmp_path, initial=initial)
    assert result.signal is None and result.epoch == 3
    assert [row["epoch"] for row in rows(tmp_path)] == ["0", "1", "2"]
    assert [bool(row["val_niou"]) for row in rows(tmp_path)] == [False, True, True], "every second epoch, and the last"
    assert rows(tmp_path)[1]["val_free"]
    assert list(tmp_path.glob("events.out.tfevents.*"))
    picture = cv2.imread(str(tmp_path / "predictions.png"))
    assert picture is not None and picture.shape[2] == 3
    info = load_model(result.best).info
    assert info.variant == "mlcl-edge" and info.training["recipe"]["seed"] == 5 and info.training["data"] == "made"
    changed = weights(result.last)
    assert any(not torch.equal(changed[key], value) for key, value in start.items())


def test_the_run_ends_with_the_mean_and_is_judged_by_it(data: TrainingData, tmp_path: Path) -> None:
    torch.manual_seed(4)
    initial, earlier = create_model("mlcl-edge"), create_model("mlcl-edge")
    plain, mean = tmp_path / "plain", tmp_path / "mean"
    plain.mkdir()
    mean.mkdir()
    recipe = RECIPE.replace(validate_every=9)
    train(recipe, data, plain, initial=copy.deepcopy(initial))
    train(recipe.replace(mean_share=0.25), data, mean, initial=initial, earlier=earlier)
    assert [row["train_loss"] for row in rows(plain)] == [row["train_loss"] for row in rows(mean)]
    alone, old = weights(plain / "last.pt"), earlier.state_dict()
    for name in ("last.pt", "best.pt"):
        for key, value in weights(mean / name).items():
            expected = torch.lerp(alone[key], old[key], 0.25) if value.is_floating_point() else alone[key]
            torch.testing.assert_close(value, expected)
    info = load_model(mean / "last.pt").info
    assert info.training["mean"] == weights_digest(earlier) and info.training["recipe"]["mean_share"] == 0.25


def test_batch_statistics_stay_where_they_are_fixed(data: TrainingData, tmp_path: Path) -> None:
    torch.manual_seed(3)
    initial = create_model("mlcl-edge")
    before = copy.deepcopy(initial.state_dict())
    statistics = {key for key in before if "running_" in key or key.endswith("num_batches_tracked")}
    for fixed in (True, False):
        folder = tmp_path / str(fixed)
        folder.mkdir()
        after = weights(train(RECIPE.replace(fixed_norm=fixed), data, folder, initial=copy.deepcopy(initial)).last)
        moved = {key for key, tensor in before.items() if not torch.equal(after[key], tensor)}
        assert moved.isdisjoint(statistics) if fixed else moved >= statistics
        assert any(key.endswith("weight") for key in moved)


def test_fixed_batch_statistics_are_those_of_weights(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name these with --ckpt"):
        train(RECIPE.replace(fixed_norm=True), data, tmp_path)
    assert not list(tmp_path.iterdir()), "nothing was trained"


def test_the_mean_needs_earlier_weights_of_the_same_network(data: TrainingData, tmp_path: Path) -> None:
    recipe = RECIPE.replace(epochs=1, mean_share=0.5)
    with pytest.raises(UsageError, match="name these with --mean"):
        train(recipe, data, tmp_path, initial=create_model("mlcl-edge"))
    with pytest.raises(UsageError, match="another network than mlcl-edge"):
        train(recipe, data, tmp_path, earlier=create_model("mlcl-small"))
    with pytest.raises(UsageError, match="leave --mean out"):
        train(RECIPE, data, tmp_path, earlier=create_model("mlcl-edge"))
    assert not list(tmp_path.iterdir()), "nothing was trained"


def test_a_run_of_a_version_with_other_recipes_is_not_resumed(data: TrainingData, tmp_path: Path) -> None:
    last = train(RECIPE.replace(epochs=1), data, tmp_path).last
    loaded, state = load_checkpoint(last)
    assert state is not None
    save_checkpoint(last, loaded.module, loaded.info, {**state, "recipe": {**state["recipe"], "magic": 1.0}})
    with pytest.raises(ModelError, match=r"another version of irdet.*have magic"):
        train(RECIPE.replace(epochs=2), data, tmp_path, resume=True)


def test_protocols_are_measured_and_recorded(data: TrainingData, tmp_path: Path) -> None:
    result = train(RECIPE.replace(epochs=2), data, tmp_path)
    before = weights(result.best)
    info = record_protocols(result.best, data, 96)
    assert set(info.metrics) == {"validation", "validation_96x96", "target_free"}
    assert info.metrics["validation"]["images"] == 3 and info.metrics["target_free"]["targets"] == 0
    assert load_model(result.best).info.metrics == info.metrics
    for key, tensor in before.items():
        assert torch.equal(weights(result.best)[key], tensor)


def test_learns_to_find_spots(data: TrainingData, tmp_path: Path) -> None:
    recipe = RECIPE.replace(epochs=50, batch=3, validate_every=50, paste=0.0, background_share=0.0, ema=0.9)
    result = train(recipe.replace(squared_share=0.0, learning_rate=4e-3), data, tmp_path)
    module = load_model(result.last).module
    overlap = union = 0
    for labelled in data.train:
        predicted = predict(module, labelled.pixels, torch.device("cpu")) >= 0.5
        overlap += int((predicted & labelled.mask).sum())
        union += int((predicted | labelled.mask).sum())
    assert overlap / union > 0.5


def test_other_recipe_or_data_is_refused(data: TrainingData, tmp_path: Path) -> None:
    train(RECIPE.replace(epochs=1), data, tmp_path)
    with pytest.raises(UsageError, match="learning_rate"):
        train(RECIPE.replace(epochs=1, learning_rate=1e-4), data, tmp_path, resume=True)
    import dataclasses

    with pytest.raises(UsageError, match="other data"):
        train(RECIPE.replace(epochs=1), dataclasses.replace(data, digest="other"), tmp_path, resume=True)


def test_resume_needs_a_state(data: TrainingData, tmp_path: Path) -> None:
    module = create_model("mlcl-edge")
    from irdet.core.info import ModelInfo

    save_checkpoint(tmp_path / "last.pt", module, ModelInfo("mlcl-edge"))
    with pytest.raises(ModelError, match="no state"):
        train(RECIPE, data, tmp_path, resume=True)
    with pytest.raises(ModelError, match="no such file"):
        train(RECIPE, data, tmp_path / "missing", resume=True)


def test_diverging_loss_stops_with_one_line(data: TrainingData, tmp_path: Path) -> None:
    module = create_model("mlcl-edge")
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="learning rate"):
        train(RECIPE, data, tmp_path, initial=module)


def test_stretching_is_the_papers_protocol() -> None:
    labelled = frame(1)
    large = stretch(labelled, 96)
    assert large.pixels.shape == large.mask.shape == (96, 96)
    np.testing.assert_array_equal(
        large.mask, cv2.resize(labelled.mask.astype(np.float32), (96, 96), interpolation=cv2.INTER_LINEAR) >= 0.5
    )


class Bright(Network):
    """Takes whatever is bright for a target."""

    stride = 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 40 * (x - 0.55)


def test_mining_finds_what_is_taken_for_a_target() -> None:
    dark, spots, many = (np.full((50, 80), 0.2, np.float32) for _ in range(3))
    spots[10, 20], spots[30:32, 50], spots[40, 70] = 0.9, (0.7, 0.8), 1.0
    many[2::5, 2::5] = 0.8
    empty = np.zeros(dark.shape, bool)
    target = empty.copy()
    target[40, 68] = True  # a true one, and what is bright at its rim is part of it
    frames = [LabelledFrame(dark, empty), LabelledFrame(spots, target), LabelledFrame(many, empty)]
    found = mine(Bright(), frames, torch.device("cpu"))
    assert [place for place in found if place[0] < 2] == [(1, 20 / 80, 10 / 50), (1, 50 / 80, 31 / 50)], "highest first"
    assert sum(place[0] == 2 for place in found) == MINED_PER_FRAME


def test_a_run_on_everything_keeps_its_last_weights(data: TrainingData, tmp_path: Path) -> None:
    whole = dataclasses.replace(data, validation=(), validation_names=(), free_validation=())
    result = train(RECIPE.replace(fold=0), whole, tmp_path)
    assert result.signal is None and math.isnan(result.niou)
    assert not record_protocols(result.best, whole, 96).metrics
    for key, tensor in weights(result.last).items():
        torch.testing.assert_close(weights(result.best)[key], tensor, rtol=0, atol=0)
