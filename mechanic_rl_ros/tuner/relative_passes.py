"""The two passes over memory that make a step of ``RelativeMechanic``, by torch's operations on lists of tensors: any device, any precision."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Columns(NamedTuple):
    """Lists of as many tensors, of one shape, precision and device in every place: g, y, D, Adam's second moment, the average of z, x_ref.

    All but y are contiguous.
    """

    gradients: list[Tensor]
    values: list[Tensor]
    directions: list[Tensor]
    seconds: list[Tensor]
    averages: list[Tensor]
    references: list[Tensor]


class Numbers(NamedTuple):
    """Weight of the average in the point where gradients are taken, decay of the second moment, epsilon, weight decay."""

    momentum: float
    decay: float
    epsilon: float
    weight_decay: float


def sums(columns: Columns, corrections: Tensor, constants: Numbers) -> Tensor:
    """What a step needs to know before it changes anything.

    Args:
        columns: Tensors, unchanged.
        corrections: What Adam multiplies the second moment with, (n,), float64, on the host.
        constants: Numbers of the method.

    Returns:
        |g|^2, |y|^2, <D, g>, <D, y>, |u|^2 of every tensor, float64 (n, 5); u is the update.
    """
    gradients, values, directions, seconds, _, _ = columns
    seconds = list(torch._foreach_mul(seconds, constants.decay))
    updates = _updates(gradients, values, _advanced(seconds, gradients, constants), corrections, constants)
    squares = [torch.stack(torch._foreach_norm(column)).double().square() for column in (gradients, values, updates)]
    slopes = [
        torch.stack([torch.dot(d.flatten(), other.flatten()) for d, other in zip(directions, column, strict=True)]).double() for column in (gradients, values)
    ]
    return torch.stack([*squares[:2], *slopes, squares[2]], dim=1)


def move(columns: Columns, corrections: Tensor, lengths: Tensor, shares: Tensor, scales: Tensor, constants: Numbers) -> None:
    """Makes the step in place: the second moment takes g in, D += length u, z = x_ref + scale D, average += share (z - average), y between z and average.

    Args:
        columns: Tensors; gradients and references stay as they are.
        corrections: As of ``sums``.
        lengths: How far D goes along u, (n,), on the device of the tensors.
        shares: Of the new z in the average, (n,), on the host.
        scales: S, (n,), on the device of the tensors.
        constants: Numbers of the method.
    """
    gradients, values, directions, seconds, averages, references = columns
    torch._foreach_mul_(seconds, constants.decay)
    updates = _updates(gradients, values, _advanced(seconds, gradients, constants), corrections, constants)
    precision = values[0].dtype
    torch._foreach_add_(directions, torch._foreach_mul(updates, lengths.to(precision).unbind()))
    moved = torch._foreach_add(references, torch._foreach_mul(directions, scales.to(precision).unbind()))
    for average, z, share in zip(averages, moved, shares.tolist(), strict=True):
        average.lerp_(z, share)
    torch._foreach_copy_(values, torch._foreach_lerp(moved, averages, constants.momentum))


def _advanced(decayed: list[Tensor], gradients: list[Tensor], constants: Numbers) -> list[Tensor]:
    torch._foreach_addcmul_(decayed, gradients, gradients, 1.0 - constants.decay)
    return decayed


def _updates(gradients: list[Tensor], values: list[Tensor], seconds: list[Tensor], corrections: Tensor, constants: Numbers) -> list[Tensor]:
    denominators = torch._foreach_mul(seconds, corrections.tolist())
    torch._foreach_sqrt_(denominators)
    torch._foreach_add_(denominators, constants.epsilon)
    updates = list(torch._foreach_div(gradients, denominators))
    torch._foreach_add_(updates, values, alpha=constants.weight_decay)
    return updates
