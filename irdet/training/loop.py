"""The training loop, from top to bottom."""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from irdet.core.errors import ModelError, UsageError
from irdet.core.info import ModelInfo
from irdet.data.crops import CropSampler, LabelledFrame, Mined
from irdet.metrics.accumulator import MetricsResult
from irdet.models import create_model, load_checkpoint, save_checkpoint
from irdet.models.checkpoints import weights_digest
from irdet.models.mlcl import Network
from irdet.training.dataset import TrainingData, stretch
from irdet.training.device import half_type
from irdet.training.logs import RunLog
from irdet.training.losses import detection_loss
from irdet.training.recipe import Recipe
from irdet.training.schedule import Average, rate_at
from irdet.training.validation import draw_predictions, mine, validate

#: Columns of the log. Validation columns are empty in epochs without one.
COLUMNS = (
    "epoch",
    "step",
    "train_loss",
    "rate",
    "val_iou",
    "val_niou",
    "val_pd",
    "val_fa",
    "val_free",
    "mined",
    "seconds",
)

#: The figures that the model's record keeps of a validation.
RECORDED = ("iou", "niou", "pd", "fa", "precision", "recall", "f1", "images", "targets", "false_per_frame")


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        best: Checkpoint of the best validation nIoU; the last one where nothing is held out.
        last: Checkpoint to resume from.
        signal: Number of the signal that interrupted it; None where it is finished.
        epoch: Epochs done.
        niou: The best validation nIoU; NaN before the first validation.
    """

    best: Path
    last: Path
    signal: int | None
    epoch: int
    niou: float


def train(
    recipe: Recipe,
    data: TrainingData,
    folder: Path,
    *,
    device: str = "cpu",
    initial: Network | None = None,
    earlier: Network | None = None,
    resume: bool = False,
    advance: Callable[..., object] = lambda n=1, **fields: None,
) -> TrainingResult:
    """Trains a network and leaves `best.pt`, `last.pt`, `log.csv`, TensorBoard events and `predictions.png`.

    On one machine with the same number of threads, a run that was interrupted and resumed ends with the very weights
    of a run that was not: the crops and the dropout of a step depend on its number alone, and `last.pt` holds all that
    changes.

    Args:
        recipe: What to do.
        data: What to do it with.
        folder: Where the files go.
        device: `"cpu"` or `"cuda"`; mixed precision where `irdet.training.device.half_type` names one.
        initial: Weights to start from (fine-tuning); fresh ones where None.
        earlier: Where the recipe has a `mean_share`: weights that `initial` descends from or is, or that come of it as
            well; strangers have no mean. They have that share in those that the run ends with. A resumed run has them
            in `last.pt`.
        resume: Go on from `last.pt` in the folder.
        advance: Called for every step with `epoch`, `loss` and `niou`; for all steps done when resuming.

    Returns:
        Where the checkpoints are, and whether the run came to its end.

    Raises:
        UsageError: The folder's run is of another recipe or other data; the recipe has a `mean_share` and `earlier`
            is missing or another network, or it has none and `earlier` is given; it has `fixed_norm`, and `initial` is
            missing.
        ModelError: The checkpoint to resume from cannot be used.
    """
    where = torch.device(device)
    half = half_type(where)
    precision = str(half or torch.float32).removeprefix("torch.")
    if not resume:
        check_start(recipe, initial, earlier)
    torch.manual_seed(recipe.seed)
    module = initial if initial is not None else create_model(recipe.model)
    module = module.to(where, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if recipe.fixed_norm:
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
    average = Average(module, recipe.ema)
    origin = weights_digest(initial) if initial is not None else None
    past = copy.deepcopy(earlier.state_dict()) if earlier is not None else None  # `initial` may be the same object
    meant = weights_digest(earlier) if earlier is not None else None
    optimizer = torch.optim.AdamW(_groups(module, recipe.weight_decay), lr=recipe.learning_rate)
    scaler = torch.amp.GradScaler(enabled=where.type == "cuda")
    sampler = CropSampler(data.train, data.backgrounds, recipe, data.local)
    per_epoch = math.ceil(len(data.train) / recipe.batch)
    total = per_epoch * recipe.epochs
    last, best = folder / "last.pt", folder / "best.pt"
    step, top, loss_sum, spent = 0, math.nan, 0.0, 0.0
    mined: Mined = ()

    if resume:
        state = _resumable(last, recipe, data)
        module.load_state_dict(state["raw"])
        average.module.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # of a run on the CPU there is none
            scaler.load_state_dict(state["scaler"])
        step, top, loss_sum, spent = state["step"], state["best"], state["loss"], state["seconds"]
        mined, origin = state["mined"], state["origin"]
        past, meant = state.get("past"), state.get("mean")  # runs of older versions have neither
        advance(step)
    begun = time.monotonic() - spent

    def keep(path: Path, measured: MetricsResult | None) -> None:
        info = ModelInfo(
            variant=recipe.model,
            training={
                **data.description,
                "recipe": recipe.to_dict(),
                "step": step,
                "device": where.type,
                "precision": precision,
                "initial": origin,
                "mean": meant,
            },
            metrics={"validation": _record(measured, "native")} if measured is not None else {},
        )
        state = {
            "raw": module.state_dict(),
            "average": average.module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "step": step,
            "best": top,
            "loss": loss_sum,
            "mined": mined,
            "origin": origin,
            "past": past,
            "mean": meant,
            "seconds": time.monotonic() - begun,
            "recipe": recipe.to_dict(),
            "digest": data.digest,
        }
        save_checkpoint(path, average.module, info, state if path == last else None)

    with (
        RunLog(folder, COLUMNS, step // per_epoch) as log,
        ThreadPoolExecutor(1) as loader,
        _interruptible() as interrupted,
    ):
        upcoming = loader.submit(sampler.batch, step, mined)
        while step < total and interrupted() is None:
            images, masks = (torch.from_numpy(array).to(where) for array in upcoming.result())
            upcoming = loader.submit(sampler.batch, step + 1, mined)
            rate = recipe.learning_rate * rate_at(step, total, recipe.warmup, recipe.final_share)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(recipe.seed + step)  # what dropout leaves out depends on the step alone, too
            with torch.autocast(where.type, half, enabled=half is not None):
                logits = module(images.contiguous(memory_format=torch.channels_last))
            loss = detection_loss(logits, masks, recipe)
            if not torch.isfinite(loss):
                intact = f"; {last} is intact" if last.exists() else ""
                raise ModelError(f"the loss is {loss.item()} at step {step}: lower the learning rate{intact}")
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
            scaler.step(optimizer)
            scaler.update()
            average.update(module, step)
            loss_sum += loss.item()
            step += 1
            epoch, rest = divmod(step, per_epoch)
            advance(epoch=f"{epoch}/{recipe.epochs}", loss=loss.item(), niou=top)
            if rest:
                continue

            row: dict[str, Any] = {
                "epoch": epoch - 1,
                "step": step,
                "train_loss": loss_sum / per_epoch,
                "rate": rate,
                "seconds": time.monotonic() - begun,
            }
            loss_sum = 0.0
            if past is not None and step == total:
                average.mean_with(past, recipe.mean_share)
            if epoch % recipe.validate_every == 0 or step == total:
                network = average.module
                mined = mine(network, _forms(data, recipe, step), where)
                row["mined"] = len(mined)
                upcoming = loader.submit(sampler.batch, step, mined)  # as a resumed run would draw it
                measured = validate(network, data.validation, where) if data.validation else None
                if measured is not None:
                    row |= {f"val_{name}": getattr(measured, name) for name in ("iou", "niou", "pd", "fa")}
                if data.free_validation:
                    row["val_free"] = validate(network, data.free_validation, where).false_per_frame
                if measured is None or not measured.niou <= top:
                    top = math.nan if measured is None else measured.niou
                    keep(best, measured)
                    draw_predictions(network, data.validation or data.train, where, folder / "predictions.png")
            log.write(row)
            keep(last, None)

        upcoming.cancel()
        if step < total:
            keep(last, None)
    return TrainingResult(best, last, None if step >= total else interrupted(), step // per_epoch, top)


def check_start(recipe: Recipe, initial: Network | None, earlier: Network | None) -> None:
    """Checks that a run has the weights that its recipe starts from and takes the mean with, before its data are read.

    Args:
        recipe: The recipe.
        initial: The weights to start from; None where none are given.
        earlier: The weights given for the mean; None where none are.

    Raises:
        UsageError: They are missing, not wanted, or of another network.
    """
    if recipe.fixed_norm and initial is None:
        raise UsageError(
            f"recipe {recipe.name} keeps the batch statistics of the weights it starts from: name these with --ckpt"
        )
    if not recipe.mean_share:
        if earlier is not None:
            raise UsageError(f"recipe {recipe.name} has no mean_share: leave --mean out")
        return
    if earlier is None:
        raise UsageError(
            f"recipe {recipe.name} ends with the mean of its weights and earlier ones: name these with --mean"
        )
    wanted = {key: tensor.shape for key, tensor in create_model(recipe.model).state_dict().items()}
    if {key: tensor.shape for key, tensor in earlier.state_dict().items()} != wanted:
        raise UsageError(
            f"--mean names weights of another network than {recipe.model}, which recipe {recipe.name} trains"
        )


def stored_recipe(last: Path) -> Recipe:
    """Returns the recipe of a run, from the checkpoint that it is resumed from.

    Raises:
        ModelError: No such checkpoint, one without the state of a run, or of a recipe that this version cannot follow.
    """
    values = dict(_state(last)["recipe"])
    if unknown := sorted(values.keys() - Recipe().to_dict().keys()):
        raise ModelError(
            f"{last} is of another version of irdet, whose recipes have {', '.join(unknown)}: resume with that"
        )
    return Recipe(**{**values, "jitter": tuple(values["jitter"])})


def record_protocols(best: Path, data: TrainingData, square: int) -> ModelInfo:
    """Measures a checkpoint on the validation part at native size, by the papers' protocol, and on target-free frames.

    The figures are written into the checkpoint's record.

    Args:
        best: Checkpoint to measure and rewrite.
        data: The run's data.
        square: Side of the papers' protocol, px.

    Returns:
        The record as written.
    """
    loaded, _ = load_checkpoint(best)
    cpu = torch.device("cpu")
    metrics: dict[str, Any] = {}
    if data.validation:
        stretched = [stretch(frame, square) for frame in data.validation]
        metrics["validation"] = _record(validate(loaded.module, data.validation, cpu), "native")
        metrics[f"validation_{square}x{square}"] = _record(
            validate(loaded.module, stretched, cpu), f"{square}x{square}"
        )
    if data.free_validation:
        metrics["target_free"] = _record(validate(loaded.module, data.free_validation, cpu), "native")
    return save_checkpoint(best, loaded.module, loaded.info.replace(metrics=metrics))


def _forms(data: TrainingData, recipe: Recipe, step: int) -> Iterator[LabelledFrame]:
    """The frames to look for false alarms in: each at native size or stretched, as crops of no whole frame are."""
    rng = np.random.default_rng([recipe.seed, step, 2])
    for frame in (*data.backgrounds, *data.train):
        yield stretch(frame, recipe.square) if rng.random() < recipe.squared_share else frame


def _groups(module: Network, decay: float) -> list[dict[str, Any]]:
    """Weight decay is for convolutions; on biases and batch normalisation it only biases them."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    free = [p for p in module.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": decay}, {"params": free, "weight_decay": 0.0}]


