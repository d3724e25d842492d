"""The tuner for one tensor, written as its equations: slow, plain, and what ``RelativeMechanic`` is tested against."""

from __future__ import annotations

import torch
from torch import Tensor


class ReferenceRelativeMechanic:
    """Relative-unit Mechanic of a single tensor.

    Args:
        start: The tensor's value before training.
        floor: Root mean square over all parameters of the network before training (F).
    """

    betas = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
    s_decay, unit, weight_decay, epsilon = 0.01, 0.01, 0.01, 1e-16
    momentum, second_moment = 0.9, 0.999

    def __init__(self, start: Tensor, floor: float) -> None:
        self.x_ref, self.floor = start.to(torch.float64, copy=True), floor
        self.x = self.x_ref.clone()
        self.D = torch.zeros_like(self.x)  # where the steps went, in relative units
        self.mean_D = torch.zeros_like(self.x)  # its average over time
        self.second = torch.zeros_like(self.x)
        n = len(self.betas)
        self.m, self.V, self.r, self.s = [0.0] * n, [0.0] * n, [0.0] * n, [0.0] * n
        self.t = 0

    @property
    def scale(self) -> float:
        """How many relative units one step is worth, S."""
        return sum(self.s)

    def step(self, gradient: Tensor) -> Tensor:
        """Takes the gradient at ``x``; returns the next ``x``."""
        g, self.t = gradient.double(), self.t + 1
        along = (1 - self.momentum) * self.D + self.momentum * self.mean_D
        h = float((along * g).sum() + self.s_decay * self.scale * g.norm() / self.x.norm().clamp_min(1e-50) * (along * self.x).sum())
        self._move(g)
        self._bet(h)
        along = (1 - self.momentum) * self.D + self.momentum * self.mean_D
        self.x = self.x_ref + self.scale * along
        return self.x

    def average(self) -> Tensor:
        """The point that acts."""
        return self.x_ref + self.scale * self.mean_D

    def _move(self, g: Tensor) -> None:
        self.second = self.second_moment * self.second + (1 - self.second_moment) * g * g
        direction = g / ((self.second / (1 - self.second_moment**self.t)).sqrt() + self.epsilon)
        u = -direction - self.weight_decay * self.x
        size = max(float(self.x.square().mean().sqrt()), self.floor)
        self.D = self.D + self.unit * size * u / max(1.0, float(u.square().mean().sqrt()))
        self.mean_D = (1 - 1 / self.t) * self.mean_D + self.D / self.t

    def _bet(self, h: float) -> None:
        n = len(self.betas)
        for i, beta in enumerate(self.betas):
            self.m[i] = max(beta * self.m[i], abs(h))
            self.V[i] = beta**2 * self.V[i] + h * h
            deviation = max(self.V[i] ** 0.5, 1e-100)
            self.r[i] = max(0.0, beta * self.r[i] - self.s[i] * h)
            self.s[i] = 1 / n if self.t == 1 else (self.m[i] / n + self.r[i]) / deviation
