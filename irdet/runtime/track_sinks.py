"""Where tracks go: JSON lines, CSV, and the text of the MOT challenge. See `irdet.runtime.sinks`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from irdet.core.jsonable import jsonable
from irdet.runtime.detector import Detection
from irdet.runtime.sinks import TextFile, seconds
from irdet.tracking import Track

_COLUMNS = (
    *("frame", "time", "source", "id", "state", "x", "y", "vx", "vy"),
    *("place_variance", "place_velocity_covariance", "velocity_variance", "age", "hits", "misses", "scr", "mean_scr"),
)


class TrackLinesSink:
    """One line of strict JSON a frame: `frame`, `time` (s or null), `source`, `tracks`. See `Sink`.

    Of each track that lives: `id`, `state`, `x`, `y` (px), `vx`, `vy` (px/frame), `covariance` of these four, `age`,
    `hits`, `misses` (frames), `bbox` of its last target, `target` (its place in the frame's list in targets.jsonl, null
    where it got none), and `scr`, the SCR in its last frames, oldest first, null where it got none.

    Args:
        path: The file to write.
    """

    wants_picture: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._out = TextFile(path)

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None = None) -> None:
        """Appends the frame's line."""
        frame = detection.frame
        numbers = {id(target): index for index, target in enumerate(detection.targets)}
        record = {
            "frame": frame.index,
            "time": seconds(frame.time),
            "source": frame.source,
            "tracks": [_record(track, numbers.get(id(track.target))) for track in detection.tracks or ()],
        }
        self._out.append(json.dumps(record, allow_nan=False) + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._out.close()


class TrackCsvSink:
    """One row for each track that lives in a frame, under a header; frames without tracks have none. See `Sink`.

    Place and velocity have the same variances along both axes. `scr` is that of the frame, empty where the track got
    no target; `mean_scr` that of its last frames.

    Args:
        path: The file to write.
    """

    wants_picture: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._out = TextFile(path)
        self._rows = csv.writer(self._out, lineterminator="\n")
        self._headed = False

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None = None) -> None:
        """Appends a row for each track."""
        if not self._headed:
            self._rows.writerow(_COLUMNS)
            self._headed = True
        frame = detection.frame
        for track in detection.tracks or ():
            moving = (round(value, 3) for value in (track.x, track.y, track.vx, track.vy))
            spread = (round(value, 5) for value in track.variance)
            scr = "" if track.misses else round(track.target.scr, 3)
            seen = track.scr[~np.isnan(track.scr)]
            self._rows.writerow(
                (
                    *(frame.index, seconds(frame.time), frame.source, track.id, track.state, *moving, *spread),
                    *(track.age, track.hits, track.misses, scr, round(float(seen.mean()), 3) if seen.size else ""),
                )
            )
        self._out.flush()

    def close(self) -> None:
        """Closes the file."""
        self._out.close()


class MotSink:
    """Confirmed tracks in the text of the MOT challenge, for other tools. See `Sink`.

    `frame,id,left,top,width,height,score,-1,-1,-1` a line; frames and pixels count from 1, as they do there. The box is
    that of the track's last target, around its estimated place; coasted tracks are in it.

    Args:
        path: The file to write.
    """

    wants_picture: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._out = TextFile(path)

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None = None) -> None:
        """Appends a line for each confirmed track."""
        self._out.write("")  # a file without tracks is there, and empty
        for track in detection.tracks or ():
            if track.confirmed:
                _, _, width, height = track.target.bbox
                # Pixel centres lie at whole numbers: a box of 3 px around 10 begins at 9, which is 10 counted from 1.
                left, top = track.x - (width - 1) / 2 + 1, track.y - (height - 1) / 2 + 1
                self._out.write(
                    f"{detection.frame.index + 1},{track.id},{left:.2f},{top:.2f},{width},{height},"
                    f"{track.target.score:.4f},-1,-1,-1\n"
                )
        self._out.flush()

    def close(self) -> None:
        """Closes the file."""
        self._out.close()


def _record(track: Track, target: int | None) -> dict[str, Any]:
    return {
        "id": track.id,
        "state": track.state,
        **{name: round(getattr(track, name), 3) for name in ("x", "y", "vx", "vy")},
        "covariance": track.covariance.round(5).tolist(),
        "age": track.age,
        "hits": track.hits,
        "misses": track.misses,
        "bbox": list(track.target.bbox),
        "target": target,
        "scr": jsonable(track.scr.round(2)),
    }
