"""Import of the checkpoints that the authors of MLCL-Net released for PyTorch.

Their networks take three equal channels; irdet's take one, so the first kernel is summed over its inputs, which is
exact on grey input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from irdet.core.errors import UsageError

#: Their training scripts store the weights bare or under one of these.
_WRAPPERS = ("state_dict", "net", "model")

#: Every key of theirs begins like one of these.
_FIRST = "stage.layer1.0.weight"

#: Position in a plain block of theirs -> in ours, which keeps a place for the pooling of the down-sampling block.
_PLAIN = {"0": "0", "1": "1", "3": "4", "4": "5"}


def unwrap(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the table of weights: out of its wrapper, and without the `module.` of data-parallel training."""
    for wrapper in _WRAPPERS:
        inner = content.get(wrapper)
        if isinstance(inner, Mapping):
            content = inner
            break
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def convert(content: Mapping[str, Any]) -> tuple[str, dict[str, Tensor]] | None:
    """Recognises the authors' weights and renames them.

    Args:
        content: What the file holds.

    Returns:
        The name of our network and its weights, or None when the file is not theirs.

    Raises:
        UsageError: The weights are theirs in part; names a key that is not.
    """
    weights = unwrap(content)
    first = weights.get(_FIRST)
    if not isinstance(first, Tensor):
        return None
    converted = {}
    for key, value in weights.items():
        name = _rename(key)
        if name is None:
            raise UsageError(f"the weights begin like the authors' but {key} is not a key of theirs")
        converted[name] = value
    if first.ndim == 4:
        # Summed in double precision, so that the sum itself adds nothing to the difference from their output.
        converted["stem.0.weight"] = first.double().sum(1, keepdim=True).to(first.dtype)
    blocks = 3 if any(key.startswith("stage.resnet1_3.") for key in weights) else 2
    return ("mlcl-base" if blocks == 3 else "mlcl-small"), converted


def _rename(key: str) -> str | None:
    """Their key -> ours; None when it is not a key of theirs (the tables are in the design's section 3)."""
    if match := re.fullmatch(r"stage\.layer1\.([0134])\.(\w+)", key):
        return f"stem.{match[1]}.{match[2]}"
    if match := re.fullmatch(r"stage\.resnet([123])_([123])\.(layer|layer1|layer2)\.(\d)\.(\w+)", key):
        level, block, part, position, leaf = match.groups()
        path, place = {
            "layer": ("main", _PLAIN.get(position)),
            "layer1": ("main", position),
            "layer2": ("skip", position),
        }[part]
        return f"stages.{int(level) - 1}.{int(block) - 1}.{path}.{place}.{leaf}"
    if match := re.fullmatch(r"mlcl([123])\.layer([123])\.([02])\.(\w+)", key):
        return f"mlcl.{int(match[1]) - 1}.branches.{int(match[2]) - 1}.{match[3]}.{match[4]}"
    if match := re.fullmatch(r"mlcl([123])\.conv\.(\w+)", key):
        return f"mlcl.{int(match[1]) - 1}.fuse.{match[2]}"
    if match := re.fullmatch(r"conv([123])\.0\.(\w+)", key):
        return f"bfpn.laterals.{int(match[1]) - 1}.0.{match[2]}"
    if match := re.fullmatch(r"layer\.([02])\.(\w+)", key):
        return f"head.{match[1]}.{match[2]}"
    return None