def _state(last: Path) -> dict[str, Any]:
    _, state = load_checkpoint(last)
    if state is None:
        raise ModelError(f"{last} holds weights but no state of a run, so it cannot be resumed; fine-tune with --ckpt")
    return state


def _resumable(last: Path, recipe: Recipe, data: TrainingData) -> dict[str, Any]:
    state = _state(last)
    if state["digest"] != data.digest:
        raise UsageError(f"{last} was trained on other data: give the same --data and --backgrounds to resume")
    theirs = stored_recipe(last).to_dict()
    if differing := sorted(key for key, value in recipe.to_dict().items() if value != theirs[key]):
        raise UsageError(f"{last} was trained by another recipe (differs in {', '.join(differing)})")
    return state


def _record(measured: MetricsResult, size: str) -> dict[str, Any]:
    """Returns the figures as they stand in a model's record."""
    values = measured.to_dict()
    return {"size": size, "threshold": measured.threshold, **{name: values[name] for name in RECORDED}}


@contextmanager
def _interruptible() -> Iterator[Callable[[], int | None]]:
    """Turns Ctrl-C and SIGTERM into a question that the loop asks between steps, so that no step is half done."""
    came: list[int] = []

    def first() -> int | None:
        return came[0] if came else None

    if threading.current_thread() is not threading.main_thread():
        yield first
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, _: came.append(number)) for kind in kinds]
    try:
        yield first
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
