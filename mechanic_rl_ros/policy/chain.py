"""Chains of denoising as a policy with known probabilities: each step is a Gaussian around the sampler's (Ren et al., Diffusion Policy Policy Optimization, 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.denoiser import Denoiser


@dataclass(frozen=True)
class Chain:
    """How B chunks came out of noise, in S steps.

    Attributes:
        samples: (B, S + 1, T_p, A): noise first, the chunk last, normalised.
        log_probability: (B, S) of every step, as the mean over the actions that are executed and without the constant: comparable for chunks of any size.
    """

    samples: Tensor
    log_probability: Tensor


@torch.no_grad()
def draw_chain(head: Denoiser, observation: Tensor, generator: torch.Generator) -> Chain:
    """One chunk for each of (B, observation_dim) observations, with noise after every step."""
    predict = head.predictor(observation)
    samples, steps = [torch.randn((len(observation), *head.chunk), generator=generator, device=observation.device)], []
    for place, move in enumerate(head.schedule.moves):
        noise = torch.randn(samples[-1].shape, generator=generator, device=observation.device)
        samples.append(head.schedule.advance(move, samples[-1], predict(samples[-1], place)) + _deviation(head, place) * noise)
        steps.append(_density(noise, head))
    return Chain(torch.stack(samples, dim=1), torch.stack(steps, dim=1))


def log_probability(head: Denoiser, observation: Tensor, samples: Tensor) -> Tensor:
    """(B, S), with gradient: how probable each step of given chains is; see ``Chain``."""
    predict, steps = head.predictor(observation), []
    for place, move in enumerate(head.schedule.moves):
        mean = head.schedule.advance(move, samples[:, place], predict(samples[:, place], place))
        steps.append(_density((samples[:, place + 1] - mean) / _deviation(head, place), head))
    return torch.stack(steps, dim=1)


def trace_size(config: PolicyConfig) -> int:
    """Numbers that ``pack_chain`` makes of one chunk."""
    steps = len(config.schedule.visited)
    return (steps + 1) * config.prediction_horizon * config.action_dim + steps


def pack_chain(chain: Chain) -> Tensor:
    """(B, ``trace_size``): what is recorded with a chunk."""
    return torch.cat([chain.samples.flatten(1), chain.log_probability], dim=1)


def unpack_chain(traces: Tensor, config: PolicyConfig) -> Chain:
    """Takes apart what ``pack_chain`` made."""
    steps = len(config.schedule.visited)
    shape = (len(traces), steps + 1, config.prediction_horizon, config.action_dim)
    return Chain(traces[:, :-steps].reshape(shape), traces[:, -steps:])


def _density(noise: Tensor, head: Denoiser) -> Tensor:
    # (B,) from how many deviations (B, T_p, A) each number is away.
    return -0.5 * noise[:, head.executed].square().mean(dim=(1, 2))


def _deviation(head: Denoiser, place: int) -> float:
    return max(float(head.schedule.moves[place].noise_part), head.schedule.exploration)
