"""One pass over memory that makes the step of torch's Adam or AdamW on D and then moves the parameters, on the processor.

By itself such a base moves 28 bytes per parameter, and ``kernels.place`` 20 more with decay; together it is 40. With the pass that looks for the slope
that is 48, which is 1.7 times what fused AdamW moves, and near the least that Mechanic's equations allow.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mechanic_rl_ros.tuner.kernels import library_for, numbers, or_in_double_precision, place, pointers, sizes

State = dict[Tensor, dict[str, Tensor]]


def adam_library(base: torch.optim.Optimizer, state: State, tensors: list[Tensor]) -> Any:
    """The compiled library, if it can make this step for the base.

    Args:
        base: The optimizer whose state is kept for ``direction`` of every tensor.
        state: Of the tuner.
        tensors: Parameters with a gradient. The first step of each is the base's own: it knows how to begin.
    """
    if type(base) not in (torch.optim.Adam, torch.optim.AdamW) or _is_watched(base) or not all(map(_is_plain, base.param_groups)):
        return None
    if not all(state[tensor]["direction"] in base.state for tensor in tensors):
        return None
    return library_for(*_columns(base, state, tensors))


def _columns(base: torch.optim.Optimizer, state: State, tensors: list[Tensor]) -> list[list[Tensor]]:
    """What the pass goes through: gradients, both moments, D, x_ref and parameters."""
    directions = [state[tensor]["direction"] for tensor in tensors]
    moments = [[base.state[direction][name] for direction in directions] for name in ("exp_avg", "exp_avg_sq")]
    return [[tensor.grad for tensor in tensors], *moments, directions, [state[tensor]["reference"] for tensor in tensors], tensors]  # type: ignore[list-item]


def step(library: Any, base: torch.optim.Optimizer, state: State, scale: Tensor) -> Tensor:
    """D = D + u and x = x_ref + scale D, in place; u is the update of the base, whose state goes on as if it had made the step.

    Args:
        library: Of ``adam_library``.
        base: Of which ``adam_library`` found that it fits.
        state: Of the tuner.
        scale: S, a tensor of one number.

    Returns:
        <D, x> and |x|^2 over all parameters after that, float64 (2,).
    """
    found = [_place_group(library, base, group, state, scale) for group in base.param_groups]
    still = [tensor for tensor in state if tensor.grad is None]
    if still:
        found.append(place([state[t]["direction"] for t in still], [state[t]["reference"] for t in still], still, [0.0] * len(still), scale))
    return torch.stack(found).sum(dim=0)


def _place_group(library: Any, base: torch.optim.Optimizer, group: dict[str, Any], state: State, scale: Tensor) -> Tensor:
    tensors = [tensor for tensor in group["params"] if tensor.grad is not None]
    if not tensors:
        return torch.zeros(2, dtype=torch.float64)
    directions = [state[tensor]["direction"] for tensor in tensors]
    known = [base.state[direction] for direction in directions]
    torch._foreach_add_([own["step"] for own in known], 1)
    times = torch.stack([own["step"] for own in known]).double()
    rate, (first_decay, second_decay), decay = float(group["lr"]), map(float, group["betas"]), float(group["weight_decay"])
    coupled, decoupled = (0.0, rate * decay) if group["decoupled_weight_decay"] else (decay, 0.0)
    constants = numbers((first_decay, second_decay, group["eps"], coupled, decoupled, -1.0 if group["maximize"] else 1.0))
    lengths, roots = rate / (1.0 - first_decay**times), (1.0 - second_decay**times).rsqrt()
    columns = _columns(base, state, tensors)
    out = torch.empty(len(tensors), 2, dtype=torch.float64)
    library.mechanic_adam_place(
        len(tensors),
        *map(pointers, columns),
        sizes(tensors),
        constants,
        numbers(lengths.tolist()),
        numbers(roots.tolist()),
        float(scale),
        torch.get_num_threads(),
        out.data_ptr(),
    )
    return or_in_double_precision(out.sum(dim=0), directions, tensors)


def _is_plain(group: dict[str, Any]) -> bool:
    return not (group["amsgrad"] or group["differentiable"] or group["capturable"])


def _is_watched(base: torch.optim.Optimizer) -> bool:
    # A scheduler or a hook wants to see the base step.
    return bool("step" in vars(base) or base._optimizer_step_pre_hooks or base._optimizer_step_post_hooks)
