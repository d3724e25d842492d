"""Chains of denoising: drawn with noise after every step, and their probability known."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from mechanic_rl_ros.data import Observation
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.chain import draw_chain, log_probability, pack_chain, trace_size, unpack_chain
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.schedule import NoiseSchedule

CONFIG = PolicyConfig(("front",), 2, 2, schedule=NoiseSchedule(exploration=0.1))


@pytest.fixture
def policy() -> Policy:
    torch.manual_seed(0)
    return Policy(CONFIG).eval()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_probability_of_a_step_is_that_of_a_gaussian_around_the_samplers_own_step(policy):
    observation = torch.randn(3, CONFIG.observation_dim)
    chain = draw_chain(policy.head, observation, generator())
    step = policy.head.schedule.visited[1]
    start = chain.samples[:, 1]
    mean = policy.head.schedule.advance(policy.head.schedule.moves[1], start, policy.head(start, torch.tensor([step]), observation))
    gaussian = torch.distributions.Normal(mean, 0.1).log_prob(chain.samples[:, 2])[:, : CONFIG.action_horizon].mean(dim=(1, 2))
    constant = -math.log(0.1) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(chain.log_probability[:, 1] + constant, gaussian, atol=1e-5, rtol=1e-5)


def test_a_chain_with_hardly_any_noise_ends_where_the_sampler_does(policy):
    policy.head.schedule = dataclasses.replace(CONFIG.schedule, exploration=1e-6)
    observation = torch.randn(1, CONFIG.observation_dim)
    chain = draw_chain(policy.head, observation, generator(3))
    torch.testing.assert_close(chain.samples[:, -1], policy.head.decode(observation, chain.samples[:, 0]), atol=1e-3, rtol=0)


def test_a_chain_becomes_more_probable_along_its_gradient(policy):
    observation = torch.randn(4, CONFIG.observation_dim)
    chain = draw_chain(policy.head, observation, generator())
    optimizer = torch.optim.SGD(policy.head.parameters(), lr=1e-4)
    (-log_probability(policy.head, observation, chain.samples).mean()).backward()
    optimizer.step()
    again = log_probability(policy.head, observation, chain.samples).detach()
    assert float(again.mean()) > float(chain.log_probability.mean())


def test_a_chain_survives_packing(policy):
    chain = draw_chain(policy.head, torch.randn(3, CONFIG.observation_dim), generator())
    packed = pack_chain(chain)
    assert packed.shape == (3, trace_size(CONFIG))
    again = unpack_chain(packed, CONFIG)
    assert torch.equal(again.samples, chain.samples)
    assert torch.equal(again.log_probability, chain.log_probability)


def test_an_actor_records_how_it_drew_a_chunk_only_while_it_explores():
    embodiment = load_embodiment()
    config = PolicyConfig.for_embodiment(embodiment, schedule=NoiseSchedule(exploration=0.1))
    checkpoint = Checkpoint("lift", embodiment, config, Policy(config).state_dict())
    images = {key: np.zeros((camera.height, camera.width, 3), np.uint8) for key, camera in embodiment.cameras.items()}
    for explore in (True, False):
        actor = Actor(checkpoint, explore=explore)
        actor.observe(Observation(0, images, np.zeros(len(embodiment.state), np.float32)))
        chunk = actor.act()
        assert len(actor.trace) == (trace_size(config) if explore else 0)
        if explore:
            last = unpack_chain(torch.from_numpy(actor.trace)[None], config).samples[0, -1].clamp(-1, 1)
            np.testing.assert_array_equal(chunk, last.numpy())


def test_a_chain_costs_one_evaluation_a_step_and_one_condition(policy, monkeypatch):
    calls, genuine = {"denoise": 0, "condition": 0}, {name: getattr(policy.head, name) for name in ("denoise", "condition")}

    def counted(name):
        def call(*arguments):
            calls[name] += 1
            return genuine[name](*arguments)

        return call

    for name in calls:
        monkeypatch.setattr(policy.head, name, counted(name))
    draw_chain(policy.head, torch.randn(1, CONFIG.observation_dim), generator())
    assert calls == {"denoise": len(policy.head.schedule.visited), "condition": 1}
