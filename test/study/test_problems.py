"""What a study practises on."""

import torch

from mechanic_rl_ros.algorithms.behaviour_cloning import BehaviourCloningConfig
from mechanic_rl_ros.paths import checkpoint_directory
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.study import problems
from mechanic_rl_ros.study.problems import PROBLEMS, base_policy


def test_every_condition_is_like_a_problem_that_starts_where_it_does():
    for name, problem in PROBLEMS.items():
        if problem.like:
            usual = PROBLEMS[problem.like]
            assert (problem.task, problem.latency) == (usual.task, usual.latency), name
            assert problem.base in (problem.like, usual.base), name


def test_networks_of_other_widths_are_cloned_on_the_encoders_and_demonstrations_of_the_shipped_policy(tmp_path, monkeypatch):
    monkeypatch.setattr(problems.BehaviourCloningConfig, "from_yaml", lambda: BehaviourCloningConfig(denoiser_updates=2))
    shipped = Checkpoint.load(checkpoint_directory("lift"))
    widths = {}
    for name in ("lift-width-0.5", "lift-width-1"):
        policy = Checkpoint.load(base_policy(name, tmp_path))
        widths[name] = (policy.config.head.width, policy.config.critic_width)
        for key, tensor in shipped.policy.items():
            assert key.startswith("head.") or torch.equal(tensor, policy.policy[key])
        assert all(torch.equal(tensor, policy.demonstrations[key]) for key, tensor in shipped.demonstrations.items())
    usual = (shipped.config.head.width, shipped.config.critic_width)
    assert widths == {"lift-width-0.5": tuple(size // 2 for size in usual), "lift-width-1": usual}


def test_what_changes_nothing_in_the_network_starts_from_the_shipped_policy(tmp_path):
    assert base_policy("lift-gradient-1e3", tmp_path) == checkpoint_directory("lift")
