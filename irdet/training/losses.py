"""The training loss: soft IoU over the batch and per crop, cross-entropy over the hardest pixels, and false alarms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from irdet.training.recipe import Recipe

#: Pixels of each crop that count as its false alarms, and how far from a target they lie at least, px: nearer ones are
#: a matter of the mask's edge.
ALARM_PIXELS, ALARM_DISTANCE = 16, 8


def soft_iou_loss(probability: Tensor, truth: Tensor, *, per_sample: bool) -> Tensor:
    """1 - soft IoU (Rahman & Wang 2016), the loss that MLCL-Net was trained with.

    Overlap and union are the sums of the smaller and of the larger value of each pixel. Of a truth of 0 and 1 that is
    what products give; of one between, the loss is smallest at that very value (Wang et al., Jaccard Metric Losses,
    NeurIPS 2023), which it is not with products.

    Summed over the whole batch it weighs every false pixel alike wherever it stands, as the data set's IoU does, and
    a target-free crop still has a gradient. Summed per crop it weighs every frame alike, as nIoU does; crops
    without targets have no IoU and are left out.

    Args:
        probability: [N, 1, H, W] in [0, 1].
        truth: [N, 1, H, W] in [0, 1].
        per_sample: Mean over crops instead of one ratio over the batch.

    Returns:
        Scalar in [0, 1].
    """
    axes = (1, 2, 3)
    below = probability < truth  # not minimum and maximum: their gradients point the wrong way where both are 0
    overlap = torch.where(below, probability, truth).sum(axes)
    union = torch.where(below, truth, probability).sum(axes)
    if not per_sample:
        return 1 - (overlap.sum() + 1) / (union.sum() + 1)
    filled = (truth.sum(axes) > 0).to(overlap.dtype)
    iou = (overlap + 1) / (union + 1)
    return 1 - (iou * filled).sum() / filled.sum().clamp(min=1) if bool(filled.any()) else overlap.sum() * 0


def hard_pixel_loss(logits: Tensor, truth: Tensor, share: float) -> Tensor:
    """Binary cross-entropy over the hardest pixels of the batch (Wu et al. 2016, online bootstrapping).

    Targets fill about one pixel in a thousand: the mean over all pixels is a mean over easy sky.

    Args:
        logits: [N, 1, H, W].
        truth: [N, 1, H, W] in [0, 1].
        share: Share of pixels that count.

    Returns:
        Scalar.
    """
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").flatten()
    return loss.topk(max(1, int(share * loss.numel()))).values.mean()


def near_targets(truth: Tensor) -> Tensor:
    """Returns where a target is at most `ALARM_DISTANCE` pixels away along both axes.

    By windows that double: a ninth of the time of max_pool2d, which was an eighth of mlcl-edge's step on the CPU.

    Args:
        truth: [N, 1, H, W], 0 or 1.

    Returns:
        [N, 1, H, W], 0 or 1.
    """
    near = F.pad(truth, (ALARM_DISTANCE,) * 4)
    side = 2 * ALARM_DISTANCE + 1
    for axis in (2, 3):
        width = 1
        while width < side:
            shift = min(width, side - width)
            length = near.shape[axis] - shift
            near = torch.maximum(near.narrow(axis, 0, length), near.narrow(axis, shift, length))
            width += shift
    return near


def alarm_loss(logits: Tensor, near: Tensor) -> Tensor:
    """Binary cross-entropy over the `ALARM_PIXELS` brightest pixels of each crop that lie far from every target.

    A false target of four pixels is one pixel in a hundred thousand of a batch: the soft IoU of a batch and its hardest
    pixels hardly see it, and whoever uses the network sees it in every frame. Here it is a quarter of what counts.

    Args:
        logits: [N, 1, H, W].
        near: `near_targets` of the truth.

    Returns:
        Scalar.
    """
    far = logits.masked_fill(near > 0, -torch.inf).flatten(1)
    return F.softplus(far.topk(ALARM_PIXELS, dim=1).values).mean()


def detection_loss(logits: Tensor, truth: Tensor, recipe: Recipe) -> Tensor:
    """The loss of a recipe.

    Args:
        logits: [N, 1, H, W].
        truth: [N, 1, H, W], 0 or 1.
        recipe: Gives the weights of the terms.

    Returns:
        Scalar.
    """
    logits = logits.float()  # sums over a batch overflow half precision
    probability = torch.sigmoid(logits)
    loss = (
        soft_iou_loss(probability, truth, per_sample=False)
        + recipe.per_sample * soft_iou_loss(probability, truth, per_sample=True)
        + recipe.pixel * hard_pixel_loss(logits, truth, recipe.hard_share)
    )
    return loss + recipe.alarm * alarm_loss(logits, near_targets(truth)) if recipe.alarm else loss
