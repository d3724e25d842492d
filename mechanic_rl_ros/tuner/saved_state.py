"""What a tuner has saved, checked before any of it is used: compiled code trusts the sizes of what it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

SWITCHES = {"foreach", "fused", "capturable", "differentiable", "maximize", "decoupled_weight_decay"}
"""Settings of optimizers that versions of torch have added, which a state may lack."""

SINGLE = {"step", "mu_product"}
"""What torch's optimizers keep as a single number for a whole parameter."""


def require_dense(tensors: Iterable[Tensor], tuner: str) -> None:
    """Refuses what a tuner cannot move.

    Raises:
        TypeError: A parameter is complex, or a gradient sparse.
    """
    if any(tensor.is_complex() or tensor.grad is None or tensor.grad.layout is not torch.strided for tensor in tensors):
        raise TypeError(f"{tuner} takes dense real gradients only")


def require_shape(tensor: Tensor, reference: Tensor) -> None:
    """Refuses a parameter that is not what it was when it was first moved.

    Raises:
        ValueError: It, or its gradient, has another shape.
    """
    if tensor.shape != reference.shape or (tensor.grad is not None and tensor.grad.shape != reference.shape):
        found = tensor if tensor.shape != reference.shape or tensor.grad is None else tensor.grad
        raise ValueError(f"a parameter had shape {tuple(reference.shape)} and has {tuple(found.shape)} now: begin with a new tuner")


def fitting_state(groups: Sequence[dict[str, Any]], state_dict: dict[str, Any], shapes: Mapping[str, tuple[int, ...] | None]) -> dict[int, dict[str, Tensor]]:
    """Copies of the state of every parameter, by position; buffers on its device and in fp32 at least, as tuners keep them.

    Args:
        groups: Parameter groups of the tuner that the state is for.
        state_dict: As ``state_dict`` made it.
        shapes: Every name that the state of a parameter has -> its shape, or None for that of the parameter. What has a shape of its own is kept in double
            precision, and a single number on the host.

    Raises:
        ValueError: It was saved from other parameters, or by something else.
    """
    if not all(isinstance(state_dict.get(part), kind) for part, kind in (("param_groups", list), ("state", dict))):
        raise ValueError("the state has no parameter groups or no state: it was not saved by this tuner")
    lengths, saved = ([len(group["params"]) for group in own] for own in (groups, state_dict["param_groups"]))
    if lengths != saved:
        raise ValueError(f"the state was saved from parameter groups of {saved} tensors, these have {lengths}: load it into the same network")
    tensors = [tensor for group in groups for tensor in group["params"]]
    found: dict[int, dict[str, Tensor]] = {}
    for index, entry in by_position(state_dict["state"]).items():
        if not 0 <= index < len(tensors):
            raise ValueError(f"the state is of parameter {index}, there are {len(tensors)}: load it into the same network")
        if set(entry) != set(shapes) or not all(isinstance(value, Tensor) for value in entry.values()):
            raise ValueError(
                f"the state of parameter {index} holds {', '.join(map(str, entry))}, not tensors {', '.join(shapes)}: it was not saved by this tuner"
            )
        found[index] = {name: _fitting(f"{name} of parameter {index}", value, tensors[index], shapes[name]) for name, value in entry.items()}
    return found


def fitting_numbers(own: dict[str, Tensor], saved: Any) -> dict[str, Tensor]:
    """Copies of saved tensors that belong to no single parameter, in the precision of the tuner's ``own``.

    Raises:
        ValueError: One is missing, or has another shape.
    """
    if not isinstance(saved, dict) or set(saved) != set(own) or not all(isinstance(value, Tensor) for value in saved.values()):
        raise ValueError(f"the state has no {', '.join(own)} of the tuner: it was not saved by it")
    for name, value in saved.items():
        if value.shape != own[name].shape:
            raise ValueError(f"{name} of the state has shape {tuple(value.shape)}, here {tuple(own[name].shape)}: use the betas that it was saved with")
    return {name: value.detach().to(own[name].dtype).clone() for name, value in saved.items()}


def by_position(state: Any) -> Any:
    """A state with whole numbers for positions, which JSON has made strings of; what is no such state, as it is."""
    return {int(index): entry for index, entry in state.items()} if isinstance(state, dict) else state


def require_settings(own: dict[str, Any], saved: Any) -> None:
    """Refuses what was saved with other numbers, or around another base. Earlier versions did not save them.

    Raises:
        ValueError: It was.
    """
    for name, value in own.items() if isinstance(saved, dict) else ():
        if saved.get(name) != value:
            raise ValueError(f"the state was saved with {name} {saved.get(name)}, here it is {value}: use what it was saved with")


def require_base(base: torch.optim.Optimizer, state_dict: dict[str, Any], tensors: Sequence[Tensor] | None) -> None:
    """Refuses what another kind of base optimizer has saved; and, given ``tensors``, what was saved for others: a fused base would not look.

    Raises:
        ValueError: It was.
    """
    state, settings = state_dict.get("base"), base.defaults.keys() - SWITCHES
    if not isinstance(state, dict) or any(not settings <= group.keys() for group in state_dict["param_groups"]):
        raise ValueError(f"the state was saved around another base than {type(base).__name__}: use the one that it was saved with")
    own = set() if tensors is None else _names(base, state_dict["param_groups"])
    for index, entry in state.items() if tensors is not None else ():
        if not isinstance(entry, dict) or not 0 <= index < len(tensors or ()):
            raise ValueError(f"the base's state is of parameter {index}, there are {len(tensors or ())}: load it into the same network")
        shape = (tensors or ())[index].shape
        missing = own - entry.keys()
        if missing:
            raise ValueError(f"the base's state of parameter {index} lacks {', '.join(sorted(missing))}: it was not saved by {type(base).__name__}")
        wrong = next((name for name, value in entry.items() if isinstance(value, Tensor) and value.shape != (() if name in SINGLE else shape)), None)
        if wrong is not None:
            raise ValueError(
                f"{wrong} of parameter {index} was saved with shape {tuple(entry[wrong].shape)}, it has {tuple(shape)} here: load it into the same network"
            )


def _names(base: torch.optim.Optimizer, groups: Sequence[dict[str, Any]]) -> set[str]:
    """What a base knows of every parameter, whatever its group, once it has made its first step."""
    known: list[set[str]] = []
    for group in groups:
        probe = torch.nn.Parameter(torch.zeros(1))
        probe.grad = torch.zeros(1)
        settings = {name: group[name] for name in base.defaults if name in group and name not in ("capturable", "differentiable")}
        kind: Any = type(base)
        optimizer = kind([{"params": [probe], **settings}])
        optimizer.step()
        known.append(set(optimizer.state[probe]))
    return set.intersection(*known) if known else set()


def _fitting(what: str, value: Tensor, tensor: Tensor, own: tuple[int, ...] | None) -> Tensor:
    shape = tuple(tensor.shape) if own is None else own
    if tuple(value.shape) != shape:
        raise ValueError(f"{what} was saved with shape {tuple(value.shape)}, it has {shape} here: load it into the same network")
    precision = torch.promote_types(tensor.dtype, torch.float32) if own is None else torch.float64
    return value.detach().to("cpu" if own == () else tensor.device, precision).clone(memory_format=torch.contiguous_format)
