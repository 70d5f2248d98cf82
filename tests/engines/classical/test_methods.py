"""What every classical method does, and what its paper claims, on made scenes."""

from __future__ import annotations

from dataclasses import fields

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.engines import open_engine, resolve_model
from irdet.engines.classical import METHODS, create_method
from irdet.runtime.detector import Detector

#: A target of 9 counts that stand out, as wide as a point behind optics.
SPOT = cv2.getGaussianKernel(9, 1.3) @ cv2.getGaussianKernel(9, 1.3).T
SPOT = (SPOT / SPOT.max()).astype(np.float32)

Y, X = 40, 60


def flat(level: float = 0.3, noise: float = 0.004, shape: tuple[int, int] = (96, 120)) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (level + noise * rng.standard_normal(shape)).astype(np.float32)


def with_target(frame: NDArray[np.float32], y: int = Y, x: int = X, peak: float = 0.35) -> NDArray[np.float32]:
    out = frame.copy()
    out[y - 4 : y + 5, x - 4 : x + 5] += peak * SPOT
    return np.clip(out, 0, 1)


def cloud_edge() -> NDArray[np.float32]:
    """Dark on the left, a bright cloud on the right, with an edge of a few pixels between."""
    ramp = 1 / (1 + np.exp(-(np.arange(120) - 60) / 1.5))
    return (flat(0.25) + 0.4 * ramp[None, :]).astype(np.float32)


def clutter() -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    rough = cv2.GaussianBlur(rng.standard_normal((96, 120)).astype(np.float32), (0, 0), 4)
    return (0.4 + 0.08 * rough / rough.std() + 0.004 * rng.standard_normal((96, 120))).astype(np.float32)


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_response_is_a_map_of_the_frame(name: str) -> None:
    method = create_method(name)
    for shape in ((96, 120), (51, 50), (7, 30), (1, 1)):
        response = method.respond(flat(shape=shape).clip(0, 1))
        assert response.shape == shape and response.dtype == np.float32
        assert np.isfinite(response).all() and response.min() >= 0 and response.max() <= 1


def test_point_target_on_a_plain_is_the_peak(name: str) -> None:
    response = create_method(name).respond(with_target(flat()))
    y, x = np.unravel_index(int(response.argmax()), response.shape)
    assert abs(y - Y) <= 2 and abs(x - X) <= 2


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_an_empty_frame_is_no_target(name: str, level: float) -> None:
    """The unit of the response is fixed: the largest response of a frame is a target only where it is large."""
    method = create_method(name)
    assert not (method.respond(np.full((96, 120), level, np.float32)) > method.THRESHOLD).any()
    if name != "lcm":  # whose measure of a bright plain is its brightness
        assert (method.respond(flat(0.3)) >= method.THRESHOLD).mean() < 1e-3


def test_a_brighter_target_answers_more(name: str) -> None:
    method = create_method(name)
    peaks = [float(method.respond(with_target(flat(), peak=peak))[Y, X]) for peak in (0.15, 0.3, 0.6)]
    assert peaks == sorted(peaks) and peaks[2] > 1.3 * peaks[0]


def test_detector_finds_the_target(name: str) -> None:
    frame = np.rint(255 * with_target(flat(), peak=0.6)).astype(np.uint8)
    with open_engine(name) as engine:
        assert engine.info.variant == name and engine.info.threshold == create_method(name).THRESHOLD
        targets = Detector(engine).detect(frame).targets
    assert any(abs(target.x - X) < 2 and abs(target.y - Y) < 2 for target in targets)


def test_a_batch_is_its_frames(name: str) -> None:
    batch = np.stack([with_target(flat()), clutter()])[:, None].clip(0, 1)
    with open_engine(name) as engine:
        both = engine.run(batch)
        for index in range(2):
            np.testing.assert_array_equal(both[index : index + 1], engine.run(batch[index : index + 1]))


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("lcm", "ipi")])
def test_brightness_alone_changes_nothing(method: str) -> None:
    """A difference does not see an offset. LCM divides (below), and IPI's penalty follows the singular values."""
    frame = with_target(flat())
    moved = create_method(method).respond(frame + np.float32(0.2))
    np.testing.assert_allclose(moved, create_method(method).respond(frame), atol=2e-3)


def test_lcm_depends_on_the_offset() -> None:
    lcm = create_method("lcm")
    contrast = [float((r := lcm.respond(with_target(flat(level))))[Y, X] / r[10, 10]) for level in (0.1, 0.5)]
    assert contrast[0] > 1.5 * contrast[1]


def test_target_at_a_cloud_edge() -> None:
    """MPCM suppresses the edge where LCM does not (Wei et al. 2016, section 3); the edge filters keep the target."""
    edge = cloud_edge()
    frame = with_target(edge, Y, 45)
    away = np.ones(frame.shape, bool)
    away[Y - 12 : Y + 13, 45 - 12 : 45 + 13] = False
    gain = {}
    for name in ("lcm", "mpcm", "bilateral", "flux", "tophat"):
        response = create_method(name).respond(frame)
        gain[name] = float(response[Y - 2 : Y + 3, 43:48].max() / max(response[away].max(), 1e-6))
    assert gain["lcm"] < 2, "the cloud answers nearly as much as the target"
    assert min(gain["mpcm"], gain["bilateral"], gain["flux"]) > 5
    assert gain["mpcm"] > 5 * gain["lcm"]


@pytest.mark.parametrize("name", ["mpcm", "flux", "bilateral", "ipi", "phase-spectrum", "spectral-residual"])
def test_target_in_clutter(name: str) -> None:
    before, after = (create_method(name).respond(frame) for frame in (clutter(), with_target(clutter(), peak=0.5)))
    assert after[Y - 2 : Y + 3, X - 2 : X + 3].max() > 1.5 * before.max()


def test_methods_have_one_main_parameter(name: str) -> None:
    method = create_method(name)
    assert method.MAIN in {field.name for field in fields(method)}
    with pytest.raises(UsageError, match=name):
        create_method(name, nonsense=1)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("tophat", {"size": 4}),
        ("lcm", {"scales": (2,)}),
        ("mpcm", {"scales": (3, 6)}),
        ("flux", {"inner": 5, "outer": 3}),
        ("flux", {"tensor": 0}),
        ("bilateral", {"least": 0.5}),
        ("ipi", {"step": 0}),
        ("ipi", {"weight": "mine"}),
        ("phase-spectrum", {"sigma": 0.0}),
    ],
)
def test_parameters_that_cannot_be(name: str, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        create_method(name, **wrong)


def test_methods_are_no_files(name: str) -> None:
    with pytest.raises(UsageError, match="no file"):
        resolve_model(name)
    with pytest.raises(UsageError, match="on the CPU alone"):
        open_engine(name, device="cuda")
