"""Checkpoints: irdet's own are written and read here; the authors' files are recognised and imported."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from irdet import __version__
from irdet.core.errors import ModelError, UsageError, unknown_name
from irdet.core.files import replacing
from irdet.core.info import ModelInfo
from irdet.engines.shipped import shipped_models, shipped_path
from irdet.models import authors
from irdet.models.mlcl import Network
from irdet.models.registry import MODELS, create_model

#: Marks a file as ours and says how to read it.
FORMAT = "irdet-1"

#: Batch normalisation counts its batches in it, which computes nothing.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network with its weights and its record.

    Attributes:
        module: The network in evaluation mode, float32, on the CPU; gives logits.
        info: Its record.
    """

    module: Network
    info: ModelInfo


def weights_digest(module: nn.Module) -> str:
    """Returns the SHA-256 over the weights: sorted names, shapes and float32 bytes.

    Batch normalisation's running figures belong to them; its counter of batches does not, since it computes nothing.
    """
    return _digest(module.state_dict())


def _digest(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        if name.endswith(_COUNTER):
            continue
        values = np.ascontiguousarray(tensor.detach().cpu().float().numpy(), dtype="<f4")
        digest.update(f"{name} {list(values.shape)}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def save_checkpoint(
    path: str | os.PathLike[str], module: Network, info: ModelInfo, state: Mapping[str, Any] | None = None
) -> ModelInfo:
    """Writes a checkpoint in one step: a run that dies leaves the old file or the new one, never half of one.

    Args:
        path: The file, usually `.pt`.
        module: The network; its weights are stored as float32.
        info: Its record. Parameters, stride, version and the weights' digest are filled in here.
        state: What training needs to go on: tensors, numbers, texts, None, and lists, tuples and dicts of these.

    Returns:
        The record as it was written.

    Raises:
        TypeError: `state` holds something that a safe load would refuse.
        IrdetError: The file cannot be written.
    """
    info = describe(module, info)
    content: dict[str, Any] = {
        "format": FORMAT,
        "info": info.to_json(),
        "model": {
            name: tensor.detach().cpu().float() if tensor.is_floating_point() else tensor.detach().cpu()
            for name, tensor in module.state_dict().items()
        },
    }
    if state is not None:
        content["training"] = _plain(dict(state), "state")
    with replacing(path) as temporary:
        torch.save(content, temporary)
    return info


def describe(module: Network, info: ModelInfo) -> ModelInfo:
    """Returns the record with what can be read from the network itself: parameters, stride, digest, version."""
    return info.replace(
        parameters=sum(p.numel() for p in module.parameters()),
        stride=module.stride,
        weights_sha256=weights_digest(module),
        irdet_version=__version__,
    )


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[LoadedModel, dict[str, Any] | None]:
    """Reads a checkpoint of irdet's, or one of the authors' released files.

    Nothing in the file is executed: it is read with torch's `weights_only`.

    Returns:
        The model, and what training stored beside it, None where there is nothing.

    Raises:
        ModelError: No such file, no checkpoint, damaged, or of another network; says what was found.
    """
    path = Path(path)
    content = _read(path)
    if content.get("format") != FORMAT:
        return _import_authors(content, path), None
    info, weights = _stored(content, path)
    if info.variant not in MODELS:
        raise ModelError(f"{path} holds network {info.variant!r}, which this irdet does not have; {_known()}")
    module = create_model(info.variant)
    _fill(module, weights, f"{path} ({info.variant})")
    _check_digest(info, weights, path)
    return LoadedModel(module.eval(), info), content.get("training")


@dataclass(frozen=True, eq=False)
class Initial:
    """What training starts from.

    Attributes:
        module: The network in training mode, on the CPU.
        variant: Its name.
        fresh: Tensors that the checkpoint does not have in that shape: drawn anew.
        info: The checkpoint's record.
    """

    module: Network
    variant: str
    fresh: tuple[str, ...]
    info: ModelInfo


def load_initial(path: str | os.PathLike[str], variant: str | None = None, seed: int = 0) -> Initial:
    """Returns a network to train further, with what fits of a checkpoint of another network or an older form of it.

    Args:
        path: A checkpoint of irdet's, one of the authors' released files, or the name of a shipped model.
        variant: The network to fill; None for the checkpoint's own.
        seed: Draws what does not fit.

    Raises:
        ModelError: No such file, no checkpoint, altered, or nothing in it fits.
        UsageError: No such network.
    """
    path = _resolve(path)
    content = _read(path)
    if content.get("format") == FORMAT:
        info, weights = _stored(content, path)
        _check_digest(info, weights, path)
    else:
        loaded = _import_authors(content, path)
        weights, info = loaded.module.state_dict(), loaded.info
    own = info.variant
    torch.manual_seed(seed)
    module = create_model(variant or own)
    wanted = module.state_dict()
    fitting = {
        key: weights[key] for key, tensor in wanted.items() if key in weights and weights[key].shape == tensor.shape
    }
    if not fitting:
        raise ModelError(f"{path} ({own}) holds nothing that fits {variant or own}")
    fresh = tuple(key for key in wanted if key not in fitting)
    _fill(module, wanted | fitting, f"{path} ({own})")
    return Initial(module, variant or own, fresh, info)


def load_model(model: str | os.PathLike[str]) -> LoadedModel:
    """Loads a network by file, or by the name of a shipped model.

    Args:
        model: A checkpoint of irdet's or of the authors' release, or a name such as `"mlcl-edge"`.

    Returns:
        The network in evaluation mode, with its record.

    Raises:
        ModelError: No such file, or it does not hold a network.
        UsageError: No model is called that, or there is no checkpoint of it; suggests the nearest name.
    """
    return load_checkpoint(_resolve(model))[0]


def _resolve(model: str | os.PathLike[str]) -> Path:
    """Returns the file that a name or a path means."""
    if isinstance(model, str) and not Path(model).is_file() and (shipped := shipped_path(model, ".pt")):
        return shipped
    if isinstance(model, str) and not Path(model).is_file() and model in MODELS:
        if graph := shipped_path(model, ".onnx"):
            raise ModelError(
                f"the wheel holds {graph.name} alone; "
                f"the checkpoint lies in irdet's repository, irdet/weights/{model}.pt"
            )
        names = ", ".join(shipped_models()) or "none"
        raise ModelError(f"no weights for {model} come with irdet (shipped: {names}); train it, or give a .pt file")
    if isinstance(model, str) and not Path(model).exists() and Path(model).name == model and not Path(model).suffix:
        if model in shipped_models():
            raise UsageError(f"{model} comes as an ONNX file alone: there is no checkpoint of it")
        raise unknown_name("network", model, [name for name in shipped_models() if shipped_path(name, ".pt")] or MODELS)
    return Path(model)


def _stored(content: Mapping[str, Any], path: Path) -> tuple[ModelInfo, Mapping[str, Tensor]]:
    """Returns the record and the weights of a checkpoint of irdet's."""
    try:
        info, weights = ModelInfo.from_json(content["info"]), content["model"]
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path} is marked {FORMAT} but lacks its record or its weights; it is damaged") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ModelError(f"{path}: its weights are not a table of tensors; the file is damaged")
    return info, weights


