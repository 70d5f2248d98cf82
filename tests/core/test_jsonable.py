from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irdet.core.jsonable import jsonable

PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda values: st.one_of(st.lists(values), st.dictionaries(st.text(), values)),
    max_leaves=10,
)


@given(PLAIN)
def test_what_json_has_words_for_stays(value: object) -> None:
    assert jsonable(value) == value


def test_what_json_has_no_words_for() -> None:
    value = {
        "nan": float("nan"),
        "infinite": (np.float32("inf"), np.float64("-inf")),
        "array": np.array([[1, 2], [3, 4]], np.int16),
        "flag": np.bool_(True),
        "single": np.float32(0.5),
        7: Path("a") / "b",
    }
    assert json.loads(json.dumps(jsonable(value), allow_nan=False)) == {
        "nan": None,
        "infinite": [None, None],
        "array": [[1, 2], [3, 4]],
        "flag": True,
        "single": 0.5,
        "7": str(Path("a") / "b"),
    }


def test_anything_else_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="object has no form"):
        jsonable([object()])
