"""A denoiser whose noise is chosen by an actor (Wagenmaker et al., Steering Your Diffusion Policy with Latent Space Reinforcement Learning, 2025)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.denoiser import Denoiser
from mechanic_rl_ros.policy.gaussian import LOG_DEVIATION, GaussianHead
from mechanic_rl_ros.policy.head import Head
from mechanic_rl_ros.policy.inpainting import Inpainting
from mechanic_rl_ros.policy.part_config import GaussianConfig

BOUND = 1.5
"""Largest noise, deviations: beyond it the denoiser knows little (the authors' choice for most tasks)."""


class SteeredDenoiser(Head):
    """Answers with what the denoiser makes of the noise that a squashed Gaussian chooses. Before it has learned, that is nearly standard normal."""

    def __init__(self, config: PolicyConfig, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.actor = GaussianHead(config, GaussianConfig(width=config.steering))
        with torch.no_grad():
            mean, deviation = self.actor.leave.weight.chunk(2)
            mean.mul_(0.01)
            deviation.mul_(0.01)
            # tanh of a standard normal, times BOUND, has a deviation of 0.94.
            low, high = LOG_DEVIATION
            self.actor.leave.bias.chunk(2)[0].zero_()
            self.actor.leave.bias.chunk(2)[1].fill_(math.atanh(-2.0 * low / (high - low) - 1.0))

    def draw(self, observation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise for every observation, with gradients, and the logarithm of its probability density as a share of ``BOUND``: (B, T_p, A), (B,)."""
        share, log_probability = self.actor.draw(observation, generator)
        return BOUND * share, log_probability

    def bounded(self, noise: Tensor) -> Tensor:
        """Noise within what the actor can choose."""
        return noise.clamp(-BOUND, BOUND)

    def loss(self, observation: Tensor, chunks: Tensor, generator: torch.Generator) -> Tensor:
        """Of the denoiser; see ``Head``."""
        return self.denoiser.loss(observation, chunks, generator)

    @torch.no_grad()
    def sample(self, observation: Tensor, samples: int, generator: torch.Generator, explore: bool = False) -> Tensor:
        """What the denoiser makes of the actor's favourite noise, or of noise that it draws where it explores or there are several to choose from."""
        return self.denoiser.decode(observation, self._noise(observation, samples, generator, explore), generator)

    @torch.no_grad()
    def inpaint(self, observation: Tensor, samples: int, generator: torch.Generator, inpainting: Inpainting, explore: bool = False) -> Tensor:
        """As ``sample``, of chunks of which something is known."""
        return self.denoiser.decode(observation, self._noise(observation, samples, generator, explore), generator, inpainting)

    def _noise(self, observation: Tensor, samples: int, generator: torch.Generator, explore: bool) -> Tensor:
        # An actor that has learned nothing has no favourite: the middle of what it draws is a noise that the denoiser hardly ever saw.
        has_learned = bool(self.actor.leave.bias.chunk(2)[0].any())
        return BOUND * self.actor.sample(observation, samples, generator, explore or not has_learned)
