"""Cloning: from demonstrations to a policy that solves a toy task, reproducibly."""

import dataclasses

import numpy as np
import pytest
import torch

from mechanic_rl_ros.algorithms.behaviour_cloning import BehaviourCloningConfig, clone
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.part_config import DeterministicConfig, GaussianConfig, ImplicitConfig, ResnetEncoderConfig, UnetDenoiserConfig
from mechanic_rl_ros.policy.schedule import NoiseSchedule
from mechanic_rl_ros.rollout import record_episode, run_episode

QUICK = BehaviourCloningConfig(encoder_updates=40, denoiser_updates=150, encoder_batch=12, noise_samples=4, denoiser_batch=48, shift=0)
TINY = BehaviourCloningConfig(encoder_updates=2, denoiser_updates=2, encoder_batch=4, noise_samples=2, denoiser_batch=8, shift=1)


def test_a_cloned_policy_solves_the_toy_task_where_a_random_one_does_not(world, practise):
    demonstrations = [practise(seed) for seed in range(16)]
    actor = Actor(clone(demonstrations, QUICK))
    random = Actor(clone(demonstrations, TINY))
    solved, by_chance = ([run_episode(world, who, seed).success for seed in range(1000, 1036)] for who in (actor, random))
    assert sum(solved[:12]) >= 9
    assert sum(solved) > 12 + sum(by_chance)  # a third of the scenes: an untrained policy solves some of this task, too


@pytest.mark.parametrize("head", [GaussianConfig(), DeterministicConfig(), ImplicitConfig()], ids=lambda head: head.kind)
def test_a_cloned_head_that_denoises_nothing_solves_what_noise_does_not(world, practise, head):
    demonstrations = [practise(seed) for seed in range(16)]
    architecture = PolicyConfig.for_embodiment(demonstrations[0].embodiment, head=head, prediction_horizon=2, action_horizon=2)
    actor, rng = Actor(clone(demonstrations, QUICK, architecture=architecture)), np.random.default_rng(0)
    world.max_steps = 8  # the farthest target takes six straight ones
    solved = sum(run_episode(world, actor, seed).success for seed in range(1000, 1036))
    by_chance = sum(record_episode(world, lambda seen: rng.uniform(-1.0, 1.0, 4).astype(np.float32), seed, "noise").success for seed in range(1000, 1036))
    assert solved > 12 + by_chance


def test_cloning_is_reproducible_and_reports_every_update(practise):
    demonstrations, reports = [practise(seed) for seed in range(3)], []
    first = clone(demonstrations, TINY, seed=5, progress=lambda *values: reports.append(values))
    second = clone(demonstrations, TINY, seed=5)
    assert all(torch.equal(first.policy[name], second.policy[name]) for name in first.policy)
    assert [report[:2] for report in reports] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_demonstrations_travel_in_the_checkpoint(practise, tmp_path):
    demonstrations = [practise(seed) for seed in range(3)]
    made = clone(demonstrations, TINY)
    assert made.demonstrations["lengths"].tolist() == [episode.steps + 1 for episode in demonstrations]
    torch.testing.assert_close(made.demonstrations["actions"][0].float(), torch.from_numpy(demonstrations[0].actions[0]), atol=1e-3, rtol=1e-3)
    made.save(tmp_path)


def test_only_solved_demonstrations_of_one_task_are_used(practise):
    failed = practise(1, expert=False)
    assert not failed.success
    assert clone([practise(0), failed], TINY).metadata["demonstrations"] == 1
    with pytest.raises(UserError, match="no solved demonstration"):
        clone([failed], TINY)
    with pytest.raises(UserError, match="of one task"):
        clone([practise(0), dataclasses.replace(practise(1), task="other")], TINY)


def test_a_policy_of_another_architecture_is_cloned_and_acts(world, practise):
    architecture = PolicyConfig.for_embodiment(
        practise(0).embodiment,
        past_actions=1,
        encoder=ResnetEncoderConfig(keypoints=4, crop=(40, 40)),
        head=UnetDenoiserConfig(widths=(16, 24), step_width=16),
        schedule=NoiseSchedule(steps=10, sampling_steps=2, prediction="sample"),
    )
    checkpoint = clone([practise(seed) for seed in range(2)], dataclasses.replace(TINY, colour=0.2), architecture=architecture)
    assert checkpoint.config == architecture
    assert run_episode(world, Actor(checkpoint), 0).steps > 0


def test_pretrained_weights_need_a_resnet_to_go_into(practise, tmp_path):
    with pytest.raises(UserError, match="no ResNet"):
        clone([practise(0)], TINY, pretrained=tmp_path / "resnet18.safetensors")
