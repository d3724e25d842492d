"""Mechanic: a learned scale for the steps of any optimizer.

How to use it::

    tuner = Mechanic(torch.optim.AdamW(network.parameters(), lr=1.0, fused=True))
    loss.backward(); tuner.step(); tuner.zero_grad()

The tuner owns the optimizer that it is given: step, save and restore the tuner only. Schedulers may be attached to either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mechanic_rl_ros.tuner import adam_pass
from mechanic_rl_ros.tuner.base_step import BaseStep
from mechanic_rl_ros.tuner.kernels import place, products
from mechanic_rl_ros.tuner.saved_state import by_position, fitting_numbers, fitting_state, require_base, require_dense, require_settings, require_shape

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
SCALE_BOUND = 1e8
"""No bettor's reward makes it stake more: gradients that agree for ever would otherwise let it grow until it overflows."""


class Mechanic(torch.optim.Optimizer):
    """The published tuner (Cutkosky, Defazio, Mehta: Mechanic, a learning rate tuner, NeurIPS 2023, algorithm 1).

    With u the update of the base optimizer, D the sum of all updates, x_ref the parameters at the start, g the gradient at x, and for every beta a
    bettor with maximum m, variance v, reward r and stake s::

        h = <D, g + s_decay S |g| / (|x| + eps) x>      S the sum of all s
        m = max(beta m, |h|)    v = beta^2 v + h^2    r = max(0, beta r - s h)
        s = (s_init m / n + r) / (sqrt(v) + eps)
        D = D + u    x = x_ref + S D

    Inner products and norms run over all parameters of all groups. The first step only makes D; S is s_init from the second on.

    D, not x, is what the base optimizer steps, where that is the same thing: weight decay is added here. Memory beyond the base's: x_ref and D, in
    fp32 for parameters of lower precision. Any other base (one that looks at the parameters) costs a temporary copy of them in each step. The step of
    Adam and AdamW on float32 parameters on the processor is made here, in one pass with our own, unless a scheduler or a hook watches the base.

    A gradient that is not finite, or the sum of whose squares single precision cannot hold (2e16 in each of a million numbers), skips the step as a
    whole: parameters, base and bettors stay as they are, and ``skipped`` counts it. A parameter without gradient keeps its D. Without any gradient
    nothing happens. ``state_dict`` is keyed by position and continues bit-equally; it consists of tensors and plain data.

    On a CUDA device nothing in a step waits for the host when the base is fused (Adam, AdamW, SGD, Adagrad), but for the first step of every parameter,
    and all state stays where it is in memory, so that later steps can be captured in a graph (Adam and AdamW with ``capturable``, as torch wants it);
    other bases cost one synchronisation, for the test of finiteness. Not tried on a device yet.

    Attributes:
        base: The optimizer whose steps are scaled; its parameter groups are the tuner's.
    """

    def __init__(
        self, base: torch.optim.Optimizer, *, betas: tuple[float, ...] = BETAS, s_init: float = 1e-8, s_decay: float = 1e-2, eps: float = 1e-8
    ) -> None:
        """Takes an optimizer over.

        Args:
            base: Any optimizer but LBFGS. A learning rate of 1 leaves all scaling to the tuner.
            betas: One bettor each, in [0, 1].
            s_init: Scale to start from, in units of the base's update.
            s_decay: Weight of the pull towards the origin (lambda).
            eps: Added to denominators.

        Raises:
            ValueError: A number is out of range.
            TypeError: The base steps by calling a closure itself.
        """
        if isinstance(base, torch.optim.LBFGS):
            raise TypeError("LBFGS chooses its own step size: give an optimizer that makes one step per gradient")
        if not betas or not all(0.0 <= beta <= 1.0 for beta in betas):
            raise ValueError(f"betas {betas} must be numbers between 0 and 1")
        for name, value in (("s_init", s_init), ("eps", eps)):
            if not 0.0 < value < float("inf"):
                raise ValueError(f"{name} is {value}: it must be a positive number")
        if not 0.0 <= s_decay < float("inf"):
            raise ValueError(f"s_decay is {s_decay}: it must not be negative")
        self.base = base
        self.betas, self.s_init, self.s_decay, self.eps = tuple(betas), s_init, s_decay, eps
        self._bettors, self._inner, self._skipped = _zeros(4, len(self.betas)), _zeros(2), torch.zeros((), dtype=torch.int64)
        self._decays = torch.tensor(self.betas, dtype=torch.float64)  # betas, where the bettors are
        super().__init__(base.param_groups, base.defaults)
        self.param_groups = base.param_groups  # the same list: what a scheduler does to one holds for both
        self._base_step = BaseStep(base)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters; their start is where they are at their first step."""
        if self.__dict__.get("param_groups") is self.base.param_groups:
            self.base.add_param_group(param_group)
        else:
            super().add_param_group(param_group)  # the constructor's, of groups that the base has already

    @property
    def scale(self) -> Tensor:
        """S, a float64 tensor of one number on the device of the parameters; 0 before the second step."""
        return self._bettors[3].sum()

    @property
    def skipped(self) -> int:
        """Steps that were left out because a gradient was not finite."""
        return int(self._skipped)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Moves all parameters. Returns the closure's loss, if there is one.

        Raises:
            TypeError: A parameter is complex, or a gradient sparse.
            ValueError: A parameter has another shape than when it was first moved.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        fresh = [tensor for group in self.param_groups for tensor in group["params"] if tensor.grad is not None]
        if not fresh:
            return loss
        require_dense(fresh, "Mechanic")
        for tensor in self._known():
            require_shape(tensor, self.state[tensor]["reference"])
        began = sum(self._begin(tensor) for tensor in fresh)
        slope, gradient_square = self._slope().unbind()
        h = slope + self._pull(gradient_square)
        finite = torch.isfinite(h + gradient_square)
        if not (began or self._waits_for_host()):
            self._move(h, finite)
        elif bool(finite):
            self._move(h)
        self._skipped += ~finite
        return loss

    def _waits_for_host(self) -> bool:
        """Whether the host looks at the gradients before it goes on. On the processor that costs nothing; a fused base can be told not to move.

        Not in the first step of a parameter, though: SGD would take for its momentum what is in memory that it has not written yet.
        """
        return not (self._bettors.is_cuda and self.base.defaults.get("fused"))

    def _begin(self, tensor: Tensor) -> bool:
        """Makes the state of a parameter; False if it is there already."""
        if tensor in self.state:
            return False
        if not self.state:
            self._place_numbers(tensor.device, self._bettors, self._inner, self._skipped)
        # Of one layout, whatever that of the parameter is: fused bases go through memory without looking.
        reference = tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32)).clone(memory_format=torch.contiguous_format)
        self.state[tensor] = {"reference": reference, "direction": torch.zeros_like(reference)}
        self._base_step.take_over(self.state, tensor)
        self._inner[1] += reference.double().square().sum()
        return True

    def _place_numbers(self, device: torch.device, bettors: Tensor, inner: Tensor, skipped: Tensor) -> None:
        self._bettors, self._inner, self._skipped, self._decays = (kept.to(device) for kept in (bettors, inner, skipped, self._decays))

    def _known(self) -> list[Tensor]:
        """Parameters that have had a gradient, in the order of the groups."""
        return [tensor for group in self.param_groups for tensor in group["params"] if tensor in self.state]

    def _slope(self) -> Tensor:
        """<D, g> and |g|^2 over all parameters with a gradient, float64 (2,). Where a group maximises, -g is the gradient."""
        total = torch.zeros_like(self._inner)
        for maximises in (False, True):
            tensors = [t for group in self.param_groups if bool(group.get("maximize")) == maximises for t in group["params"] if t.grad is not None]
            if tensors:
                found = products([self.state[tensor]["direction"] for tensor in tensors], [tensor.grad for tensor in tensors])  # type: ignore[misc]
                total[0] += -found[0] if maximises else found[0]
                total[1] += found[1]
        return total

    def _pull(self, gradient_square: Tensor) -> Tensor:
        """What the pull towards the origin adds to the slope; nothing where single precision could not hold the squares that it is made of."""
        inner, square = self._inner.unbind()
        pull = self.s_decay * self.scale * gradient_square.sqrt() / (square.sqrt() + self.eps) * inner
        return torch.where(torch.isfinite(self._inner).all(), pull, 0.0)

    def _move(self, h: Tensor, finite: Tensor | None = None) -> None:
        """The step itself. With ``finite``, a tensor that says whether it is to have an effect. What a captured graph reads again is written in place."""
        bettors, known = self._bet(h), self._known()
        self._bettors.copy_(bettors if finite is None else torch.where(finite, bettors, self._bettors))
        library = None if finite is not None else adam_pass.adam_library(self.base, self.state, [tensor for tensor in known if tensor.grad is not None])
        if library is not None:
            self._inner.copy_(adam_pass.step(library, self.base, self.state, self.scale))
            return
        decays = self._base_step.step(self.state, finite)
        states = [self.state[tensor] for tensor in known]
        directions, references = [state["direction"] for state in states], [state["reference"] for state in states]
        self._inner.copy_(place(directions, references, known, [decays.get(tensor, 0.0) for tensor in known], self.scale))

    def _bet(self, h: Tensor) -> Tensor:
        """m, v, r, s after a slope, float64 (4, n): one bettor per beta, S is the sum of what they stake."""
        m, v, r, s = self._bettors.unbind()
        m = torch.maximum(self._decays * m, h.abs())
        v = self._decays.square() * v + h.square()
        denominator = v.sqrt() + self.eps
        r = torch.minimum((self._decays * r - s * h).clamp_min(0.0), SCALE_BOUND * denominator)
        s = (self.s_init * m / len(self.betas) + r) / denominator
        return torch.stack([m, v, r, s])

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain data, keyed by position. It shares memory with the tuner, as for every optimizer."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        with self._base_step.directions_as_parameters(self.state):
            base = self.base.state_dict()
        positions = {tensor: index for index, tensor in enumerate(tensor for group in self.param_groups for tensor in group["params"])}
        own = {positions[tensor]: dict(self.state[tensor]) for tensor in self._known()}
        tuner = {"bettors": self._bettors, "inner": self._inner, "skipped": self._skipped}
        saved = {"state": own, "param_groups": base["param_groups"], "base": base["state"], "tuner": tuner, "settings": self._settings()}
        for change in self._optimizer_state_dict_post_hooks.values():
            changed = change(self, saved)
            saved = saved if changed is None else changed
        return saved

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where another tuner of the same parameters stopped, in a new process too. The parameters themselves are loaded by their model.

        Raises:
            ValueError: It was saved from other parameter groups, parameters of other shapes, with other settings or around another base. Nothing was
                loaded.
        """
        state_dict = dict(state_dict)  # hooks may change it
        for change in self._optimizer_load_state_dict_pre_hooks.values():
            changed = change(self, state_dict)
            state_dict = state_dict if changed is None else changed
        groups, tensors = self.param_groups, [tensor for group in self.param_groups for tensor in group["params"]]
        state = fitting_state(groups, state_dict, {"reference": None, "direction": None})
        numbers = fitting_numbers({"bettors": self._bettors, "inner": self._inner, "skipped": self._skipped}, state_dict.get("tuner"))
        require_settings(self._settings(), state_dict.get("settings"))
        state_dict = {**state_dict, "base": by_position(state_dict.get("base"))}
        require_base(self.base, state_dict, tensors if self._base_step.on_direction else None)
        self.state.clear()
        self.state.update({tensors[index]: saved for index, saved in state.items()})
        with self._base_step.directions_as_parameters(self.state):
            self.base.load_state_dict({"state": state_dict["base"], "param_groups": state_dict["param_groups"]})
        self._base_step.lay_out(self.state)
        if not self._base_step.on_direction:  # torch rounds all of it to the precision of the parameter
            for index, saved in state_dict["base"].items():
                kept = self.base.state[tensors[index]]
                kept.update({name: value.detach().to(kept[name].device, copy=True) for name, value in saved.items() if isinstance(value, Tensor)})
        for group, loaded in zip(groups, self.base.param_groups, strict=True):
            group.update({name: value for name, value in loaded.items() if name != "params"})
        self.base.param_groups = groups  # still the same list: a scheduler may know it
        self._place_numbers(tensors[0].device if tensors else torch.device("cpu"), **numbers)
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _settings(self) -> dict[str, Any]:
        return {"base": type(self.base).__name__, "betas": list(self.betas), "s_init": self.s_init, "s_decay": self.s_decay, "eps": self.eps}

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_optimizer_", "_zero_grad_profile", "_warned_capturable")
        # A scheduler puts a ``step`` into its optimizer that steps that one, whoever copies it.
        return {name: value for name, value in self.__dict__.items() if not name.startswith(hidden) and name != "step"}


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)
