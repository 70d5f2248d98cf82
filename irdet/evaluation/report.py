"""Files of an evaluation: figures, counts per image, curves, and a sheet of the images that went worst."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.extras import require
from irdet.core.files import replacing, write_text
from irdet.core.images import printable, write_png
from irdet.core.jsonable import jsonable
from irdet.core.threshold import AdaptiveThreshold
from irdet.evaluation.evaluate import Case, Evaluation
from irdet.metrics.accumulator import ImageResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Outlines on the sheet, BGR.
TRUTH, PREDICTION = (90, 230, 90), (70, 70, 255)

#: Size of a picture on the sheet, and of the cut around an error in it, px.
TILE_WIDTH, TILE_HEIGHT, CUT = 400, 300, 42

_CAPTION, _GAP, _COLUMNS = 26, 6, 2
_INK, _PAPER = (235, 235, 235), 28


def save_figures(folder: Path, evaluation: Evaluation, figures: Mapping[str, Any]) -> list[Path]:
    """Writes `metrics.json`, `per_image.csv` and `worst.png` into a folder.

    Args:
        folder: The folder.
        evaluation: What was measured.
        figures: What `metrics.json` holds beside the curves.

    Returns:
        The files.
    """
    record = jsonable({**figures, "curves": evaluation.curves.to_dict()})
    write_text(folder / "metrics.json", json.dumps(record, indent=1) + "\n")
    write_text(folder / "per_image.csv", _per_image(evaluation.metrics.per_image))
    write_png(folder / "worst.png", worst_sheet(evaluation.worst))
    return [folder / "metrics.json", folder / "per_image.csv", folder / "worst.png"]


def save_curves(path: Path, evaluation: Evaluation) -> Path:
    """Draws Pd over Fa, precision over recall, and IoU over the threshold; the threshold in use is marked.

    Of data without targets, where these say nothing, the false targets per frame and Fa over the threshold.

    Returns:
        The file.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    require("matplotlib", "plot", "drawing curves")
    from matplotlib.figure import Figure

    metrics = evaluation.metrics
    size = "native size" if evaluation.resize is None else "{}x{}".format(*evaluation.resize)
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    figure.suptitle(
        f"{evaluation.model} on {evaluation.data}: {metrics.images} images, {metrics.targets} targets, {size}, "
        f"distance {metrics.distance:g} px"
    )
    (_draw_curves if metrics.targets else _draw_false_alarms)(figure, evaluation)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _draw_curves(figure: Figure, evaluation: Evaluation) -> None:
    curves, metrics = evaluation.curves, evaluation.metrics
    alarms, precision, overlap = figure.subplots(1, 3)
    mark = {"color": "tab:red", "marker": "o", "linestyle": "none", "label": f"threshold {metrics.threshold:g}"}

    # No false pixel at all has no place on a logarithmic axis: it is drawn at half a pixel in all.
    floor = 0.5e6 / curves.pixels
    alarms.plot(np.maximum(curves.fa, floor), curves.pd, marker=".", markersize=3)
    alarms.plot([max(metrics.fa, floor)], [metrics.pd], **mark)
    alarms.axvline(floor, color="0.6", linestyle=":", label="no false pixel")
    alarms.set(xscale="log", xlabel="Fa [1e-6]", ylabel="Pd", title="detection over false alarms")

    precision.plot(curves.recall, curves.precision, marker=".", markersize=3)
    precision.plot([metrics.recall], [metrics.precision], **mark)
    precision.set(xlabel="recall (pixels)", ylabel="precision (pixels)", xlim=(0, 1.02))
    precision.set_title(f"precision over recall, area {curves.average_precision:.3f}")

    overlap.plot(curves.thresholds, curves.iou, label="IoU")
    overlap.plot(curves.thresholds, curves.niou, label="nIoU")
    if not isinstance(metrics.threshold, AdaptiveThreshold):
        overlap.axvline(metrics.threshold, color="tab:red", label=f"threshold {metrics.threshold:g}")
    overlap.set(xlabel="threshold", ylabel="IoU, nIoU", title="overlap over threshold", xlim=(0, 1))
    for axes in (alarms, precision, overlap):
        axes.set_ylim(0, 1.02)


def _draw_false_alarms(figure: Figure, evaluation: Evaluation) -> None:
    curves, metrics = evaluation.curves, evaluation.metrics
    frames, pixels = figure.subplots(1, 2)
    frames.plot(curves.thresholds, curves.false_targets / curves.images)
    frames.set(ylabel="false targets per frame", title="false targets over threshold")
    pixels.plot(curves.thresholds, curves.fa)
    pixels.set(ylabel="Fa [1e-6]", title="false-alarm rate over threshold")
    for axes, one in ((frames, 1 / curves.images), (pixels, 1e6 / curves.pixels)):
        # Linear from none to one, logarithmic above.
        axes.set_yscale("symlog", linthresh=one)
        axes.set(xlabel="threshold", xlim=(0, 1))
        axes.set_ylim(bottom=0)
        if not isinstance(metrics.threshold, AdaptiveThreshold):
            axes.axvline(metrics.threshold, color="tab:red", label=f"threshold {metrics.threshold:g}")


