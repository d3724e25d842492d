"""What a tuner has saved, checked before any of it is used: compiled code trusts the sizes of what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def fitting_state(groups: Sequence[dict[str, Any]], state_dict: dict[str, Any], also: dict[str, tuple[int, ...]] | None = None) -> dict[int, dict[str, Tensor]]:
    """Copies of the state of every parameter, by position, on its device; buffers in fp32 at least, as tuners keep them.

    Args:
        groups: Parameter groups of the tuner that the state is for.
        state_dict: As ``state_dict`` made it.
        also: Name -> shape of state that is not of its parameter's shape; it keeps its precision.

    Raises:
        ValueError: It was saved from other parameters.
    """
    lengths, saved = ([len(group["params"]) for group in own] for own in (groups, state_dict["param_groups"]))
    if lengths != saved:
        raise ValueError(f"the state was saved from parameter groups of {saved} tensors, these have {lengths}: load it into the same network")
    tensors = [tensor for group in groups for tensor in group["params"]]
    found: dict[int, dict[str, Tensor]] = {}
    for index, entry in ((int(index), entry) for index, entry in state_dict["state"].items()):
        if not 0 <= index < len(tensors):
            raise ValueError(f"the state is of parameter {index}, there are {len(tensors)}: load it into the same network")
        found[index] = {name: _fitting(f"{name} of parameter {index}", value, tensors[index], (also or {}).get(name)) for name, value in entry.items()}
    return found


def _fitting(what: str, value: Tensor, tensor: Tensor, own: tuple[int, ...] | None) -> Tensor:
    shape = tuple(tensor.shape) if own is None else own
    if tuple(value.shape) != shape:
        raise ValueError(f"{what} was saved with shape {tuple(value.shape)}, it has {shape} here: load it into the same network")
    precision = torch.promote_types(tensor.dtype, torch.float32) if own is None else value.dtype
    return value.detach().to(tensor.device, precision).clone(memory_format=torch.contiguous_format)
