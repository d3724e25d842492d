"""The denoiser: an MLP over the flattened action chunk, modulated by observation and diffusion step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mechanic_rl_ros.policy.config import PolicyConfig

TIME_DIM = 64


def step_embedding(steps: Tensor) -> Tensor:
    """Sinusoidal embedding (Vaswani et al. 2017) of diffusion steps: (B,) -> (B, TIME_DIM)."""
    frequencies = torch.exp(torch.arange(TIME_DIM // 2, device=steps.device) * (-math.log(1e4) / (TIME_DIM // 2 - 1)))
    angles = steps.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FilmBlock(nn.Module):
    """Residual block whose hidden units are scaled and shifted by the condition (FiLM, Perez et al. 2018)."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, width)
        self.film = nn.Linear(condition, 2 * width)
        self.leave = nn.Linear(width, width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """(B, width), (B, condition) -> (B, width)."""
        scale, shift = self.film(condition).chunk(2, dim=-1)
        inner = self.enter(self.norm(hidden)) * (1.0 + scale) + shift
        return hidden + self.leave(nn.functional.silu(inner))


class Denoiser(nn.Module):
    """Predicts the noise in an action chunk."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        chunk = config.prediction_horizon * config.action_dim
        self.observe = nn.Linear(config.observation_dim, config.condition)
        self.time = nn.Linear(TIME_DIM, config.condition)
        self.enter = nn.Linear(chunk, config.width)
        self.blocks = nn.ModuleList(FilmBlock(config.width, config.condition) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, chunk)

    def forward(self, noisy: Tensor, steps: Tensor, observation: Tensor) -> Tensor:
        """Noise estimate.

        Args:
            noisy: (B, T_p, A) noised chunks.
            steps: (B,) diffusion steps; or (1,), the same for all.
            observation: (B, observation_dim) normalised observations; or (1, observation_dim), the same for all.

        Returns:
            (B, T_p, A).
        """
        condition = nn.functional.silu(self.observe(observation) + self.time(step_embedding(steps)))
        hidden = self.enter(noisy.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.leave(nn.functional.silu(self.norm(hidden))).reshape(noisy.shape)
