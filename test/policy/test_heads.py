"""Heads that denoise nothing: likelihoods, gradients, exploration, the search of an energy."""

import dataclasses

import pytest
import torch

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig, signature
from mechanic_rl_ros.policy.part_config import DeterministicConfig, GaussianConfig, ImplicitConfig
from mechanic_rl_ros.policy.parts import build_head
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.schedule import NoiseSchedule
from mechanic_rl_ros.tuner import RelativeMechanic

KINDS = {
    "gaussian": GaussianConfig(width=32),
    "deterministic": DeterministicConfig(width=32),
    "implicit": ImplicitConfig(width=32, counter_examples=16, candidates=256),
}
SMALL = PolicyConfig(cameras=("front",), state_dim=3, action_dim=2, prediction_horizon=4, action_horizon=2)
NUMBER = dataclasses.replace(SMALL, prediction_horizon=1, action_dim=1, action_horizon=1)


def head_of(kind: str, config: PolicyConfig = SMALL):
    torch.manual_seed(0)
    return build_head(dataclasses.replace(config, head=KINDS[kind]))


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_learns_what_it_is_shown_grippers_at_their_stops_included(kind):
    head, observation = head_of(kind), torch.randn(64, SMALL.observation_dim, generator=noise())
    chunks = torch.stack([torch.tanh(observation[:, :1]).expand(-1, 4), observation[:, 1:2].sign().expand(-1, 4)], dim=2)
    tuner, generator = RelativeMechanic(head.parameters()), noise()

    def error() -> float:
        answers = torch.cat([head.sample(row[None], 1, noise()) for row in observation])
        return float((answers - chunks).square().mean())

    before = error()
    for _ in range(200):
        loss = head.loss(observation, chunks, generator)
        assert loss.shape == (64,)
        tuner.zero_grad()
        loss.mean().backward()
        tuner.step()
    assert tuner.skipped == 0
    assert error() < 0.5 * before


def test_no_deviation_of_a_gaussian_excuses_a_mode_that_is_wrong():
    head, observation = head_of("gaussian"), torch.randn(256, SMALL.observation_dim, generator=noise())
    gripper = (observation[:, 1:2] * observation[:, 2:3]).sign()  # at its stops, and hard to tell
    chunks = torch.stack([torch.tanh(observation[:, :1]).expand(-1, 4), gripper.expand(-1, 4)], dim=2)
    tuner, generator = RelativeMechanic(head.parameters()), noise()
    for _ in range(200):
        drawn = torch.randint(len(chunks), (64,), generator=generator)
        tuner.zero_grad()
        head.loss(observation[drawn], chunks[drawn], generator).mean().backward()
        tuner.step()
    with torch.no_grad():
        errors = (head.mode(observation) - chunks).square().mean(dim=(0, 1)).sqrt()
        assert errors.tolist() == pytest.approx([0.0, 0.0], abs=0.2)  # by likelihood alone: 0.14 and 0.99
        assert float(head.log_probability(observation, chunks).mean()) > 15.0, "the deviation has learned, too"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("explore", [False, True])
def test_every_head_gives_as_many_chunks_as_asked_within_bounds_for_one_observation_and_for_many(kind, explore):
    head = head_of(kind)
    with torch.no_grad():
        head.leave.weight.mul_(50.0)
    for rows in (1, 5):
        chunks = head.sample(torch.randn(rows, SMALL.observation_dim), 5, noise(), explore)
        assert chunks.shape == (5, 4, 2)
        assert float(chunks.abs().max()) <= 1.0
        assert not chunks.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_in_practice_differs_from_the_next_and_one_that_is_judged_does_not(kind):
    head, observation, generator = head_of(kind), torch.randn(1, SMALL.observation_dim), noise()
    tries = [head.sample(observation, 1, generator, explore=True) for _ in range(2)]
    assert not torch.equal(*tries)
    if kind != "implicit":  # whose search is random
        assert torch.equal(*(head.sample(observation, 1, generator) for _ in range(2)))


def test_the_probability_of_a_squashed_gaussian_integrates_to_one():
    head = head_of("gaussian", NUMBER)
    with torch.no_grad():
        head.leave.bias.copy_(torch.tensor([0.4, 0.3]))
    actions = torch.linspace(-0.9999, 0.9999, 20_001)
    observation = torch.randn(1, NUMBER.observation_dim).expand(len(actions), -1)
    density = head.log_probability(observation, actions[:, None, None]).exp().detach()
    assert float(torch.trapezoid(density, actions)) == pytest.approx(1.0, abs=2e-3)


def test_a_drawn_chunk_has_the_probability_that_it_was_drawn_with():
    head, observation = head_of("gaussian"), torch.randn(500, SMALL.observation_dim)
    chunks, log_probability = head.draw(observation, noise())
    inside = chunks.abs().amax(dim=(1, 2)) < 0.99
    assert int(inside.sum()) > 250
    torch.testing.assert_close(log_probability[inside], head.log_probability(observation, chunks)[inside], atol=2e-2, rtol=1e-3)


