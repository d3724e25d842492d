"""The small MLP that reads observations, for the heads that denoise nothing and for V."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from mechanic_rl_ros.policy.linear import Linear


class Trunk(nn.Sequential):
    """(B, observation_dim) -> (B, width); every layer is linear, then LayerNorm and SiLU."""

    def __init__(self, observation_dim: int, width: int, depth: int) -> None:
        sizes = (observation_dim, *[width] * depth)
        super().__init__(*(layer for a, b in pairwise(sizes) for layer in (Linear(a, b), nn.LayerNorm(b), nn.SiLU())))
