"""Tracks: from the targets of single frames to confirmed ones with identities. Needs numpy and SciPy."""

from __future__ import annotations

from irdet.tracking.options import TrackerOptions
from irdet.tracking.tracker import Track, Tracker

__all__ = ["Track", "Tracker", "TrackerOptions"]
