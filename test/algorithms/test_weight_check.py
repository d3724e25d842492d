"""The check of weights: what is let through, and what is not."""

import copy

import pytest
import torch

from mechanic_rl_ros.algorithms.weight_check import FARTHEST, distance, objection, stored_observations
from mechanic_rl_ros.paths import checkpoint_directory
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.replay.rows import Rows


@pytest.fixture(scope="module")
def lift() -> Checkpoint:
    return Checkpoint.load(checkpoint_directory("lift"))


@pytest.fixture
def policy(lift) -> Policy:
    return lift.build_policy()


@pytest.fixture
def rows(lift) -> Rows:
    frames, actions = lift.demonstrations["frames"].float(), lift.demonstrations["actions"].float()
    buffer = ReplayBuffer(lift.config, len(frames), 0.9)
    buffer.add(frames, actions[:-1], torch.zeros(len(frames) - 1), solved=True, terminal=True)
    return stored_observations(buffer, buffer, seed=0)


def changed(policy: Policy, change) -> Policy:
    other = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in other.head.parameters():
            change(parameter)
    return other


def test_weights_that_differ_a_little_may_act(policy, rows):
    assert objection({"the acting policy": policy}, changed(policy, lambda parameter: parameter.mul_(1.01)), rows, seed=0) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda parameter: parameter.fill_(torch.nan), "not finite"),
        (lambda parameter: parameter.normal_(0.0, 10.0), "at their limits"),
        (lambda parameter: parameter.mul_(2.0), "away from those of the acting policy"),
    ],
    ids=["not a number", "large and random", "twice as large"],
)
def test_weights_that_are_ruined_must_not_act(policy, rows, change, words):
    said = objection({"the acting policy": policy}, changed(policy, change), rows, seed=0)
    assert words in said
    assert "\n" not in said


def test_a_policy_that_knows_nothing_may_go_far_to_where_the_demonstrations_are(policy, rows):
    torch.manual_seed(0)
    ignorant = changed(policy, lambda parameter: parameter.normal_(0.0, 0.1))
    assert objection({"the acting policy": ignorant}, policy, rows, seed=0) == ""
    assert objection({"the acting policy": policy}, ignorant, rows, seed=0)


def test_what_is_near_to_one_policy_may_be_too_far_from_another(policy, rows):
    far = changed(policy, lambda parameter: parameter.mul_(2.0))
    said = objection({"the one": far, "the other": policy}, far, rows, seed=0)
    assert "those of the other, " in said


def test_two_policies_that_have_nothing_to_do_with_each_other_are_beyond_the_bound():
    actions = 0.3 * torch.randn(3, 500, 4, 4, generator=torch.Generator().manual_seed(0))
    assert distance(*actions) == pytest.approx(2**0.5, rel=0.05)
    assert distance(*actions) > FARTHEST
    assert distance(actions[0], actions[0], actions[1]) == 0.0


def test_a_policy_that_begins_to_answer_always_alike_does_not_shrink_the_unit():
    old, new, done = 0.3 * torch.randn(3, 500, 4, 4, generator=torch.Generator().manual_seed(0))
    assert distance(0.01 * old, 0.02 * new, done) < 0.1


def test_a_robot_that_was_always_told_the_same_still_has_a_unit():
    same = torch.zeros(32, 4, 4)
    assert distance(same, same + 0.01, same) < FARTHEST < distance(same, same + 0.1, same)
