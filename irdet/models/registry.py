"""The networks by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from irdet.core.errors import unknown_name
from irdet.models.alcnet import ALCNet
from irdet.models.mlcl import MLCLEdge, MLCLNet, Network
from irdet.models.resnet20_fpn import ResNet20FPN


@dataclass(frozen=True)
class ModelSpec:
    """How to build one network.

    Attributes:
        name: What users call it.
        build: Makes it with fresh weights.
        summary: One line for lists.
    """

    name: str
    build: Callable[[], Network]
    summary: str


_SPECS = (
    ModelSpec("mlcl-base", lambda: MLCLNet(blocks=3), "the authors' network, 3 blocks per level"),
    ModelSpec("mlcl-small", lambda: MLCLNet(blocks=2), "the authors' network, 2 blocks per level"),
    ModelSpec("mlcl-edge", MLCLEdge, "irdet's network for edge devices"),
    ModelSpec("resnet20-fpn", ResNet20FPN, "mlcl-base without local contrast: the baseline of its paper"),
    ModelSpec("alcnet", ALCNet, "attentional local contrast network (Dai et al. 2021)"),
)

#: Every network that irdet can build, by name.
MODELS = MappingProxyType({spec.name: spec for spec in _SPECS})


def find_spec(name: str) -> ModelSpec:
    """Returns the network of that name.

    Raises:
        UsageError: No such network; suggests the nearest name.
    """
    if name in MODELS:
        return MODELS[name]
    raise unknown_name("network", name, MODELS)


def create_model(name: str) -> Network:
    """Builds a network with fresh weights (drawn from torch's global generator).

    Args:
        name: A key of `MODELS`.

    Returns:
        The network in training mode; its forward pass gives logits.

    Raises:
        UsageError: No such network; suggests the nearest name.
    """
    return find_spec(name).build()
