"""ONNX models without irdet's record work with stated defaults where their input and output allow it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import ModelError, UsageError
from irdet.core.frame import Frame, Preprocessor
from irdet.core.targets import extract_targets
from irdet.engines import open_engine
from irdet.engines.probe import as_batch, probe_frame
from irdet.runtime.detector import Detector

ENDINGS = ("logits", "probability", "flat", "two logits", "two probabilities", "deep supervision")


def spots(height: int = 256, width: int = 256) -> NDArray[np.float32]:
    """Grey frames with two spots at (x, y) = (50, 40) and (200, 101)."""
    frame = np.full((1, 1, height, width), 0.3, np.float32)
    frame[0, 0, 40, 50] = frame[0, 0, 101, 200] = 0.9
    return frame


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_ending_gives_the_same_targets(foreign: Callable[..., Path], ending: str, channels: int) -> None:
    with open_engine(foreign((1, channels, 256, 256), ending), device="cpu") as engine:
        assert (engine.info.variant, engine.info.threshold, engine.max_batch) == ("foreign", 0.5, 1)
        assert (engine.info.height, engine.info.width, engine.info.stride) == (256, 256, 1)
        probability = engine.run(spots())
    assert probability.shape == (1, 1, 256, 256) and probability.dtype == np.float32
    targets = extract_targets(probability[0, 0], Frame(spots()[0, 0]))
    inner = [target for target in targets if not target.touches_border]  # its zero padding makes it see a bright rim
    assert sorted((t.x, t.y, t.area) for t in inner) == [(50, 40, 1), (200, 101, 1)]


@pytest.mark.parametrize(
    ("ending", "told"),
    [("logits", "holds logits"), ("probability", "holds probabilities"), ("two logits", "logits of two classes")],
)
def test_what_is_assumed_is_stated(foreign: Callable[..., Path], ending: str, told: str) -> None:
    with open_engine(foreign(ending=ending), device="cpu") as engine:
        (note,) = engine.notes
    assert told in note and "no irdet record" in note and "3 channels" in note and "0.5" in note and "\n" not in note


def test_logits_and_probabilities_agree(foreign: Callable[..., Path]) -> None:
    frame = as_batch(probe_frame(256, 256, 5)[None])
    answers = []
    for ending in ENDINGS:
        with open_engine(foreign(ending=ending), device="cpu") as engine:
            answers.append(engine.run(frame))
    assert answers[0].max() > 0.9
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-5)


def test_large_logits_do_not_overflow(foreign: Callable[..., Path], recwarn: pytest.WarningsRecorder) -> None:
    with open_engine(foreign(gain=1e4), device="cpu") as engine:
        probability = engine.run(spots())
    assert set(np.unique(probability)) == {0.0, 1.0}
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


def test_one_side_may_be_fixed(foreign: Callable[..., Path]) -> None:
    """The free side is a multiple of what the fixed one shows that the network takes."""
    with open_engine(foreign((1, 1, 100, "w")), device="cpu") as engine:
        assert (engine.info.height, engine.info.width, engine.info.stride) == (100, None, 4)
        assert Detector(engine).probability(Preprocessor()(probe_frame(100, 160))).shape == (100, 160)
        assert Detector(engine).probability(Preprocessor()(probe_frame(150, 161))).shape == (150, 161)


def test_free_size_is_padded_to_a_safe_multiple(foreign: Callable[..., Path]) -> None:
    with open_engine(foreign(("n", 1, "h", "w")), device="cpu") as engine:
        assert (engine.info.height, engine.info.width, engine.info.stride) == (None, None, 32)
        assert engine.max_batch is None
        assert "multiples of 32" in engine.notes[0]
        assert engine.run(np.repeat(spots(128, 224), 2, axis=0)).shape == (2, 1, 128, 224)
        with pytest.raises(UsageError, match="multiples of 32"):
            engine.run(spots(120, 224))


def test_half_precision_input(foreign: Callable[..., Path]) -> None:
    with open_engine(foreign(kind="float16"), device="cpu") as engine:
        probability = engine.run(spots())
    assert probability.dtype == np.float32
    assert (probability[:, :, 8:-8, 8:-8] >= 0.5).sum() == 2


@pytest.mark.parametrize(
    ("shape", "ending", "kind", "told"),
    [
        ((1, 2, 64, 64), "logits", "float32", r"float\) \[1, 2, 64, 64\]; irdet takes one float or uint8 input"),
        ((1, 64, 64, 3), "logits", "float32", "channels come last"),
        ((1, "c", 64, 64), "logits", "float32", r"\[1, c, 64, 64\]"),
        ((1, 1, 64, 64), "class", "float32", r"score \[1, 1, 1, 1\].*no pixel-wise detector"),
    ],
)
def test_what_cannot_work_is_told(
    foreign: Callable[..., Path], shape: tuple[int | str, ...], ending: str, kind: str, told: str
) -> None:
    path = foreign(shape, ending, kind=kind)
    with pytest.raises(ModelError, match=told) as caught:
        open_engine(path, device="cpu")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["uint8", "int32"])
def test_integer_input(tmp_path: Path, write_graph: Callable[..., Path], kind: str) -> None:
    shape = (1, 1, 8, 8)
    cast = ("Cast", ["image"], ["p"], {"to": 1})
    path = write_graph(tmp_path / "bytes.onnx", [cast], [("image", kind, shape)], [("p", "float32", shape)])
    if kind == "int32":
        with pytest.raises(ModelError, match="int32"):
            open_engine(path, device="cpu")
        return
    with open_engine(path, device="cpu") as engine:
        assert "assumed: counts of 0 to 255" in engine.notes[0]
        counts = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)
        floats = counts.astype(np.float32)
        wanted = 1 / (1 + np.exp(-floats))  # what leaves [0, 1] is taken for logits
        np.testing.assert_allclose(engine.run(counts), wanted, atol=1e-6)
        np.testing.assert_allclose(engine.run(floats / np.float32(255)), wanted, atol=1e-6)


def test_probing_draws_out_rare_values(foreign: Callable[..., Path]) -> None:
    with open_engine(foreign((1, 1, 64, 64), "sometimes 1.5"), device="cpu") as engine:
        assert "holds logits" in engine.notes[0]


def test_what_turns_out_to_be_no_probability_is_an_error(foreign: Callable[..., Path]) -> None:
    with open_engine(foreign((1, 1, 64, 64), "probability"), device="cpu") as engine:
        assert "holds probabilities" in engine.notes[0]
        frame = as_batch(probe_frame(64, 64)[None])
        assert engine.run(frame).max() <= 1
        frame[0, 0, 3, 3] = np.nan
        with pytest.raises(ModelError, match="not finite"):
            engine.run(frame)


def test_a_record_that_is_none_is_an_error(foreign: Callable[..., Path]) -> None:
    for text in ("{}", "not json", '{"variant": "mlcl-edge", "threshold": 2}'):
        with pytest.raises(ModelError, match="model metadata"):
            open_engine(foreign((1, 1, 64, 64), metadata=text), device="cpu")