def _check_digest(info: ModelInfo, weights: Mapping[str, Tensor], path: Path) -> None:
    if info.weights_sha256 and info.weights_sha256 != _digest(weights):
        raise ModelError(f"{path}: the weights are not those of its record (SHA-256 differs); the file was altered")


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ModelError(f"no such file: {path}")
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not a checkpoint")
    if not path.stat().st_size:
        raise ModelError(f"{path} is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file that is refused in one line below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path):
            raise ModelError(
                f"{path} holds Python objects beside weights, which are never loaded; save its state_dict alone"
            ) from error
        raise ModelError(f"{path} is not a PyTorch checkpoint, or it is damaged") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # torch has no one error for a damaged file: RuntimeError, EOFError, KeyError ...
        raise ModelError(f"{path} is not a PyTorch checkpoint, or it is damaged or cut short") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not a checkpoint; {_expected()}")
    return content


def _import_authors(content: Mapping[str, Any], path: Path) -> LoadedModel:
    try:
        imported = authors.convert(content)
    except UsageError as error:
        raise ModelError(f"{path}: {error}") from error
    if imported is None:
        keys = authors.unwrap(content)
        raise ModelError(f"{path} holds no network that irdet knows (found {_few(keys)}); {_expected()}")
    variant, weights = imported
    module = create_model(variant)
    _fill(module, weights, f"{path} (the authors' {variant})")
    info = ModelInfo(variant=variant, training={"source": "the authors' PyTorch release"})
    return LoadedModel(module.eval(), describe(module, info))


def _fill(module: Network, weights: object, where: str) -> None:
    """Loads weights strictly and says in one line what does not fit."""
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ModelError(f"{where}: its weights are not a table of tensors; the file is damaged")
    wanted = module.state_dict()
    problems = []
    if missing := [key for key in wanted if key not in weights]:
        problems.append(f"missing {_few(missing)}")
    if unexpected := [key for key in weights if key not in wanted]:
        problems.append(f"unexpected {_few(unexpected)}")
    if reshaped := [
        f"{key} {list(weights[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted
        if key in weights and weights[key].shape != wanted[key].shape
    ]:
        problems.append(f"shapes {_few(reshaped)}")
    if problems:
        raise ModelError(f"{where}: the weights are of another network: {'; '.join(problems)}")
    if broken := [key for key, value in weights.items() if not torch.isfinite(value).all()]:
        raise ModelError(f"{where}: the weights hold values that are not finite: {_few(broken)}")
    fixed = [key for key, value in wanted.items() if not value.is_floating_point() and not key.endswith(_COUNTER)]
    if other := [key for key in fixed if not torch.equal(wanted[key], weights[key])]:
        raise ModelError(f"{where}: the weights are of a network of another form: {_few(other)} differs")
    module.load_state_dict(dict(weights))


def _plain(value: Any, where: str) -> Any:
    """Checks that a safe load will take the value, so that a run never writes what it cannot resume from."""
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(item, f"{where}[{i}]") for i, item in enumerate(value)])
    if value is None or type(value) in (bool, int, float, str, bytes) or isinstance(value, Tensor):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}; a checkpoint holds tensors, numbers, texts, lists and dicts")


def _few(names: Iterable[object], limit: int = 3) -> str:
    texts = [str(name) for name in names]
    rest = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return (", ".join(texts[:limit]) or "nothing") + rest


def _known() -> str:
    return f"known: {', '.join(MODELS)}"


def _expected() -> str:
    return "expected a checkpoint of irdet's, or the authors' mlcl-base or mlcl-small"
