"""Draws what was found: the frame enlarged until it can be read, a bracket around each target, a strip on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.frame import Frame
from irdet.core.targets import Target
from irdet.tracking import Track

#: Frames whose longer side is below this are enlarged until it is not, px.
SMALL_SIDE = 480

#: Lines and letters are of their plain size in pictures of this side, and grow with larger ones, px.
PLAIN_SIDE = 800

#: Small frames are enlarged at most this many times.
MAX_ENLARGEMENT = 8

#: Free pixels of the frame between a target and its bracket, so that nothing of it is hidden.
MARGIN = 3

#: Only the best targets of a frame get a label: more would hide the frame.
MAX_LABELS = 24

#: A label that would hide more than this part of itself in other brackets and labels is left out.
MAX_HIDDEN = 0.2

#: Deep frames are stretched for the eye between these percentiles.
STRETCH = (0.5, 99.9)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TARGET = (80, 255, 120)  # blue, green, red
_DOUBTFUL = (60, 200, 255)
_UNTRACKED = (150, 150, 150)
_INK = (235, 235, 235)
_PLATE = (24, 20, 16)

_Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom excluded
_Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Style:
    """Sizes of what is drawn, in pixels of the picture."""

    line: int
    side: int
    arm: int
    font: float
    text: int
    pad: int

    @classmethod
    def of(cls, shape: tuple[int, int]) -> _Style:
        unit = max(1.0, max(shape) / PLAIN_SIDE)
        line = max(1, round(unit))
        return cls(
            line=line, side=round(22 * unit), arm=round(16 * unit), font=0.42 * unit, text=line, pad=round(3 * unit)
        )


def enlargement(shape: tuple[int, int]) -> int:
    """Returns the whole number by which a frame of this height and width is enlarged before it is drawn upon."""
    return min(MAX_ENLARGEMENT, ceil(SMALL_SIDE / max(shape)))


def annotate(
    frame: Frame, targets: Sequence[Target], caption: str | None = None, tracks: Sequence[Track] | None = None
) -> NDArray[np.uint8]:
    """Draws the targets of a frame, or its tracks.

    Small frames are enlarged (`enlargement`), deep ones stretched for display. Brackets are green, or amber where
    the target touches the border or lies on a bad pixel. A label gives score and SCR, where there is room for it.

    Tracks that are confirmed stand in place of their targets, with their number and their trail; amber where they are
    coasted. The targets that belong to none are grey and without label.

    Args:
        frame: The frame.
        targets: Its targets, best first.
        caption: Text of the strip; source, frame number, time and number of targets and tracks where None.
        tracks: Its tracks; None where targets are not followed.

    Returns:
        uint8 [H * k + strip, W * k, 3], BGR, with `k = enlargement(frame.shape)`. The strip lies above the frame
        and covers nothing of it.
    """
    scale = enlargement(frame.shape)
    grey = _display(frame)
    if scale > 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    style = _Style.of(grey.shape)
    shown = [track for track in tracks or () if track.confirmed]
    text = caption or _caption(frame, targets, None if tracks is None else len(shown))
    strip = _strip(text, grey.shape[1], style)
    whole = np.empty((len(strip) + len(grey), *strip.shape[1:]), np.uint8)
    whole[: len(strip)] = strip
    picture = whole[len(strip) :]
    cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR, dst=picture)
    if tracks is None:
        marks = [_Mark.of_target(target, scale, grey.shape, style) for target in targets]
    else:
        followed = {id(track.target) for track in shown if not track.misses}
        marks = [_Mark.of_track(track, scale, grey.shape, style) for track in shown]
        for target in targets:
            if id(target) not in followed:
                mark = _Mark.of_target(target, scale, grey.shape, style)
                marks.append(replace(mark, colour=_UNTRACKED, text=""))
        for track, mark in zip(shown, marks, strict=False):
            _draw_trail(picture, track, mark, scale, style)
    # The best one is drawn last, over the others.
    for mark in reversed(marks):
        _draw_bracket(picture, mark.box, style, mark.colour)
    taken = [mark.box for mark in marks]
    for mark in [mark for mark in marks if mark.text][:MAX_LABELS]:
        taken.append(_draw_label(picture, mark, taken, style))
    return whole


@dataclass(frozen=True)
class _Mark:
    """A bracket in the picture, with its label."""

    box: _Box
    colour: _Colour
    text: str

    @classmethod
    def of_target(cls, target: Target, scale: int, shape: tuple[int, ...], style: _Style) -> _Mark:
        colour = _DOUBTFUL if target.touches_border or target.bad_pixel else _TARGET
        left, top, width, height = target.bbox
        box = _bracket(left, top, width, height, scale, shape, style)
        return cls(box, colour, f"{target.score:.2f}  SCR {_short(target.scr)}")

    @classmethod
    def of_track(cls, track: Track, scale: int, shape: tuple[int, ...], style: _Style) -> _Mark:
        _, _, width, height = track.target.bbox
        left, top = track.x - (width - 1) / 2, track.y - (height - 1) / 2
        box = _bracket(left, top, width, height, scale, shape, style)
        if track.misses:
            return cls(box, _DOUBTFUL, f"{track.id}  coasted")
        return cls(box, _TARGET, f"{track.id}  SCR {_short(track.target.scr)}")


def _display(frame: Frame) -> NDArray[np.uint8]:
    """Returns the frame as uint8 [H, W] for the eye."""
    if frame.data.dtype == np.uint8:
        return frame.data  # type: ignore[return-value]
    pixels = frame.pixels
    if frame.raw is None or frame.raw.dtype == np.uint8:
        return cv2.convertScaleAbs(pixels, alpha=255.0)
    # Every 7th pixel tells the percentiles well enough.
    low, high = (float(value) for value in np.percentile(pixels.ravel()[::7], STRETCH))
    gain = 255.0 / max(high - low, 1e-6)
    return np.clip((pixels - low) * gain, 0, 255).astype(np.uint8)


def _bracket(
    left: float, top: float, width: int, height: int, scale: int, shape: tuple[int, ...], style: _Style
) -> _Box:
    """Returns the box of the bracket in the picture: around that of the target, and large enough to be seen."""
    left, top = round(scale * left), round(scale * top)
    width, height = scale * width, scale * height
    beside, above = (max(MARGIN * scale, (style.side - side) // 2) for side in (width, height))
    return (
        max(0, left - beside),
        max(0, top - above),
        min(shape[1], left + width + beside),
        min(shape[0], top + height + above),
    )


def _draw_trail(picture: NDArray[np.uint8], track: Track, mark: _Mark, scale: int, style: _Style) -> None:
    """Draws where a track came from, up to its bracket: the target stays free."""
    points = (track.trail + 0.5) * scale - 0.5  # pixel centres lie at whole numbers
    left, top, right, bottom = mark.box
    outside = np.flatnonzero(((points < (left, top)) | (points >= (right, bottom))).any(axis=1))
    if not outside.size:
        return
    # Lines take sixteenths of a pixel.
    line = np.round(points[: outside[-1] + 1] * 16).astype(np.int32)
    cv2.polylines(picture, [line], False, _PLATE, style.line + 2, cv2.LINE_AA, 4)
    cv2.polylines(picture, [line], False, mark.colour, style.line, cv2.LINE_AA, 4)


def _draw_bracket(picture: NDArray[np.uint8], box: _Box, style: _Style, colour: _Colour) -> None:
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
    arm_x, arm_y = (min(style.arm, max(2, ceil(0.3 * side))) for side in (right - left, bottom - top))
    corners = [
        np.array([[to_x, y], [x, y], [x, to_y]], np.int32)
        for x, to_x in ((left, left + arm_x), (right, right - arm_x))
        for y, to_y in ((top, top + arm_y), (bottom, bottom - arm_y))
    ]
    # A dark edge keeps the lines visible on a bright ground.
    cv2.polylines(picture, corners, False, _PLATE, style.line + 2, cv2.LINE_AA)
    cv2.polylines(picture, corners, False, colour, style.line, cv2.LINE_AA)


def _draw_label(picture: NDArray[np.uint8], mark: _Mark, taken: Sequence[_Box], style: _Style) -> _Box:
    """Puts a label beside a bracket where it hides least, if not too much; returns its place."""
    text, box = mark.text, mark.box
    (width, height), base = cv2.getTextSize(text, _FONT, style.font, style.text)
    width, height = width + 2 * style.pad, height + base + 2 * style.pad
    gap = style.line + 2
    above, below, middle = box[1] - gap - height, box[3] + gap, (box[1] + box[3] - height) // 2
    corners = (
        (box[0], above),
        (box[0], below),
        (box[2] + gap, middle),
        (box[0] - gap - width, middle),
        (box[2] - width, above),
        (box[2] - width, below),
    )
    places = [_inside(x, y, width, height, picture.shape) for x, y in corners]
    hidden = [sum(_shared(place, other) for other in taken) for place in places]
    least = min(hidden)
    place = places[hidden.index(least)]
    left, top, right, bottom = place
    if least > MAX_HIDDEN * width * height:
        return left, top, left, top
    plate = picture[top:bottom, left:right]
    plate[:] = cv2.addWeighted(plate, 0.3, _plate(right - left, bottom - top), 0.7, 0)
    origin = (left + style.pad, bottom - style.pad - base)
    cv2.putText(picture, text, origin, _FONT, style.font, mark.colour, style.text, cv2.LINE_AA)
    return place


def _plate(width: int, height: int) -> NDArray[np.uint8]:
    """Returns an empty ground for text, uint8 [height, width, 3]; np.full takes fifteen times as long."""
    plate = np.empty((height, width, 3), np.uint8)
    cv2.rectangle(plate, (0, 0), (width, height), _PLATE, cv2.FILLED)
    return plate


def _inside(x: int, y: int, width: int, height: int, shape: tuple[int, ...]) -> _Box:
    """Shifts a box into the picture; one larger than the picture is cut."""
    left, top = max(0, min(x, shape[1] - width)), max(0, min(y, shape[0] - height))
    return left, top, min(shape[1], left + width), min(shape[0], top + height)


def _shared(a: _Box, b: _Box) -> int:
    """Returns the pixels that two boxes have in common."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _short(scr: float) -> str:
    return f"{scr:.1f}" if scr < 100 else ">99"


def _caption(frame: Frame, targets: Sequence[Target], tracks: int | None) -> str:
    count = _count(len(targets), "target")
    if tracks is not None:
        count += f", {_count(tracks, 'track')}"
    if frame.time is None:
        return f"{frame.source}   {count}"
    return f"{frame.source}   frame {frame.index}   {frame.time:.2f} s   {count}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _strip(text: str, width: int, style: _Style) -> NDArray[np.uint8]:
    (text_width, height), base = cv2.getTextSize(text, _FONT, style.font, style.text)
    strip = _plate(width, height + base + 4 * style.pad)
    # A name that is too long loses its beginning: number, time and count stand at the end.
    x = min(3 * style.pad, width - text_width - style.pad)
    cv2.putText(strip, text, (x, 2 * style.pad + height), _FONT, style.font, _INK, style.text, cv2.LINE_AA)
    return strip
