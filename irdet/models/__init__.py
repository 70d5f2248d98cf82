"""Networks, their checkpoints and what they cost. Needs torch."""

from irdet.models.checkpoints import (
    LoadedModel,
    load_checkpoint,
    load_initial,
    load_model,
    save_checkpoint,
    weights_digest,
)
from irdet.models.registry import MODELS, ModelSpec, create_model

__all__ = [
    "MODELS",
    "LoadedModel",
    "ModelSpec",
    "create_model",
    "load_checkpoint",
    "load_initial",
    "load_model",
    "save_checkpoint",
    "weights_digest",
]
