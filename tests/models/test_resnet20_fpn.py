"""The baseline is `mlcl-base` without its local contrast, and nothing else."""

from __future__ import annotations

import torch
from torch import nn

from irdet.models import create_model
from irdet.models.mlcl import MLCL, MLCLNet


def test_parameters_by_hand() -> None:
    def conv(inputs: int, width: int) -> int:  # 3x3 with bias, and batch normalisation
        return 9 * inputs * width + width + 2 * width

    def stage(inputs: int, width: int) -> int:
        down = conv(inputs, width) if inputs != width else 0
        return conv(inputs, width) + 5 * conv(width, width) + down

    stem = conv(1, 16) + conv(16, 16)
    laterals = sum(width * 64 + 64 for width in (16, 32, 64))
    head = (64 * 64 + 64) + (64 + 1)
    total = stem + stage(16, 16) + stage(16, 32) + stage(32, 64) + laterals + head
    assert total == 306_737
    assert sum(p.numel() for p in create_model("resnet20-fpn").parameters()) == total


def test_mlcl_base_without_mlcl_is_the_baseline() -> None:
    torch.manual_seed(0)
    base, plain = create_model("mlcl-base").eval(), create_model("resnet20-fpn").eval()
    assert isinstance(base, MLCLNet)
    weights = {name.replace("bfpn.", "fpn."): value for name, value in base.state_dict().items()}
    plain.load_state_dict({name: value for name, value in weights.items() if not name.startswith("mlcl.")})
    base.mlcl = nn.ModuleList(nn.Identity() for _ in base.mlcl)
    base.bfpn.laterals = nn.ModuleList(nn.Sequential(*list(lateral.children())[:1]) for lateral in base.bfpn.laterals)
    x = torch.rand(1, 1, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(plain(x), base(x), rtol=0, atol=0)
    assert not any(isinstance(module, MLCL) for module in plain.modules())