def worst_sheet(cases: Sequence[Case]) -> NDArray[np.uint8]:
    """Draws images, each whole and as an enlarged cut around its worst part, outlined: truth green, prediction red.

    Args:
        cases: At least one.

    Returns:
        BGR uint8 [H, W, 3].
    """
    cells = [_cell(case) for case in cases]
    blank = np.full_like(cells[0], _PAPER)
    columns = min(_COLUMNS, len(cells))
    cells += [blank] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    header = np.full((_CAPTION, rows[0].shape[1], 3), _PAPER, np.uint8)
    _write(header, "truth", 8, TRUTH)
    _write(header, "prediction", 70, PREDICTION)
    _write(header, "worst first; beside each image its worst part", 180)
    return np.vstack([header, *rows])


def _cell(case: Case) -> NDArray[np.uint8]:
    result = case.result
    tiles = [_outlined(case, (0, 0, *case.truth.shape[::-1])), _outlined(case, _worst_part(case))]
    caption = np.full((_CAPTION, 2 * TILE_WIDTH + _GAP, 3), _PAPER, np.uint8)
    iou = "no target" if not case.truth.any() else f"IoU {result.iou:.3f}"
    text = f"{_shortened(result.name)}  {iou}  missed {result.missed}  false {result.false}"
    _write(caption, f"{text}  {case.truth.shape[1]}x{case.truth.shape[0]}", 4)
    gap = np.full((TILE_HEIGHT, _GAP, 3), _PAPER, np.uint8)
    cell = np.vstack([np.hstack([tiles[0], gap, tiles[1]]), caption])
    return cv2.copyMakeBorder(cell, _GAP, 0, _GAP, _GAP, cv2.BORDER_CONSTANT, value=(_PAPER,) * 3)


def _worst_part(case: Case) -> tuple[int, int, int, int]:
    """Returns left, top, width and height of a cut around the component with the most wrong pixels."""
    height, width = case.truth.shape
    wrong = case.truth ^ case.predicted
    either = (case.truth | case.predicted).view(np.uint8)
    count, labels, _, centroids = cv2.connectedComponentsWithStats(either, connectivity=8)
    errors = np.bincount(labels[wrong], minlength=count)
    x, y = centroids[int(np.argmax(errors))] if wrong.any() else (width / 2, height / 2)
    cut_width, cut_height = min(width, CUT * TILE_WIDTH // TILE_HEIGHT), min(height, CUT)
    left = min(max(0, round(x - cut_width / 2)), width - cut_width)
    top = min(max(0, round(y - cut_height / 2)), height - cut_height)
    return left, top, cut_width, cut_height


def _outlined(case: Case, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Cuts a box out, scales it to fit a tile, and outlines the masks on the pixels' edges."""
    left, top, width, height = box
    window = (slice(top, top + height), slice(left, left + width))
    scale = min(TILE_WIDTH / width, TILE_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Stretched for the eye: in many infrared frames the target is a few counts above a narrow background.
    values = case.pixels[window]
    low, high = float(values.min()), float(values.max())
    grey = ((values - low) * (255.0 / max(high - low, 1e-6))).astype(np.uint8)
    tile = cv2.cvtColor(cv2.resize(grey, size, interpolation=cv2.INTER_NEAREST), cv2.COLOR_GRAY2BGR)
    # Truth is outlined a little further out: it hides neither the target nor a prediction with the same edge.
    for mask, colour, away in ((case.truth, TRUTH, 3), (case.predicted, PREDICTION, 0)):
        large = cv2.resize(mask[window].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        large = cv2.dilate(large, np.ones((2 * away + 1, 2 * away + 1), np.uint8))
        outlines, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, outlines, -1, colour, 1)
    below, beside = TILE_HEIGHT - size[1], TILE_WIDTH - size[0]
    return cv2.copyMakeBorder(
        tile, below // 2, below - below // 2, beside // 2, beside - beside // 2, cv2.BORDER_CONSTANT
    )


def _write(picture: NDArray[np.uint8], text: str, x: int, colour: tuple[int, int, int] = _INK) -> None:
    cv2.putText(picture, text, (x, _CAPTION - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)


def _shortened(name: str, limit: int = 40) -> str:
    # OpenCV's font has ASCII alone.
    name = name.encode("ascii", "replace").decode()
    return name if len(name) <= limit else f"...{name[3 - limit :]}"


def _per_image(results: Sequence[ImageResult]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(ImageResult)], lineterminator="\n")
    writer.writeheader()
    rows: list[dict[str, Any]] = [dataclasses.asdict(result) for result in results]
    writer.writerows({**row, "name": printable(row["name"]), "iou": f"{row['iou']:.6f}"} for row in rows)
    return text.getvalue()
