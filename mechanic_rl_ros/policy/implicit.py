"""Implicit behavioural cloning (Florence et al. 2021): an energy that is low where demonstrations are, and a search for low energy without derivatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.denoiser import FilmBlock
from mechanic_rl_ros.policy.head import Head
from mechanic_rl_ros.policy.linear import Linear
from mechanic_rl_ros.policy.part_config import ImplicitConfig
from mechanic_rl_ros.policy.trunk import Trunk

SPREAD, SHRINK = 0.33, 0.5  # of the perturbation: first deviation, and its factor from one iteration to the next (Florence et al., appendix B.1)


class ImplicitHead(Head):
    """E(observation, chunk). Chunks are looked for in [-1, 1]: the policy's action normaliser must be the identity."""

    def __init__(self, config: PolicyConfig, own: ImplicitConfig) -> None:
        super().__init__()
        self.own, self.chunk = own, (config.prediction_horizon, config.action_dim)
        self.trunk = Trunk(config.observation_dim, own.width, own.depth)
        self.enter = Linear(math.prod(self.chunk), own.width)
        self.block = FilmBlock(own.width, own.width)
        self.leave = Linear(own.width, 1)

    def forward(self, observation: Tensor, chunks: Tensor) -> Tensor:
        """Energies of N chunks for every observation: (B, observation_dim), (B, N, T_p, A) -> (B, N)."""
        film = self.block.film(self.trunk(observation))[:, None]  # once for all chunks
        return self.leave(nn.functional.silu(self.block(self.enter(chunks.flatten(2)), film))).squeeze(-1)

    def loss(self, observation: Tensor, chunks: Tensor, generator: torch.Generator) -> Tensor:
        """InfoNCE, equation 2 of the paper: how surely the demonstrated chunk is told from uniform ones; see ``Head``."""
        others = self._uniform(len(chunks), self.own.counter_examples, generator)
        return -torch.log_softmax(-self(observation, torch.cat([chunks[:, None], others], dim=1)), dim=1)[:, 0]

    @torch.no_grad()
    def sample(self, observation: Tensor, samples: int, generator: torch.Generator, explore: bool = False) -> Tensor:
        """The candidate of lowest energy; or draws by exp(-E), where it explores or there are several to choose from; see ``Head``."""
        candidates, spread = self._uniform(len(observation), self.own.candidates, generator), SPREAD
        for _ in range(self.own.iterations - 1):  # algorithm 1 of the paper
            candidates = self._resampled(candidates, self(observation, candidates), self.own.candidates, generator)
            noise = torch.randn(candidates.shape, generator=generator, device=candidates.device)
            candidates, spread = (candidates + spread * noise).clamp(-1.0, 1.0), SHRINK * spread
        energies = self(observation, candidates)
        if samples == 1 and not explore:
            return candidates[:, energies[0].argmin()]
        return self._resampled(candidates, energies, samples // len(observation), generator).flatten(0, 1)

    def _uniform(self, rows: int, count: int, generator: torch.Generator) -> Tensor:
        return 2.0 * torch.rand((rows, count, *self.chunk), generator=generator, device=generator.device) - 1.0

    @staticmethod
    def _resampled(candidates: Tensor, energies: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """``count`` of every row, drawn by exp(-E) with replacement."""
        drawn = torch.multinomial(torch.softmax(-energies, dim=1), count, replacement=True, generator=generator)
        return candidates[torch.arange(len(candidates), device=candidates.device)[:, None], drawn]
