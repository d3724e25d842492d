"""The optimizers that a study compares, each behind what the learner needs of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from mechanic_rl_ros.algorithms.registry import DEFAULT
from mechanic_rl_ros.algorithms.tuners import TunerFactory, default_tuner
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.tuner import Mechanic, RelativeMechanic

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Learning rates of the grid, for actor and critics alike."""

CONTROLS = ("mechanic", "schedule-free", "prodigy", "d-adaptation", "dog", "trac", "adamw")
"""Other optimizers, at their authors' defaults."""

ADAMW_RATE = 1e-3
"""Learning rate of AdamW that nobody chose: torch's default."""

ABLATIONS = ("no-bettors", "averaged")
"""What parts of the tuner are worth: its unit and averaging without what it learns about its scale; AdamW at its default rate in a uniform average."""

ACTOR_AVERAGE = 0.99  # decay of the exponential moving average of the actor that acts where an optimizer brings no average of its own
DOG_AVERAGE = 8.0  # DoG's authors: "must be combined with iterate averaging", by polynomial decay with this gamma

CLIP = 1.0  # norm of the gradient, for optimizers whose step depends on it


@dataclass(frozen=True)
class Cell:
    """One way to choose step sizes, and what learns with them.

    Attributes:
        tuner: Name.
        actor_rate: Learning rate of the actor, where somebody has to choose one; 0 elsewhere.
        critic_rate: Of the critics.
        learner: Name of the learner.
    """

    tuner: str
    actor_rate: float = 0.0
    critic_rate: float = 0.0
    learner: str = DEFAULT

    @property
    def name(self) -> str:
        """Name for people and files."""
        tuner = f"{self.tuner}_{self.actor_rate:.0e}_{self.critic_rate:.0e}" if self.actor_rate else self.tuner
        return tuner if self.learner == DEFAULT else f"{self.learner}.{tuner}"


def control(name: str) -> Cell:
    """The cell of one of ``CONTROLS``. AdamW's default rate is a pair of the grid as well, and run once."""
    return Cell(name, ADAMW_RATE, ADAMW_RATE) if name == "adamw" else Cell(name)


def grid() -> list[Cell]:
    """AdamW with every pair of rates, from the middle outwards: the best is not at the edge, and a study that is stopped early has seen what matters."""
    middle = len(RATES) // 2
    places = sorted(product(range(len(RATES)), repeat=2), key=lambda place: max(abs(index - middle) for index in place))
    return [Cell("adamw", RATES[actor], RATES[critic]) for actor, critic in places]


class Ruined(Exception):
    """An optimizer has led to where it cannot go on from."""


class Averaged:
    """An optimizer and what acts: the parameters themselves, or their average; ``weight`` of the newest in it, after so many steps."""

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], weight: Callable[[int], float]) -> None:
        self._optimizer, self._parameters, self._weight, self._steps = optimizer, parameters, weight, 0
        self._averages = [parameter.detach().clone() for parameter in parameters]

    @property
    def scale(self) -> float:
        """What the optimizer multiplies its steps by, as far as it tells."""
        group = self._optimizer.param_groups[0]
        learned = getattr(self._optimizer, "scale", None)
        return float(learned) if learned is not None else float(group.get("d", 1.0) * group.get("lr", 1.0))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As of every optimizer."""
        self._optimizer.zero_grad(set_to_none=set_to_none)

    @torch.no_grad()
    def step(self) -> None:
        """Moves the parameters and their average, after clipping the gradient, as is usual with these optimizers.

        Raises:
            Ruined: The optimizer refuses to go on, as some do where numbers are not finite any more.
        """
        torch.nn.utils.clip_grad_norm_(self._parameters, CLIP)
        try:
            self._optimizer.step()
        except ValueError as error:
            raise Ruined(str(error)) from error
        self._steps += 1
        torch._foreach_lerp_(self._averages, [parameter.detach() for parameter in self._parameters], self._weight(self._steps))

    def averages(self) -> list[Tensor]:
        """What acts, in the order of the parameters."""
        return [average.clone() for average in self._averages]


class ScheduleFree(Averaged):
    """Schedule-Free AdamW: its own average acts."""

    def __init__(self, optimizer: Any, parameters: list[torch.nn.Parameter]) -> None:
        super().__init__(optimizer, parameters, lambda steps: 1.0)
        optimizer.train()

    def averages(self) -> list[Tensor]:
        """The average x, from the point y where gradients are taken and the sequence z: y = x + (1 - beta) (z - x)."""
        beta, state = self._optimizer.param_groups[0]["betas"][0], self._optimizer.state
        return [y.detach().lerp(state[y]["z"], 1.0 - 1.0 / beta) if "z" in state[y] else y.detach().clone() for y in self._parameters]


class WithoutBettors(RelativeMechanic):
    """The tuner's unit and averaging with a scale of always 1: what is left when nothing is learned about the step size."""

    def step(self, closure: Any = None) -> Any:
        """As of the tuner; bettors that have seen nothing stake all of it."""
        loss = super().step(closure)
        for state in self.state.values():
            state["bettors"][:3] = 0.0
        return loss


