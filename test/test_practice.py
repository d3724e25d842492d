"""Practice without processes."""

from dataclasses import replace

import torch

from mechanic_rl_ros.algorithms.filtered_iql import FilteredIqlConfig
from mechanic_rl_ros.paths import checkpoint_directory
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.practice import practise, warm_up

LATENCY = 0.05


def test_practice_that_begins_with_what_was_practised_already_ends_the_same():
    base = Checkpoint.load(checkpoint_directory("lift"))
    config = FilteredIqlConfig(warmup_episodes=2, critic_updates=3, updates_per_episode=2, batch_size=8)
    known = warm_up(base, 3, 2, LATENCY)
    seen, ends = [], []
    for begun in (known, ()):
        episodes = []
        learner = practise(base, config, 3, 3, LATENCY, lambda practised, to=episodes: to.append(practised.episode), begun=begun)
        seen.append(episodes)
        ends.append(learner.candidate() | dict(learner.networks["q"].state_dict()))
    for ours, theirs in zip(*seen, strict=True):
        assert ours.id == theirs.id
        assert (ours.actions == theirs.actions).all()
    assert seen[0][0] is known[0]
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name


def test_known_episodes_are_taken_as_they_are():
    """What the test above rests on: other first episodes end in other weights."""
    base = Checkpoint.load(checkpoint_directory("lift"))
    config = FilteredIqlConfig(warmup_episodes=1, critic_updates=3, updates_per_episode=2, batch_size=8)
    known = warm_up(base, 3, 1, LATENCY)
    changed = [replace(known[0], actions=-known[0].actions)]
    ends = [practise(base, config, 3, 1, LATENCY, lambda practised: None, begun=begun).networks["q"].state_dict() for begun in (known, changed)]
    assert any(not torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
