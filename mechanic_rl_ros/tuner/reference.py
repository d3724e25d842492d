"""Mechanic written as its equations: slow, plain, and what ``Mechanic`` is tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from mechanic_rl_ros.tuner.mechanic import BETAS


class ReferenceMechanic:
    """The published tuner around a base optimizer (Cutkosky, Defazio, Mehta, NeurIPS 2023, algorithm 1).

    Args:
        base: Steps the parameters itself; the difference is its update u.
        betas: One bettor each.
        s_init: Scale to start from.
        s_decay: Weight of the pull towards the origin.
        eps: Added to denominators.
    """

    def __init__(self, base: torch.optim.Optimizer, betas: tuple[float, ...] = BETAS, s_init: float = 1e-8, s_decay: float = 1e-2, eps: float = 1e-8) -> None:
        self.base, self.betas, self.s_init, self.s_decay, self.eps = base, betas, s_init, s_decay, eps
        self.x_ref: dict[Tensor, Tensor] = {}
        self.D: dict[Tensor, Tensor] = {}
        n = len(betas)
        self.m, self.v, self.r, self.s = [0.0] * n, [0.0] * n, [0.0] * n, [0.0] * n

    @property
    def scale(self) -> float:
        """S, the sum of all stakes."""
        return sum(self.s)

    @torch.no_grad()
    def step(self) -> None:
        """One step with the gradients that the parameters have; none counts as zero, but the base leaves that parameter alone."""
        g: dict[Tensor, Tensor] = {}
        for group in self.base.param_groups:
            for p in group["params"]:
                if p.grad is not None and p not in self.D:
                    self.x_ref[p], self.D[p] = p.clone(), torch.zeros_like(p)
                if p in self.D:
                    g[p] = torch.zeros_like(p) if p.grad is None else -p.grad if group.get("maximize") else p.grad
        x = {p: p.clone() for p in self.D}
        pull = self.s_decay * self.scale * norm(g) / (norm(x) + self.eps)
        h = sum(float((self.D[p] * (g[p] + pull * x[p])).sum()) for p in self.D)
        self.base.step()
        for p in self.D:
            self.D[p] += p - x[p]
        self.bet(h)
        for p in self.D:
            p.copy_(self.x_ref[p] + self.scale * self.D[p])

    def bet(self, h: float) -> None:
        """Lets every bettor see the slope along D."""
        n = len(self.betas)
        for i, beta in enumerate(self.betas):
            self.m[i] = max(beta * self.m[i], abs(h))
            self.v[i] = beta**2 * self.v[i] + h * h
            self.r[i] = max(0.0, beta * self.r[i] - self.s[i] * h)
            self.s[i] = (self.s_init * self.m[i] / n + self.r[i]) / (self.v[i] ** 0.5 + self.eps)


def norm(tensors: dict[Tensor, Tensor]) -> float:
    """Euclidean norm over all tensors."""
    return sum(float((tensor * tensor).sum()) for tensor in tensors.values()) ** 0.5
