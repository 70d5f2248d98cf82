from __future__ import annotations

import pytest

from irdet.cli.track_options import outcome, tracker_options
from irdet.core.errors import UsageError
from irdet.runtime.follow import TrackSummary
from irdet.tracking import TrackerOptions


def test_parameters() -> None:
    assert tracker_options(None) == TrackerOptions()
    assert tracker_options(["coast=25", " gate = 3.5"]) == TrackerOptions(coast=25, gate=3.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("coast", "NAME=VALUE"),
        ("coats=3", "did you mean coast"),
        ("coast=2.5", "whole number"),
        ("gate=wide", "must be a number"),
        ("gate=-1", "above 0"),
    ],
)
def test_what_cannot_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tracker_options([text])


def test_every_parameter_stands_in_the_help() -> None:
    from irdet.cli.track_options import TrackerOption

    (option,) = TrackerOption.__metadata__  # type: ignore[attr-defined]
    for name in TrackerOptions.__dataclass_fields__:
        assert f"{name}={getattr(TrackerOptions(), name):g}" in option.help


def test_the_last_line() -> None:
    assert outcome(TrackSummary(0, 0.0, 0, 0, 0, None), 10) == "no track was confirmed"
    line = outcome(TrackSummary(2, 51.5, 80, 90, 7, 88), 100)
    for word in ("2 confirmed tracks", "90 frames", "52 frames long", "longest 80", "7 targets", "88 of 100"):
        assert word in line
