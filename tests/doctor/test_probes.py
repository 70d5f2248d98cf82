from __future__ import annotations

import cv2
import pytest

from irdet.doctor.probes import try_part


@pytest.mark.parametrize(
    ("version", "state"), [("4.6.0", "broken"), ("4.8.1", "ok"), ("4.10.0-dev", "ok"), ("5.0.0", "ok")]
)
def test_an_opencv_that_is_too_old_is_told(version: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "__version__", version)
    fact = next(fact for fact in try_part("OpenCV") if fact.part == "OpenCV")
    assert (
        fact.state == state and fact.found.startswith(version) and ("older than 4.8" in fact.found) == (state != "ok")
    )
