from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irdet.core.errors import ModelError
from irdet.core.info import MAX_JSON_BYTES, ModelInfo

SIDES = st.none() | st.integers(1, 10000)
JSON = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5) | st.lists(st.floats(0, 1)))
INFOS = st.builds(
    ModelInfo,
    variant=st.text(min_size=1, max_size=10),
    parameters=st.integers(0, 10**9),
    stride=st.integers(1, 64),
    height=SIDES,
    width=SIDES,
    threshold=st.floats(0, 1, exclude_min=True, exclude_max=True),
    precision=st.sampled_from(["fp32", "fp16", "int8", "int8+fp16"]),
    target=st.sampled_from([None, "tensorrt", "cpu"]),
    opset=st.none() | st.integers(1, 30),
    irdet_version=st.text(max_size=5),
    training=JSON,
    metrics=JSON,
    weights_sha256=st.text(max_size=5),
    calibration=st.none() | st.text(max_size=5),
)


@given(INFOS, st.none() | st.integers(0, 4))
def test_the_record_survives_json(info: ModelInfo, indent: int | None) -> None:
    text = info.to_json(indent)
    assert ModelInfo.from_json(text) == info
    assert ModelInfo.from_json(text.encode()) == info


@pytest.mark.parametrize("change", [{"stride": 10**6}, {"height": 10**6}, {"width": 10**30}])
def test_sizes_that_no_memory_holds(change: dict[str, int]) -> None:
    with pytest.raises(ModelError, match=next(iter(change))):
        ModelInfo("mlcl-edge", **change)  # type: ignore[arg-type]


def test_figures_that_are_not_finite_become_null() -> None:
    text = ModelInfo("mlcl-edge", metrics={"pd": float("nan"), "per": [float("inf")]}).to_json()
    assert ModelInfo.from_json(text).metrics == {"pd": None, "per": [None]}
    assert "NaN" not in text and "Infinity" not in text


def test_replace_checks_too() -> None:
    info = ModelInfo("mlcl-edge").replace(stride=8)
    assert info.stride == 8
    with pytest.raises(ModelError, match="threshold"):
        info.replace(threshold=1.5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"variant": ""}, "variant"),
        ({"variant": 3}, "variant"),
        ({"parameters": -1}, "parameters"),
        ({"parameters": 1.5}, "parameters"),
        ({"stride": 0}, "stride"),
        ({"stride": True}, "stride"),
        ({"height": 0}, "height"),
        ({"width": "640"}, "width"),
        ({"opset": 17.0}, "opset"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": 1}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": "0.5"}, "threshold"),
        ({"precision": "fp8"}, "precision"),
        ({"precision": ["fp32"]}, "precision"),
        ({"target": "gpu"}, "target"),
        ({"irdet_version": None}, "irdet_version"),
        ({"weights_sha256": 0}, "weights_sha256"),
        ({"calibration": 0}, "calibration"),
        ({"training": []}, "training"),
        ({"metrics": None}, "metrics"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(change: dict[str, object], field: str) -> None:
    values = dataclasses.asdict(ModelInfo("mlcl-edge")) | change
    with pytest.raises(ModelError, match=rf"^model metadata: .*{field}"):
        ModelInfo.from_json(json.dumps(values))


def _without(name: str) -> str:
    values = dataclasses.asdict(ModelInfo("mlcl-edge"))
    del values[name]
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (b"\xff\xfe{}\xff", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "calibration is missing"),
        (_without("stride"), "stride is missing"),
        (_without("weights_sha256"), "weights_sha256 is missing"),
        ('{"variant": "a", "colour": 1}', "unknown field 'colour'"),
        (" " * (MAX_JSON_BYTES + 1), "longer than"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_record_is_one_line(text: str | bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        ModelInfo.from_json(text)
    assert "\n" not in str(caught.value)
