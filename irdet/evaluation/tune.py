"""Chooses the threshold of a model for a false-alarm budget, and writes it into a copy of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from irdet.core.errors import DataError, IrdetError, ModelError, UsageError
from irdet.core.extras import require
from irdet.core.files import replacing
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.engines.external import check_external
from irdet.engines.golden import golden_path, read_golden, write_golden
from irdet.metrics.curves import Curves


def choose_threshold(curves: Curves, max_fa: float | None = None) -> int:
    """Finds the threshold with the highest Pd whose Fa stays within a budget, or the one with the highest IoU.

    Below the threshold of the best IoU the budget must hold all the way up to it (`Curves.fa_bound`): where a whole
    frame has grown into one component that happens to lie on a target, Fa is 0 and worth nothing.
    Where several are equal, the one with the higher IoU is taken, then the lower Fa, then the one nearest to 0.5.

    Args:
        curves: The curves over the candidates.
        max_fa: Budget for Fa, in 1e-6; None to look for the highest IoU alone.

    Returns:
        Index into the curves' thresholds.

    Raises:
        DataError: The data holds no target.
        IrdetError: No threshold stays within the budget and still finds a target.
    """
    if not curves.targets:
        raise DataError("the data holds no targets, so no threshold can be chosen on it")
    useful = curves.matched > 0
    if not useful.any():
        raise IrdetError("the model finds none of the targets at any threshold: there is nothing to choose")
    inside = useful if max_fa is None else useful & (curves.fa_bound <= max_fa)
    if not inside.any():
        lowest = int(np.argmin(np.where(useful, curves.fa_bound, np.inf)))
        raise IrdetError(
            f"no threshold keeps Fa within {max_fa:g}e-6 and still finds a target: the lowest Fa is "
            f"{curves.fa_bound[lowest]:.4g}e-6 at threshold {curves.thresholds[lowest]:g} (Pd {curves.pd[lowest]:.3f})"
        )
    aim = curves.iou if max_fa is None else curves.pd
    centre = np.abs(curves.thresholds - 0.5)
    # The last key counts first.
    order = np.lexsort((centre, curves.fa_bound, -curves.iou, -np.where(inside, aim, -1.0)))
    return int(order[0])


def write_threshold(model: Path, output: Path, threshold: float) -> None:
    """Writes a copy of a model with another threshold in its record. The weights stay as they are.

    Args:
        model: An `.onnx` file with irdet's record, or a checkpoint (`.pt`, `.pth`).
        output: The copy; same suffix.
        threshold: The threshold.

    Raises:
        UsageError: The suffixes differ, or models of this kind carry no record.
        ModelError: The file carries no record of irdet's.
        MissingDependency: The onnx package, or torch for a checkpoint, is not installed.
    """
    check_copy(model, output)
    if model.suffix.lower() == ".onnx":
        import onnx

        check_external(model)
        graph = onnx.load(str(model))
        properties = {entry.key: entry.value for entry in graph.metadata_props}
        if METADATA_KEY not in properties:
            raise ModelError(
                f"{model} carries no record of irdet's to hold a threshold: give --threshold where it is used"
            )
        record = ModelInfo.from_json(properties[METADATA_KEY]).replace(threshold=threshold)
        onnx.helper.set_model_props(graph, {**properties, METADATA_KEY: record.to_json()})
        with replacing(output) as temporary:
            onnx.save(graph, str(temporary))
        # The weights are the same, so what they give on the golden frames is, too; other targets follow from it.
        if (golden := golden_path(model)).exists():
            write_golden(golden_path(output), replace(read_golden(golden), threshold=threshold))
        return
    from irdet.models.checkpoints import load_checkpoint, save_checkpoint

    loaded, state = load_checkpoint(model)
    save_checkpoint(output, loaded.module, loaded.info.replace(threshold=threshold), state)


def check_copy(model: Path, output: Path) -> None:
    """Refuses before anything is measured what could not be written afterwards.

    Raises:
        UsageError: Models of this kind carry no threshold, or the copy is not named like it.
        MissingDependency: The onnx package, or torch for a checkpoint, is not installed.
    """
    if model.suffix.lower() not in (".onnx", ".pt", ".pth"):
        raise UsageError(f"{model}: a threshold can be written into .onnx and .pt files")
    if output.suffix.lower() != model.suffix.lower():
        raise UsageError(f"{output}: the copy of {model.name} must end in {model.suffix}")
    if model.suffix.lower() == ".onnx":
        require("onnx", "export", "writing a threshold into an ONNX model")
    else:
        require("torch", "train", "writing a checkpoint")
