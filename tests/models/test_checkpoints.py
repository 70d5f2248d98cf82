"""Checkpoints round-trip exactly, and whatever is not one is told in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from irdet.core.errors import IrdetError, ModelError, UsageError
from irdet.core.info import ModelInfo
from irdet.engines import shipped
from irdet.models import (
    MODELS,
    create_model,
    load_checkpoint,
    load_initial,
    load_model,
    save_checkpoint,
    weights_digest,
)
from irdet.models.mlcl import Network


@pytest.fixture(scope="module")
def edge() -> Network:
    torch.manual_seed(0)
    return create_model("mlcl-edge").eval()


@pytest.fixture
def saved(edge: Network, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "m.pt", edge, ModelInfo("mlcl-edge", threshold=0.37, training={"data": ["a", "b"]}))
    return tmp_path / "m.pt"


@pytest.mark.parametrize("name", list(MODELS))
def test_round_trip(name: str, tmp_path: Path) -> None:
    module = create_model(name)
    info = save_checkpoint(tmp_path / "m.pt", module, ModelInfo(name, metrics={"iou": 0.5}))
    loaded = load_model(tmp_path / "m.pt")
    assert loaded.info == info
    assert not loaded.module.training
    assert info.weights_sha256 == weights_digest(module) == weights_digest(loaded.module)
    assert info.parameters == sum(p.numel() for p in module.parameters())
    assert info.stride == module.stride
    for key, value in module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[key], value)


def test_training_state_round_trips(edge: Network, tmp_path: Path) -> None:
    optimizer = torch.optim.AdamW(edge.parameters())
    edge(torch.zeros(1, 1, 16, 16)).sum().backward()
    optimizer.step()
    edge.zero_grad()
    state: dict[str, Any] = {
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "epoch": 3,
        "best": 0.25,
        "names": ["a", ("b", None)],
        "amp": True,
    }
    save_checkpoint(tmp_path / "last.pt", edge, ModelInfo("mlcl-edge"), state)
    _, back = load_checkpoint(tmp_path / "last.pt")
    assert back is not None
    assert {k: back[k] for k in ("epoch", "best", "names", "amp")} == {
        k: state[k] for k in ("epoch", "best", "names", "amp")
    }
    assert torch.equal(back["rng"], state["rng"])
    other = torch.optim.AdamW(create_model("mlcl-edge").parameters())
    other.load_state_dict(back["optimizer"])
    for index, moments in optimizer.state_dict()["state"].items():
        for key, value in moments.items():
            assert torch.equal(other.state_dict()["state"][index][key], value)


def test_state_that_could_not_be_read_back_is_refused(edge: Network, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with pytest.raises(TypeError, match=r"state\['rng'\]\[0\] is a ndarray"):
        save_checkpoint(path, edge, ModelInfo("mlcl-edge"), {"rng": [np.zeros(3)]})
    assert list(tmp_path.iterdir()) == []


def test_digest_sees_every_weight_and_only_weights(edge: Network) -> None:
    copy = create_model("mlcl-edge")
    copy.load_state_dict(edge.state_dict())
    before = weights_digest(copy)
    for module in copy.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.num_batches_tracked is not None
            module.num_batches_tracked += 5
    assert weights_digest(copy) == before
    with torch.no_grad():
        next(iter(copy.parameters())).view(-1)[0] += 1e-3
    assert weights_digest(copy) != before


def test_names() -> None:
    with pytest.raises(IrdetError, match="did you mean mlcl-edge") as caught:
        create_model("mlcl-egde")
    assert caught.value.exit_code == 2
    with pytest.raises(ModelError, match="no such file"):
        load_model("no-such-file.pt")


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_another_network(saved: Path) -> None:
    small = create_model("mlcl-small").state_dict()
    rewrite(saved, lambda content: content.update(model=small))
    with pytest.raises(ModelError, match=r"another network: missing .* and \d+ more; unexpected "):
        load_model(saved)


def test_wheel_without_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlcl-base.onnx").touch()
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match=r"holds mlcl-base\.onnx alone; .* irdet/weights/mlcl-base\.pt"):
        load_model("mlcl-base")
    with pytest.raises(ModelError, match=r"no weights for mlcl-small .*shipped: mlcl-base"):
        load_model("mlcl-small")


def test_weights_of_another_reach(tmp_path: Path) -> None:
    """Dilations leave no trace in the shapes of weights: without a word of them, they are not taken for these."""
    path = tmp_path / "old.pt"
    save_checkpoint(path, create_model("mlcl-edge"), ModelInfo("mlcl-edge"))
    assert load_model(path).module.state_dict()["mlcl.0.dilations"].tolist() == [1, 2, 3]

    def forget(content: dict[str, Any]) -> None:
        for key in [key for key in content["model"] if key.endswith("dilations")]:
            del content["model"][key]

    rewrite(path, forget)
    with pytest.raises(ModelError, match=r"another network: missing mlcl\.0\.dilations"):
        load_model(path)


def test_the_reach_is_compared_by_its_values(tmp_path: Path) -> None:
    network = create_model("mlcl-edge")
    for name, buffer in network.named_buffers():
        if name.endswith("dilations"):
            buffer.copy_(torch.tensor([1, 3, 5]))
    save_checkpoint(tmp_path / "a.pt", network, ModelInfo("mlcl-edge"))
    with pytest.raises(ModelError, match=r"of another form: .*dilations"):
        load_checkpoint(tmp_path / "a.pt")


def test_unknown_variant(saved: Path) -> None:
    info = ModelInfo("mlcl-huge").to_json()
    rewrite(saved, lambda content: content.update(info=info))
    with pytest.raises(ModelError, match=r"'mlcl-huge'.*known: mlcl-base"):
        load_model(saved)


def test_weights_that_are_not_the_records(saved: Path) -> None:
    def bump(content: dict[str, Any]) -> None:
        next(iter(content["model"].values())).view(-1)[0] += 1

    rewrite(saved, bump)
    with pytest.raises(ModelError, match="SHA-256 differs"):
        load_model(saved)


def test_weights_that_are_not_finite(saved: Path) -> None:
    def poison(content: dict[str, Any]) -> None:
        next(iter(content["model"].values())).view(-1)[0] = float("nan")

    rewrite(saved, poison)
    with pytest.raises(ModelError, match="not finite"):
        load_model(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("info"),
        lambda content: content.pop("model"),
        lambda content: content.update(info="{}"),
        lambda content: content.update(info=3),
        lambda content: content.update(model=[1, 2]),
    ],
)
def test_broken_content(saved: Path, change: Callable[[dict[str, Any]], object]) -> None:
    rewrite(saved, change)
    one_line(saved)


def one_line(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message and len(message) < 400
    return message


@pytest.mark.parametrize("keep", [1, 100, 0.5, 0.99])
def test_cut_short(saved: Path, keep: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    assert "damaged" in one_line(saved)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_text("these are no weights\n" * 20)
    assert "not a PyTorch checkpoint" in one_line(path)
    path.write_bytes(b"")
    assert "empty" in one_line(path)
    path.unlink()
    path.mkdir()
    assert "folder" in one_line(path)


def test_a_checkpoint_of_no_network(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"backbone.conv1.weight": torch.zeros(3)}, path)
    assert "backbone.conv1.weight" in one_line(path)
    torch.save(torch.zeros(3), path)
    assert "Tensor" in one_line(path)
    torch.save({}, path)
    assert "nothing" in one_line(path)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"model": create_model("mlcl-edge")}, path)
    assert "Python objects" in one_line(path)


def test_training_starts_from_what_fits(tmp_path: Path) -> None:
    small = create_model("mlcl-small")
    save_checkpoint(tmp_path / "small.pt", small, ModelInfo("mlcl-small"))
    own = load_initial(tmp_path / "small.pt")
    assert own.variant == "mlcl-small" and not own.fresh and own.module.training

    base = load_initial(tmp_path / "small.pt", "mlcl-base")
    assert base.variant == "mlcl-base" and base.fresh
    theirs, mine = small.state_dict(), base.module.state_dict()
    assert all(".2." in name for name in base.fresh), "the third block of each level is what the small network lacks"
    for name in mine.keys() - set(base.fresh):
        torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=0)


def test_nothing_that_fits_is_told(tmp_path: Path) -> None:
    torch.save({"state_dict": {"some.weight": torch.zeros(3)}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="holds no network"):
        load_initial(tmp_path / "other.pt", "mlcl-edge")
    content = torch.load(_saved_edge(tmp_path), weights_only=True)
    content["model"] = {"other": torch.zeros(3)}
    torch.save(content, tmp_path / "bare.pt")
    with pytest.raises(ModelError, match="SHA-256 differs"):
        load_initial(tmp_path / "bare.pt")
    content["info"] = ModelInfo.from_json(content["info"]).replace(weights_sha256="").to_json()
    torch.save(content, tmp_path / "bare.pt")
    with pytest.raises(ModelError, match="nothing that fits mlcl-edge"):
        load_initial(tmp_path / "bare.pt")


def test_a_start_is_meant_by_name_too() -> None:
    with pytest.raises(UsageError, match="did you mean mlcl-edge"):
        load_initial("mlcl-egde")


def _saved_edge(folder: Path) -> Path:
    save_checkpoint(folder / "edge.pt", create_model("mlcl-edge"), ModelInfo("mlcl-edge"))
    return folder / "edge.pt"