class Scaled:
    """An optimizer that sees every gradient multiplied by a factor."""

    def __init__(self, tuner: Any, parameters: list[torch.nn.Parameter], factor: float) -> None:
        self._tuner, self._parameters, self._factor = tuner, parameters, factor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tuner, name)

    def step(self) -> None:
        """As of the optimizer."""
        torch._foreach_mul_([parameter.grad for parameter in self._parameters if parameter.grad is not None], self._factor)
        self._tuner.step()


def factory(cell: Cell, gradient: float = 1.0) -> TunerFactory:
    """Makes the optimizer of one network; ``role`` is ``actor``, ``critic`` or ``value``.

    Args:
        cell: Which optimizer.
        gradient: Factor on every gradient.

    Raises:
        UserError: Unknown name, or a package is not installed.
    """
    make = _factory(cell)
    if gradient == 1.0:
        return make

    def scaled(parameters: Iterable[torch.nn.Parameter], role: str) -> Scaled:
        own = list(parameters)
        return Scaled(make(own, role), own, gradient)

    return scaled


def _factory(cell: Cell) -> TunerFactory:
    if cell.tuner == "relative":
        return default_tuner
    if cell.tuner == "no-bettors":
        return lambda parameters, role: default_tuner(parameters, role, WithoutBettors)
    makers = _makers(cell)
    if cell.tuner not in makers:
        raise UserError(f"unknown tuner {cell.tuner!r}: use relative, no-bettors, {', '.join(makers)}")
    maker = makers[cell.tuner]

    def make(parameters: Iterable[torch.nn.Parameter], role: str) -> Any:
        own = list(parameters)
        try:
            optimizer = maker(own, role)
        except ModuleNotFoundError as error:
            raise UserError(f"tuner {cell.tuner} needs the Python package {error.name}: pip install -r requirements/dev.txt") from error
        if cell.tuner == "schedule-free":
            return ScheduleFree(optimizer, own)
        if cell.tuner == "averaged":
            return Averaged(optimizer, own, lambda steps: 1.0 / steps)
        if cell.tuner == "dog":
            return Averaged(optimizer, own, lambda steps: (1.0 + DOG_AVERAGE) / (steps + DOG_AVERAGE))
        return Averaged(optimizer, own, lambda steps: 1.0 - ACTOR_AVERAGE if role == "actor" else 1.0)

    return make


def _makers(cell: Cell) -> dict[str, Callable[[list[torch.nn.Parameter], str], Any]]:
    def adamw(parameters: list[torch.nn.Parameter], role: str) -> Any:
        rate = cell.actor_rate if role == "actor" else cell.critic_rate
        return torch.optim.AdamW(parameters, lr=rate or ADAMW_RATE, fused=True)

    def schedule_free(parameters: list[torch.nn.Parameter], role: str) -> Any:
        import schedulefree

        return schedulefree.AdamWScheduleFree(parameters)

    def prodigy(parameters: list[torch.nn.Parameter], role: str) -> Any:
        import prodigyopt

        return prodigyopt.Prodigy(parameters)

    def d_adaptation(parameters: list[torch.nn.Parameter], role: str) -> Any:
        import dadaptation

        return dadaptation.DAdaptAdam(parameters)

    def dog(parameters: list[torch.nn.Parameter], role: str) -> Any:
        import dog

        return dog.DoG(parameters)

    def trac(parameters: list[torch.nn.Parameter], role: str) -> Any:
        from trac_optimizer import start_trac

        return start_trac(os.devnull, torch.optim.AdamW)(parameters)

    def mechanic(parameters: list[torch.nn.Parameter], role: str) -> Any:
        return Mechanic(torch.optim.AdamW(parameters, lr=1.0, fused=True))

    return {
        "mechanic": mechanic,
        "schedule-free": schedule_free,
        "prodigy": prodigy,
        "d-adaptation": d_adaptation,
        "dog": dog,
        "trac": trac,
        "adamw": adamw,
        "averaged": adamw,
    }
