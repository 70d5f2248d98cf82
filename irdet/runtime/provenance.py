"""What decides which targets a run finds and what it writes of them, kept beside its results."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irdet.core.errors import IrdetError, UsageError
from irdet.core.files import write_text

#: Name of the record in a run's folder.
NAME = "run.json"

#: What may change in the middle of a run: where things lie, and what runs the same network.
_FREE = ("irdet", "runtime", "source", "ignore", "nuc", "started")


@dataclass(frozen=True)
class Provenance:
    """The model and the options of a run, as JSON values.

    Attributes:
        irdet: Version of irdet.
        source: What was searched, without passwords.
        source_sha256: SHA-256 of the first bytes of that, or of the first image of a folder or a glob: its name may be
            that of another clip. None for what is no file.
        model: Variant of the model.
        weights_sha256: SHA-256 over its weights, or over its file where that holds no record; "" for a method.
        precision: Of the model.
        runtime: What ran it.
        threshold: A number, or the rule that gives one for each frame.
        min_area: Smaller targets are dropped, px.
        max_area: Larger targets are dropped, px; None for no limit.
        connectivity: 4 or 8.
        ignore: Mask of places where targets are not wanted.
        ignore_sha256: SHA-256 of that file.
        polarity: `"white-hot"` or `"black-hot"`.
        resize: `[width, height]` for the model, px; None for the frames' own.
        views: Ways round in which each frame is looked at.
        range: Counts that become black and white; None for those of the data.
        normalise: `"range"` or `"local"`.
        nuc: Correction of the camera's pixels.
        nuc_sha256: SHA-256 of that file.
        start: Number of the first frame.
        stride: Every so many frames one is searched.
        frame_rate: Frames per second, in place of what the source tells.
        raw: How frames without a header lie; None where the source has headers.
        pictures: Whether the annotated video, or pictures of images, are written.
        masks: Whether a mask for each frame is.
        started: When its first frame was there, UTC (ISO 8601): a live source's `time` counts from then. "" before.
    """

    irdet: str
    source: str
    source_sha256: str | None
    model: str
    weights_sha256: str
    precision: str
    runtime: str
    threshold: float | str
    min_area: int
    max_area: int | None
    connectivity: int
    ignore: str | None
    ignore_sha256: str | None
    polarity: str
    resize: list[int] | None
    views: int
    range: list[float] | None
    normalise: str
    nuc: str | None
    nuc_sha256: str | None
    start: int
    stride: int
    frame_rate: float | None
    raw: str | None
    pictures: bool
    masks: bool
    started: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return dataclasses.asdict(self)

    def write(self, folder: Path) -> None:
        """Writes the record into a run's folder.

        Raises:
            IrdetError: It cannot be written.
        """
        write_text(folder / NAME, json.dumps(self.to_dict(), indent=2) + "\n")

    def check(self, folder: Path) -> None:
        """Refuses to go on with a run that had another model or other options. Without a record all is taken.

        Raises:
            UsageError: Something differs; says what.
            IrdetError: The record cannot be read.
        """
        path = folder / NAME
        if not path.exists():
            return
        try:
            theirs = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise IrdetError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, RecursionError):
            theirs = None
        if not isinstance(theirs, dict):
            raise IrdetError(f"{path} is no record of a run; take it away to go on without a comparison")
        for name, mine in self.to_dict().items():
            if name not in _FREE and name in theirs and theirs[name] != mine:
                if name == "source_sha256":
                    raise UsageError(
                        f"--resume {folder}: {self.source} is not the {theirs.get('source')} of that run: "
                        "give the source of that run"
                    )
                raise UsageError(
                    f"--resume {folder}: {name} was {json.dumps(theirs[name])} in that run and is {json.dumps(mine)} "
                    "here: give the model and the options of that run, as they were"
                )
