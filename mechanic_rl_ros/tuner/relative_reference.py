"""The tuner for one tensor, written as its equations: slow, plain, and what ``RelativeMechanic`` is tested against."""

from __future__ import annotations

import torch
from torch import Tensor


class ReferenceRelativeMechanic:
    """Relative-unit Mechanic of a single tensor.

    Args:
        start: The tensor's value before training.
        size: Root mean square over all parameters of the network before training.
        pretrained: Whether the network acts already, so that its first steps must be small.
    """

    betas = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
    s_decay, unit, stake, growth, weight_decay, epsilon = 0.01, 0.05, 6.0, 500, 0.01, 1e-16
    momentum, second_moment = 0.9, 0.999

    def __init__(self, start: Tensor, size: float, pretrained: bool = False) -> None:
        self.x_ref, self.size, self.pretrained = start.to(torch.float64, copy=True), size, pretrained
        self.y, self.x = self.x_ref.clone(), self.x_ref.clone()  # where gradients are taken; what acts
        self.D, self.second = torch.zeros_like(self.y), torch.zeros_like(self.y)  # sum of all steps; Adam's second moment
        n = len(self.betas)
        self.m, self.V, self.r, self.s = [0.0] * n, [0.0] * n, [0.0] * n, [0.0] * n
        self.t = 0

    @property
    def scale(self) -> float:
        """How many relative units one step is worth, S."""
        return sum(self.s)

    def step(self, gradient: Tensor) -> Tensor:
        """Takes the gradient at ``y``; returns the next ``y``."""
        g, self.t = gradient.to(self.x_ref.dtype), self.t + 1
        h = float((self.D * g).sum() + self.s_decay * self.scale * g.norm() / self.y.norm().clamp_min(1e-50) * (self.D * self.y).sum())
        self._move(g)
        self._bet(h)
        z = self.x_ref + self.scale * self.D
        self.x = (1 - 1 / self.t) * self.x + z / self.t
        self.y = (1 - self.momentum) * z + self.momentum * self.x
        return self.y

    def _move(self, g: Tensor) -> None:
        self.second = self.second_moment * self.second + (1 - self.second_moment) * g * g
        direction = g / ((self.second / (1 - self.second_moment**self.t)).sqrt() + self.epsilon)
        u = -direction - self.weight_decay * self.y
        unit = self.unit * (min(1.0, self.t / self.growth) if self.pretrained else 1.0)
        self.D = self.D + unit * self.size * u / max(1.0, float(u.square().mean().sqrt()))

    def _bet(self, h: float) -> None:
        n = len(self.betas)
        for i, beta in enumerate(self.betas):
            self.m[i] = max(beta * self.m[i], abs(h))
            self.V[i] = beta**2 * self.V[i] + h * h
            deviation = max(self.V[i] ** 0.5, 1e-100)
            self.r[i] = max(0.0, beta * self.r[i] - self.s[i] * h)
            self.s[i] = self.stake / n if self.t == 1 else (self.stake * self.m[i] / n + self.r[i]) / deviation
        beyond = max(1.0, sum(self.s))
        self.s = [s / beyond for s in self.s]
