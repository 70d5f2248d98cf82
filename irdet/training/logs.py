"""The log of a run: a CSV that anything reads, and TensorBoard events."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from irdet.core.extras import require
from irdet.core.files import write_text


class RunLog:
    """Writes one row per epoch to `log.csv` and to TensorBoard, each flushed at once.

    Args:
        folder: The run's folder.
        columns: The row's names; the first one is `epoch`.
        first: First epoch that will be written. Rows from it on, left by a run that went further than the checkpoint
            it is resumed from, are dropped.
    """

    def __init__(self, folder: Path, columns: tuple[str, ...], first: int) -> None:
        self.path = folder / "log.csv"
        self._columns = columns
        kept = []
        if first > 0 and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if (row.get("epoch") or "").isdigit()]
            kept = [row for row in kept if int(row["epoch"]) < first]
        lines = [",".join(columns)] + [",".join(row.get(name) or "" for name in columns) for row in kept]
        write_text(self.path, "\n".join(lines) + "\n")
        tensorboard = require("torch.utils.tensorboard", "train", "the TensorBoard log")
        self._events = tensorboard.SummaryWriter(str(folder), purge_step=first)

    def write(self, row: Mapping[str, float | int | None]) -> None:
        """Appends an epoch."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(
                ["" if row.get(name) is None else f"{row[name]:.6g}" for name in self._columns]
            )
        for name in self._columns[1:]:
            if (value := row.get(name)) is not None:
                self._events.add_scalar(name.replace("_", "/", 1), value, int(row["epoch"] or 0))
        self._events.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()
