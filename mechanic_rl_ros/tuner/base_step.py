"""How the base optimizer of Mechanic makes its step: D moves by it, the parameters do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mechanic_rl_ros.tuner.saved_state import SINGLE

STATIONARY = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adagrad,
    torch.optim.RMSprop,
    torch.optim.Adamax,
    torch.optim.Adadelta,
)
"""Optimizers whose update depends on the parameters through weight decay alone: they can step D itself, without a copy."""


State = dict[Tensor, dict[str, Tensor]]
"""Of the tuner: ``direction`` is D of every parameter that has had a gradient."""


class BaseStep:
    """Steps D by the base's update, D = D + u.

    Attributes:
        on_direction: Whether the base steps D itself; else it steps the parameters, of which a copy is kept meanwhile.
    """

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self._base = base
        self.on_direction = type(base) in STATIONARY

    def step(self, state: State, finite: Tensor | None) -> dict[Tensor, Any]:
        """D = D + u without decoupled weight decay; that is returned, as lr * decay of each parameter.

        Args:
            state: Of the tuner.
            finite: A tensor that says whether the step is to have an effect, for a fused base that steps D itself; None: it has one.
        """
        if self.on_direction:
            with self.directions_as_parameters(state), self._lent_gradients(state, finite) as decays:
                self._base.step()
            return decays
        before = [(tensor, tensor.detach().clone()) for tensor in state if tensor.grad is not None]
        with self._full_precision(state) as stepped:
            self._base.step()
        for tensor, start in before:
            state[tensor]["direction"].add_(stepped.get(tensor, tensor) - start)
        return {}

    def take_over(self, state: State, tensor: Tensor) -> None:
        """What the base knew of a parameter before it had a tuner becomes what it knows of its D."""
        if self.on_direction and tensor in self._base.state:
            direction = state[tensor]["direction"]
            self._base.state[direction] = _in_one_layout(_of_precision(self._base.state.pop(tensor), direction))

    def lay_out(self, state: State) -> None:
        """After loading: fused bases go through memory without looking."""
        for direction in (own["direction"] for own in state.values() if self.on_direction):
            if direction in self._base.state:
                self._base.state[direction] = _in_one_layout(self._base.state[direction])

    @contextmanager
    def directions_as_parameters(self, state: State) -> Iterator[None]:
        """Lets a base that steps D see every D in place of its parameter."""
        kept = [(group, group["params"]) for group in self._base.param_groups]
        try:
            if self.on_direction:
                for group, tensors in kept:
                    group["params"] = [state[tensor]["direction"] if tensor in state else tensor for tensor in tensors]
            yield
        finally:
            for group, tensors in kept:
                group["params"] = tensors

    @contextmanager
    def _lent_gradients(self, state: State, finite: Tensor | None) -> Iterator[dict[Tensor, Any]]:
        """Gives every D the gradient of its parameter. Weight decay means the parameter: the base must not decay D."""
        kept = [(group, group.get("weight_decay") or 0.0) for group in self._base.param_groups]
        owners = {id(own["direction"]): tensor for tensor, own in state.items() if tensor.grad is not None}
        decoupled: dict[Tensor, Any] = {}
        try:
            if finite is not None:
                self._base.found_inf, self._base.grad_scale = (~finite).float(), None  # type: ignore[attr-defined]
            for group, decay in kept:
                for direction in (shadow for shadow in group["params"] if id(shadow) in owners):
                    tensor = owners[id(direction)]
                    direction.grad = tensor.grad.to(direction.dtype).contiguous()  # type: ignore[union-attr]
                    if decay and group.get("decoupled_weight_decay", False):
                        decoupled[tensor] = group["lr"] * decay * (1.0 if finite is None else finite)
                    elif decay:
                        direction.grad = torch.add(direction.grad, tensor, alpha=-decay if group.get("maximize") else decay).contiguous()
                if decay:
                    group["weight_decay"] = 0.0
            yield decoupled
        finally:
            if finite is not None:
                del self._base.found_inf, self._base.grad_scale  # type: ignore[attr-defined]
            for own in state.values():
                own["direction"].grad = None
            for group, decay in kept:
                if decay:
                    group["weight_decay"] = decay

    @contextmanager
    def _full_precision(self, state: State) -> Iterator[dict[Tensor, Tensor]]:
        """Lets the base step copies, in the precision of D, of parameters of lower precision, which would not feel a small step."""
        low = {tensor: own["direction"].dtype for tensor, own in state.items() if tensor.dtype != own["direction"].dtype}
        copies = {tensor: tensor.detach().to(precision) for tensor, precision in low.items()}
        kept = [(group, group["params"]) for group in self._base.param_groups]
        for tensor, copy in copies.items():
            copy.grad = None if tensor.grad is None else tensor.grad.to(copy.dtype)
            if tensor in self._base.state:
                self._base.state[copy] = _of_precision(self._base.state.pop(tensor), copy)
        try:
            for group, tensors in kept:
                group["params"] = [copies.get(tensor, tensor) for tensor in tensors]
            yield copies
        finally:
            for group, tensors in kept:
                group["params"] = tensors
            for tensor, copy in copies.items():
                if copy in self._base.state:
                    self._base.state[tensor] = self._base.state.pop(copy)


def _of_precision(state: dict[str, Any], tensor: Tensor) -> dict[str, Any]:
    """State of a base for ``tensor`` instead of a parameter of another precision; single numbers stay as they are."""
    return {
        name: value.to(tensor.dtype) if isinstance(value, Tensor) and value.is_floating_point() and name not in SINGLE else value
        for name, value in state.items()
    }


def _in_one_layout(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.contiguous() if isinstance(value, Tensor) else value for name, value in state.items()}
