"""A diagonal Gaussian over the whole chunk, squashed by tanh (Haarnoja et al., Soft Actor-Critic, 2018, appendix C)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.head import Head
from mechanic_rl_ros.policy.linear import Linear
from mechanic_rl_ros.policy.part_config import GaussianConfig
from mechanic_rl_ros.policy.trunk import Trunk

LOG_DEVIATION = (-3.0, 2.0)
"""Bounds of the logarithm of a deviation: a likelihood must not grow without end on actions that never vary."""

LARGEST = 0.999
"""Largest action whose likelihood is asked for: tanh never reaches 1, where grippers are."""


class GaussianHead(Head):
    """Mean and deviation before tanh, one of each for every number of a chunk. Chunks are in [-1, 1]: the policy's action normaliser must be the identity."""

    def __init__(self, config: PolicyConfig, own: GaussianConfig) -> None:
        super().__init__()
        self.chunk = (config.prediction_horizon, config.action_dim)
        self.trunk = Trunk(config.observation_dim, own.width, own.depth)
        self.leave = Linear(own.width, 2 * math.prod(self.chunk))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """(B, observation_dim) -> mean and logarithm of the deviation before tanh, (B, T_p, A) each."""
        return self._outputs(self.trunk(observation))

    def _outputs(self, features: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.leave(features).unflatten(1, (2, *self.chunk)).unbind(1)
        low, high = LOG_DEVIATION
        return mean, low + 0.5 * (high - low) * (1.0 + torch.tanh(raw))

    def draw(self, observation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws a chunk for every observation, with gradients (reparameterised).

        Args:
            observation: (B, observation_dim).
            generator: Draws noise, on the device of ``observation``.

        Returns:
            Chunks (B, T_p, A) in (-1, 1), and the logarithm of their probability density (B,).
        """
        mean, log_deviation = self(observation)
        raw = mean + log_deviation.exp() * torch.randn(mean.shape, generator=generator, device=mean.device)
        return torch.tanh(raw), _log_density(raw, mean, log_deviation)

    def log_probability(self, observation: Tensor, chunks: Tensor) -> Tensor:
        """Logarithm of the probability density of chunks: (B, observation_dim), (B, T_p, A) -> (B,). Actions beyond ``LARGEST`` count as that."""
        return _log_density(torch.atanh(chunks.clamp(-LARGEST, LARGEST)), *self(observation))

    def mode(self, observation: Tensor) -> Tensor:
        """The chunk in the middle: (B, observation_dim) -> (B, T_p, A), with gradients."""
        return torch.tanh(self(observation)[0])

    def loss(self, observation: Tensor, chunks: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error of the mode, and negative log-likelihood of the chunks under the deviation around it; see ``Head``.

        The likelihood alone would let a large deviation excuse a wrong mean, and the mode is what acts. So the mean learns by its error, and the deviation
        by the likelihood without moving mean or trunk (Stirn et al., Faithful heteroscedastic regression with neural networks, 2023).
        """
        features = self.trunk(observation)
        mean, (_, log_deviation) = self._outputs(features)[0], self._outputs(features.detach())
        error = (torch.tanh(mean) - chunks).square().sum(dim=(1, 2))
        return error - _log_density(torch.atanh(chunks.clamp(-LARGEST, LARGEST)), mean.detach(), log_deviation)

    @torch.no_grad()
    def sample(self, observation: Tensor, samples: int, generator: torch.Generator, explore: bool = False) -> Tensor:
        """The mode; or draws, where it explores or there are several to choose from; see ``Head``."""
        if samples == 1 and not explore:
            return self.mode(observation)
        return self.draw(observation.expand(samples, -1), generator)[0]


def _log_density(raw: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Of tanh(raw), (B, T_p, A) -> (B,): equation 21 of the paper, with log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2 x)), which does not overflow."""
    normal = -0.5 * ((raw - mean) / log_deviation.exp()).square() - log_deviation - 0.5 * math.log(2.0 * math.pi)
    squashed = 2.0 * (math.log(2.0) - raw - nn.functional.softplus(-2.0 * raw))
    return (normal - squashed).sum(dim=(1, 2))
