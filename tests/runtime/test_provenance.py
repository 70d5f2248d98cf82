"""The record of a run: it comes back as it was, and tells apart what finds other targets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from irdet.core.errors import IrdetError, UsageError
from irdet.runtime.provenance import NAME, Provenance

RUN = Provenance(
    irdet="0.1.0",
    source="clip.mkv",
    source_sha256=None,
    model="mlcl-edge",
    weights_sha256="ab",
    precision="fp32",
    runtime="onnxruntime cpu",
    threshold=0.5,
    min_area=1,
    max_area=None,
    connectivity=8,
    ignore=None,
    ignore_sha256=None,
    polarity="white-hot",
    resize=None,
    views=1,
    range=None,
    normalise="range",
    nuc=None,
    nuc_sha256=None,
    start=0,
    stride=1,
    frame_rate=None,
    raw=None,
    pictures=True,
    masks=False,
)

#: A run with another value of any of these finds the same targets, and writes as much of them.
SAME: dict[str, Any] = {
    "irdet": "0.2.0",
    "source": "/clip.mkv",
    "runtime": "openvino",
    "ignore": "a.png",
    "nuc": "b.npz",
    "started": "2026-01-01T00:00:00.000+00:00",
}

OTHER: dict[str, Any] = {
    "model": "mlcl-base",
    "weights_sha256": "cd",
    "precision": "int8",
    "threshold": "mean+4std",
    "min_area": 2,
    "max_area": 50,
    "connectivity": 4,
    "ignore_sha256": "ef",
    "polarity": "black-hot",
    "resize": [512, 512],
    "views": 2,
    "range": [0.0, 9000.0],
    "normalise": "local",
    "nuc_sha256": "01",
    "start": 4,
    "stride": 2,
    "frame_rate": 3.0,
    "source_sha256": "23",
    "raw": "48x64 uint16be",
    "pictures": False,
    "masks": True,
}


def test_every_field_is_in_one_of_the_lists() -> None:
    assert SAME.keys() | OTHER.keys() == {field.name for field in dataclasses.fields(Provenance)}


def test_the_record_is_readable_and_whole(tmp_path: Path) -> None:
    RUN.write(tmp_path)
    assert json.loads((tmp_path / NAME).read_text(encoding="utf-8")) == RUN.to_dict()
    RUN.check(tmp_path)


@pytest.mark.parametrize("name", SAME)
def test_what_may_change_in_the_middle_of_a_run(tmp_path: Path, name: str) -> None:
    RUN.write(tmp_path)
    dataclasses.replace(RUN, **{name: SAME[name]}).check(tmp_path)


@pytest.mark.parametrize("name", OTHER)
def test_what_may_not(tmp_path: Path, name: str) -> None:
    other = dataclasses.replace(RUN, **{name: OTHER[name]})
    for first, second in ((RUN, other), (other, RUN)):
        first.write(tmp_path)
        told = "is not the .* of that run" if name == "source_sha256" else f"{name} was .* in that run and is .* here"
        with pytest.raises(UsageError, match=told) as error:
            second.check(tmp_path)
        assert "\n" not in str(error.value)
        first.check(tmp_path)


def test_runs_of_other_versions_lack_fields_or_the_record(tmp_path: Path) -> None:
    RUN.check(tmp_path)
    (tmp_path / NAME).write_text('{"threshold": 0.5, "later": 1}')
    RUN.check(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "[" * 100_000])
def test_a_damaged_record_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(IrdetError, match=r"run\.json is no record of a run") as error:
        RUN.check(tmp_path)
    assert "\n" not in str(error.value)
