"""One chunk for every observation, and noise that a robot can take when it explores."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.head import Head
from mechanic_rl_ros.policy.linear import Linear
from mechanic_rl_ros.policy.part_config import DeterministicConfig
from mechanic_rl_ros.policy.trunk import Trunk

MEMORY = 0.8
"""How much of the noise one action hands on to the next: half of it is left after three actions."""


class DeterministicHead(Head):
    """An MLP with tanh. Chunks are in [-1, 1]: the policy's action normaliser must be the identity.

    Its noise is an Ornstein-Uhlenbeck process over the chunk (Uhlenbeck and Ornstein 1930; Lillicrap et al., DDPG, 2016), of the same deviation at every
    action. Independent noise would shake the arm, wear its gears, and average out before the hand has gone anywhere new.
    """

    def __init__(self, config: PolicyConfig, own: DeterministicConfig) -> None:
        super().__init__()
        self.chunk, self.noise = (config.prediction_horizon, config.action_dim), own.noise
        self.trunk = Trunk(config.observation_dim, own.width, own.depth)
        self.leave = Linear(own.width, math.prod(self.chunk))

    def forward(self, observation: Tensor) -> Tensor:
        """(B, observation_dim) -> (B, T_p, A) in (-1, 1), with gradients."""
        return torch.tanh(self.leave(self.trunk(observation)).unflatten(1, self.chunk))

    def loss(self, observation: Tensor, chunks: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error; see ``Head``."""
        return (self(observation) - chunks).square().mean(dim=(1, 2))

    @torch.no_grad()
    def sample(self, observation: Tensor, samples: int, generator: torch.Generator, explore: bool = False) -> Tensor:
        """The same chunk ``samples`` times, each with noise of its own where it explores; see ``Head``."""
        chunks = self(observation).expand(samples, -1, -1)
        if not explore:
            return chunks
        return disturbed(chunks, self.noise, generator)


def disturbed(chunks: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Chunks (B, T, A) with a stationary process along T added: e_0 = z_0, e_k = MEMORY e_(k-1) + sqrt(1 - MEMORY^2) z_k.

    The gripper, which comes last, is left alone: it is open or closed, and half a disturbance drops what it holds.
    """
    noise = _mixing(chunks.shape[1]).to(chunks.device) @ torch.randn(chunks.shape, generator=generator, device=chunks.device)
    noise[..., -1] = 0.0
    return (chunks + deviation * noise).clamp(-1.0, 1.0)


@lru_cache
def _mixing(steps: int) -> Tensor:
    # (steps, steps), from independent numbers z to e.
    age = torch.arange(steps)[:, None] - torch.arange(steps)[None]
    weights = MEMORY ** age.clamp_min(0) * (age >= 0)
    weights[:, 1:] *= math.sqrt(1.0 - MEMORY**2)
    return weights
