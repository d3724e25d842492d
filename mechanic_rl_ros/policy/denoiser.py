"""Denoisers: what an action chunk looked like before noise came to it, given what the robot sees."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.head import Head
from mechanic_rl_ros.policy.inpainting import Inpainting
from mechanic_rl_ros.policy.linear import Linear
from mechanic_rl_ros.policy.part_config import MlpDenoiserConfig

TIME_DIM = 64


class Denoiser(Head):
    """What all denoisers have in common: loss and sampler of diffusion, and a condition that is computed once for all steps of the sampler."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.schedule, self.chunk = config.schedule, (config.prediction_horizon, config.action_dim)
        self.executed = slice(config.past_actions, config.past_actions + config.action_horizon)

    @abstractmethod
    def condition(self, steps: Tensor, observation: Tensor) -> list[Tensor]:
        """What the network needs to know besides the noised chunk.

        Args:
            steps: (B,) diffusion steps; or (1,), the same for all.
            observation: (B, observation_dim) normalised observations; or (1, observation_dim), the same for all.

        Returns:
            Tensors whose first dimension is B, or 1.
        """

    @abstractmethod
    def denoise(self, noisy: Tensor, condition: list[Tensor]) -> Tensor:
        """(B, T_p, A) noised chunks -> (B, T_p, A): the noise, or the clean chunk, as the schedule has it."""

    def forward(self, noisy: Tensor, steps: Tensor, observation: Tensor) -> Tensor:
        """Both in one: (B, T_p, A), (B,) or (1,), (B, observation_dim) or (1, observation_dim) -> (B, T_p, A)."""
        return self.denoise(noisy, self.condition(steps, observation))

    def loss(self, observation: Tensor, chunks: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error of what the network predicts, noise or clean chunk, at one random diffusion step for each row; see ``Head``."""
        steps = torch.randint(self.schedule.steps, (len(chunks),), generator=generator, device=chunks.device)
        noise = torch.randn(chunks.shape, generator=generator, device=chunks.device)
        wanted = noise if self.schedule.prediction == "epsilon" else chunks
        return (self(self.schedule.add_noise(chunks, noise, steps), steps, observation) - wanted).square().mean(dim=(1, 2))

    def sample(self, observation: Tensor, samples: int, generator: torch.Generator, explore: bool = False) -> Tensor:
        """Denoises fresh noise; see ``Head``. There is nothing to explore beyond it."""
        return self.decode(observation, self._noise(observation, samples, generator), generator)

    def inpaint(self, observation: Tensor, samples: int, generator: torch.Generator, inpainting: Inpainting, explore: bool = False) -> Tensor:
        """Denoises fresh noise, with what is known in every estimate of the clean chunk; see ``Head``."""
        return self.decode(observation, self._noise(observation, samples, generator), generator, inpainting)

    def _noise(self, observation: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        return torch.randn((samples, *self.chunk), generator=generator, device=observation.device)

    @torch.no_grad()
    def decode(self, observation: Tensor, noise: Tensor, generator: torch.Generator | None = None, inpainting: Inpainting | None = None) -> Tensor:
        """Denoises chosen noise.

        Args:
            observation: (1, observation_dim) or (B, observation_dim).
            noise: (B, T_p, A).
            generator: Draws the noise that a DDPM sampler adds on the way.
            inpainting: What is known of the chunks.

        Returns:
            (B, T_p, A), normalised.
        """
        inpaint = inpainting.spread(len(self.schedule.visited)) if inpainting else None
        return self.schedule.sample(self.predictor(observation), noise, generator, inpaint)

    def predictor(self, observation: Tensor) -> Callable[[Tensor, int], Tensor]:
        """What the network predicts for noisy chunks (B, T_p, A) at a place in the order of the diffusion steps that are visited."""
        visited = torch.tensor(self.schedule.visited, device=observation.device)
        # For one observation the condition of all steps is one batch.
        told = self.condition(visited, observation) if len(observation) == 1 else None

        def predict(sample: Tensor, place: int) -> Tensor:
            step = slice(place, place + 1)
            return self.denoise(sample, [part[step] for part in told] if told else self.condition(visited[step], observation))

        return predict


def step_embedding(steps: Tensor, size: int = TIME_DIM) -> Tensor:
    """Sinusoidal embedding (Vaswani et al. 2017) of diffusion steps: (B,) -> (B, size)."""
    frequencies = torch.exp(torch.arange(size // 2, device=steps.device) * (-math.log(1e4) / (size // 2 - 1)))
    angles = steps.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FilmBlock(nn.Module):
    """Residual block whose hidden units are scaled and shifted by the condition (FiLM, Perez et al. 2018)."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = Linear(width, width)
        self.film = Linear(condition, 2 * width)
        self.leave = Linear(width, width)

    def forward(self, hidden: Tensor, film: Tensor) -> Tensor:
        """(B, width), (B or 1, 2 width) -> (B, width)."""
        scale, shift = film.chunk(2, dim=-1)
        inner = self.enter(self.norm(hidden)) * (1.0 + scale) + shift
        return hidden + self.leave(nn.functional.silu(inner))


class MlpDenoiser(Denoiser):
    """An MLP over the flattened chunk, modulated by observation and diffusion step."""

    def __init__(self, config: PolicyConfig, own: MlpDenoiserConfig) -> None:
        super().__init__(config)
        chunk = config.prediction_horizon * config.action_dim
        self.observe = Linear(config.observation_dim, own.condition)
        self.time = Linear(TIME_DIM, own.condition)
        self.enter = Linear(chunk, own.width)
        self.blocks = nn.ModuleList(FilmBlock(own.width, own.condition) for _ in range(own.depth))
        self.norm = nn.LayerNorm(own.width)
        self.leave = Linear(own.width, chunk)

    def films(self) -> list[nn.Module]:
        """What turns the condition into scales and shifts, of every block."""
        return [block.get_submodule("film") for block in self.blocks]

    def condition(self, steps: Tensor, observation: Tensor) -> list[Tensor]:
        """See ``Denoiser``; one tensor for every block."""
        condition = nn.functional.silu(self.observe(observation) + self.time(step_embedding(steps)))
        return [film(condition) for film in self.films()]

    def denoise(self, noisy: Tensor, condition: list[Tensor]) -> Tensor:
        """See ``Denoiser``."""
        hidden = self.enter(noisy.flatten(1))
        for block, film in zip(self.blocks, condition, strict=True):
            hidden = block(hidden, film)
        return self.leave(nn.functional.silu(self.norm(hidden))).reshape(noisy.shape)
