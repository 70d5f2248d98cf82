"""TrackerOptions: what a tracker goes by, in pixels and frames."""

from __future__ import annotations

from dataclasses import dataclass

from irdet.core.errors import UsageError

#: A window of more frames, or a memory for more of anything, is a slip of the finger.
MAX_WINDOW, MAX_MEMORY = 64, 100_000

#: No distance, speed or deviation is larger, px.
MAX_VALUE = 1e6


@dataclass(frozen=True)
class TrackerOptions:
    """What a tracker goes by. The defaults suit point targets in video of 25 to 60 frames a second.

    A frame is the usual interval between updates; velocities and times are told in it, so nothing here changes
    where a video of another frame rate shows targets that move as many pixels per frame.

    Attributes:
        speed: How fast a target may move when it appears, px/frame: three standard deviations of the velocity
            of a new track. A faster one needs a larger value, a slower scene confirms fewer false tracks with a
            smaller one.
        acceleration: How much the velocity changes from one frame to the next, px/frame, standard deviation along
            each axis. Larger follows tighter turns, smaller carries identities through longer crossings and misses.
        noise: Standard deviation of a centroid along each axis, px.
        noise_per_size: What is added to it for each pixel of the target's size (the root of its area): the
            centroid of an extended target wanders over its body.
        gate: A target is considered for a track where its Mahalanobis distance from the prediction is at most this,
            standard deviations. 4 leaves out 1 in 3,000 of a track's own targets.
        reach: It is never considered farther away than this, px, however uncertain the prediction has become.
        confirm: Frames with a target that confirm a track (the M of M-of-N),
        window: within so many frames (the N), the first one included. A new track that can no longer make it is
            dropped.
        coast: Frames for which a confirmed track lives on without a target, if it has had as many; one that was seen in
            fewer frames lives on for no more than these.
        max_targets: Of a frame with more, only the targets with the best scores are used, which bounds the time
            that a frame takes.
        max_tracks: No new track begins while there are so many.
        history: Frames of which a track remembers place and SCR.

    Raises:
        UsageError: A value cannot be what was meant.
    """

    speed: float = 6.0
    acceleration: float = 0.15
    noise: float = 0.4
    noise_per_size: float = 0.1
    gate: float = 4.0
    reach: float = 20.0
    confirm: int = 3
    window: int = 5
    coast: int = 15
    max_targets: int = 500
    max_tracks: int = 1000
    history: int = 32

    def __post_init__(self) -> None:
        for name, least in (("speed", 0), ("acceleration", 0), ("noise", 0), ("gate", 0), ("reach", 0)):
            value = getattr(self, name)
            if not least < value <= MAX_VALUE:
                raise UsageError(f"tracker {name} {value:g}: must be above 0 and at most {MAX_VALUE:g}")
        if not 0 <= self.noise_per_size <= MAX_VALUE:
            raise UsageError(f"tracker noise_per_size {self.noise_per_size:g}: must be 0 to {MAX_VALUE:g}")
        if not 1 <= self.confirm <= self.window <= MAX_WINDOW:
            raise UsageError(
                f"tracker confirms by {self.confirm} of {self.window} frames: must be 1 <= M <= N <= {MAX_WINDOW}"
            )
        for name in ("coast", "max_targets", "max_tracks", "history"):
            if getattr(self, name) < (name != "coast"):
                raise UsageError(f"tracker {name} {getattr(self, name)}: must be at least {int(name != 'coast')}")
            if getattr(self, name) > MAX_MEMORY:
                raise UsageError(f"tracker {name} {getattr(self, name)}: must be at most {MAX_MEMORY}")
