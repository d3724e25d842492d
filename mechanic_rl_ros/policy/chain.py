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
    sample = torch.randn((len(observation), *head.chunk), generator=generator, device=observation.device)
    samples = [sample]
    for place in range(len(head.schedule.visited)):
        mean = _mean(head, observation, sample, place)
        sample = mean + _deviation(head, place) * torch.randn(mean.shape, generator=generator, device=mean.device)
        samples.append(sample)
    chain = torch.stack(samples, dim=1)
    return Chain(chain, log_probability(head, observation, chain))


def log_probability(head: Denoiser, observation: Tensor, samples: Tensor) -> Tensor:
    """(B, S), with gradient: how probable each step of given chains is; see ``Chain``."""
    steps = []
    for place in range(samples.shape[1] - 1):
        error = (samples[:, place + 1] - _mean(head, observation, samples[:, place], place)) / _deviation(head, place)
        steps.append(-0.5 * error[:, head.executed].square().mean(dim=(1, 2)))
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


def _mean(head: Denoiser, observation: Tensor, sample: Tensor, place: int) -> Tensor:
    step = torch.tensor(head.schedule.visited[place : place + 1], device=observation.device)
    return head.schedule.advance(head.schedule.moves[place], sample, head.denoise(sample, head.condition(step, observation)))


def _deviation(head: Denoiser, place: int) -> float:
    return max(float(head.schedule.moves[place].noise_part), head.schedule.exploration)