def test_gradients_flow_through_what_is_drawn():
    head, observation = head_of("gaussian"), torch.randn(6, SMALL.observation_dim)
    chunks, log_probability = head.draw(observation, noise())
    for part in (chunks.sum(), log_probability.sum()):
        gradients = torch.autograd.grad(part, list(head.parameters()), retain_graph=True)
        assert all(bool(gradient.isfinite().all()) and float(gradient.abs().sum()) > 0 for gradient in gradients)


def test_many_draws_have_the_mode_in_their_middle():
    head, observation = head_of("gaussian", NUMBER), torch.randn(1, NUMBER.observation_dim)
    drawn = head.sample(observation, 4001, noise())
    torch.testing.assert_close(drawn.median(dim=0).values, head.mode(observation)[0].detach(), atol=0.03, rtol=0.0)


def test_exploring_noise_is_of_the_size_asked_for_and_smooth_over_the_chunk():
    head, observation = head_of("deterministic", dataclasses.replace(SMALL, prediction_horizon=8)), torch.randn(1, SMALL.observation_dim)
    with torch.no_grad():
        head.leave.weight.zero_()
        head.leave.bias.zero_()
    added = head.sample(observation, 20_000, noise(), explore=True)
    torch.testing.assert_close(added.std(dim=0), torch.tensor([0.2, 0.0]).expand(8, 2), atol=0.01, rtol=0.0)  # the gripper is left alone
    following = (added[:, 1:, 0] * added[:, :-1, 0]).mean(dim=0) / 0.04
    torch.testing.assert_close(following, torch.full((7,), 0.8), atol=0.03, rtol=0.0)


def test_infonce_prefers_the_demonstrated_action_and_the_search_finds_it():
    head, generator = head_of("implicit", NUMBER), noise()
    observation = torch.randn(1, NUMBER.observation_dim)
    shown, tuner = torch.full((64, 1, 1), 0.6), RelativeMechanic(head.parameters())
    for _ in range(150):
        tuner.zero_grad()
        head.loss(observation.expand(64, -1), shown, generator).mean().backward()
        tuner.step()
    grid = torch.linspace(-1, 1, 201).reshape(1, -1, 1, 1)
    assert float(grid.flatten()[head(observation, grid)[0].argmin()]) == pytest.approx(0.6, abs=0.1)
    assert float(head.sample(observation, 1, generator)) == pytest.approx(0.6, abs=0.1)


def test_the_search_goes_where_energy_is_low(monkeypatch):
    head, centres = head_of("implicit"), torch.tensor([-0.7, 0.2, 0.8])
    monkeypatch.setattr(head, "forward", lambda observation, chunks: 100.0 * (chunks - observation[:, :1, None, None]).square().sum(dim=(2, 3)))
    observation = torch.zeros(3, SMALL.observation_dim)
    observation[:, 0] = centres
    torch.testing.assert_close(head.sample(observation, 3, noise()).mean(dim=(1, 2)), centres, atol=0.15, rtol=0.0)
    alone = head.sample(observation[:1], 1, noise())
    assert float((alone + 0.7).abs().max()) < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_without_schedule_survives_a_checkpoint_and_acts_alike(checkpoint, observe, kind, tmp_path):
    torch.manual_seed(0)
    config = dataclasses.replace(checkpoint.config, head=KINDS[kind])
    Checkpoint("lift", checkpoint.embodiment, config, Policy(config).state_dict()).save(tmp_path / "policy")
    again = Checkpoint.load(tmp_path / "policy")
    assert again.config == config
    assert again.config.to_dict()["schedule"] is None
    actors = [Actor(again, seed=3) for _ in range(2)]
    chunks = []
    for actor in actors:
        actor.observe(observe(0))
        chunks.append(actor.act())
    assert chunks[0].shape == (8, 4)
    assert (chunks[0] == chunks[1]).all()


def test_a_schedule_that_means_nothing_is_no_part_of_the_architecture():
    gaussian = dataclasses.replace(SMALL, head=KINDS["gaussian"])
    assert signature(gaussian) == signature(dataclasses.replace(gaussian, schedule=NoiseSchedule(steps=7)))
    with pytest.raises(UserError, match="gaussian head has no schedule"):
        PolicyConfig.from_dict({**gaussian.to_dict(), "schedule": dataclasses.asdict(NoiseSchedule())})
    with pytest.raises(UserError, match="mlp head needs a schedule"):
        PolicyConfig.from_dict({**SMALL.to_dict(), "schedule": None})


@pytest.mark.parametrize("size", [1.5, -0.1, 1, float("nan"), "big"])
def test_noise_is_a_share(size):
    data = {**SMALL.to_dict(), "schedule": None, "head": {"kind": "deterministic", "width": 8, "depth": 1, "noise": size}}
    with pytest.raises(UserError, match="noise is"):
        PolicyConfig.from_dict(data)
