"""SceneConfig: what a synthetic scene may be. Pairs are ranges from which each scene draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

from irdet.core.errors import UsageError, unknown_name
from irdet.data.synth.background import KINDS
from irdet.data.synth.targets import SHAPES

#: From lowest to highest.
Range = tuple[float, float]

#: Smallest and largest side of a frame, px.
SIDES = (16, 8192)

#: Where the configuration does not say it, counts as real cameras of that depth have them: temporal noise, fixed
#: pattern (standard deviations), vignetting (fall to the corners).
TYPICAL: dict[int, dict[str, Range]] = {
    8: {"noise": (0.3, 2.0), "fixed_pattern": (0.05, 0.6), "vignetting": (0.0, 6.0)},
    16: {"noise": (4.0, 25.0), "fixed_pattern": (1.0, 12.0), "vignetting": (0.0, 150.0)},
}


@dataclass(frozen=True)
class SceneConfig:
    """What a synthetic scene may be.

    Attributes:
        width: Width of the frames, px.
        height: Height of the frames, px.
        kind: A kind of background, several separated by commas to draw from, or `"random"` for all.
        bits: 8 for display output (uint8), 16 for raw output (uint16 with counts of 14 bits, 0 to 16383).
        targets: Number of targets; of a sequence, of those that appear in it.
        scr: Their signal-to-clutter ratio as `irdet.core.targets` defines it.
        area: Pixels of their masks.
        speed: Their speed, px per frame.
        shapes: Shapes of targets to draw from.
        manoeuvring: Share of targets that turn; the others fly straight at constant speed.
        noise: Standard deviation of the temporal noise, counts; None for what is typical (also below).
        fixed_pattern: Standard deviation of the fixed pattern (stripes and pixels), counts.
        vignetting: Counts by which corners and centre differ.
        hot_pixels: Number of stuck pixels.
        psf: Standard deviation of the optics' blur, px.
        pan: Speed of the camera's pan, px per frame.
        shake: Standard deviation of the camera's shake, px.

    Raises:
        UsageError: A value cannot be; says which.
    """

    width: int = 320
    height: int = 256
    kind: str = "random"
    bits: int = 8
    targets: tuple[int, int] = (1, 3)
    scr: Range = (3.0, 40.0)
    area: Range = (3.0, 80.0)
    speed: Range = (0.2, 2.5)
    shapes: tuple[str, ...] = tuple(SHAPES)
    manoeuvring: float = 0.4
    noise: Range | None = None
    fixed_pattern: Range | None = None
    vignetting: Range | None = None
    hot_pixels: tuple[int, int] = (0, 3)
    psf: Range = (0.6, 1.4)
    pan: Range = (0.0, 0.6)
    shake: Range = (0.0, 0.3)

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            side = getattr(self, name)
            if not SIDES[0] <= side <= SIDES[1]:
                raise UsageError(f"scene {name} {side}: must be {SIDES[0]} to {SIDES[1]} px")
        if self.bits not in TYPICAL:
            raise UsageError(f"scene bits {self.bits}: must be 8 or 16")
        for name in self.kinds:
            _known("kind", name, tuple(KINDS))
        if not self.shapes:
            raise UsageError("scene shapes: name at least one")
        for name in self.shapes:
            _known("shape", name, tuple(SHAPES))
        if not 0.0 <= self.manoeuvring <= 1.0:
            raise UsageError(f"scene manoeuvring {self.manoeuvring}: a share, 0 to 1")
        for name in ("targets", "hot_pixels"):
            if not all(isinstance(value, int) for value in getattr(self, name)):
                raise UsageError(f"scene {name} {getattr(self, name)}: must be whole numbers")
        least = {"scr": 0.1, "area": 1.0, "psf": 0.2}
        for name in ("targets", "scr", "area", "speed", "hot_pixels", "psf", "pan", "shake"):
            _check(name, getattr(self, name), least.get(name, 0.0))
        for name in TYPICAL[self.bits]:
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), 0.0)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of background to draw from."""
        if self.kind == "random":
            return tuple(KINDS)
        return tuple(name.strip() for name in self.kind.split(","))

    def counts(self, name: str) -> Range:
        """Returns the range of `noise`, `fixed_pattern` or `vignetting`: the one that is set, or the typical one."""
        value: Range | None = getattr(self, name)
        return TYPICAL[self.bits][name] if value is None else value


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise unknown_name(f"{what} of scenes", name, names)


def _check(name: str, value: Range, least: float) -> None:
    if len(value) != 2 or not all(map(math.isfinite, value)) or not least <= value[0] <= value[1]:
        low, high = (*value, *value)[:2]
        raise UsageError(f"scene {name} {low:g},{high:g}: give LOW,HIGH with {least:g} <= LOW <= HIGH")
