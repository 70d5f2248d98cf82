"""What is done to a network before it is traced leaves its answers as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from irdet.core.errors import ModelError
from irdet.engines.probe import as_batch, probe_frame
from irdet.export.graph import deployable, fold_batchnorm
from irdet.models import MODELS, LoadedModel, create_model, weights_digest


def lived_in(name: str) -> nn.Module:
    """A network whose batch normalisation is not the identity."""
    torch.manual_seed(1)
    module = create_model(name)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                if layer.affine:
                    layer.weight.uniform_(0.5, 1.5)
                    layer.bias.normal_(0, 0.3)
                layer.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
                layer.running_var.uniform_(0.3, 2)  # type: ignore[union-attr]
    return module.eval()


@pytest.mark.parametrize("name", list(MODELS))
def test_folding_is_exact(name: str) -> None:
    module = lived_in(name).double()
    digest = weights_digest(module)
    folded = fold_batchnorm(module)
    assert not [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert weights_digest(module) == digest, "the network itself was changed"
    x = torch.from_numpy(as_batch(probe_frame(48, 64)[None])).double()
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), module(x), rtol=1e-9, atol=1e-9)


def test_a_batchnorm_that_cannot_be_folded_is_named() -> None:
    with pytest.raises(ModelError, match="BatchNorm at 1 is not one over images"):
        fold_batchnorm(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(1)))


@pytest.mark.parametrize("affine", [True, False])
def test_a_batchnorm_behind_no_convolution_becomes_a_factor_and_a_summand(affine: bool) -> None:
    torch.manual_seed(2)
    module = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3, affine=affine)).double()
    x = 2 + 3 * torch.randn(4, 3, 8, 8, dtype=torch.float64)
    module(x)  # in training mode: it takes on some of the mean and variance
    folded = fold_batchnorm(module)
    assert not [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm2d)]
    torch.testing.assert_close(folded(x), module.eval()(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threshold", [0.02, 0.5, 0.9])
def test_deployed_masks_are_the_networks_own(sharp_model: Callable[..., LoadedModel], threshold: float) -> None:
    model = sharp_model("mlcl-edge", threshold=threshold)
    x = torch.from_numpy(as_batch(probe_frame(64, 80)[None]))
    with torch.inference_mode():
        own = torch.sigmoid(model.module(x))
        deployed = deployable(model)(x)
    clear = (own - threshold).abs() > 1e-5
    assert torch.equal((own >= threshold)[clear], (deployed >= 0.5)[clear])
    assert (own >= threshold).any() and not (own >= threshold).all()
