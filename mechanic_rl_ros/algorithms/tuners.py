"""Which optimizer moves which network of a learner."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from mechanic_rl_ros.tuner import RelativeMechanic

TunerFactory = Callable[[Iterable[nn.Parameter], str], Any]
"""Makes the optimizer of one network from its parameters and its role: ``actor``, ``critic``, ``value`` and so on. It has ``step``, ``zero_grad``,
``scale`` and ``averages``, as ``RelativeMechanic`` has."""


def default_tuner(parameters: Iterable[nn.Parameter], role: str, kind: type[RelativeMechanic] = RelativeMechanic) -> RelativeMechanic:
    """The tuner of a network. The actor does its work already: its first steps must not cost what it can."""
    return kind(parameters, pretrained=role == "actor")
