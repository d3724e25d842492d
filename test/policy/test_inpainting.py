"""Real-time chunking: what is committed stays, what overlaps is continued, and nothing changes for those who do not ask."""

import dataclasses

import numpy as np
import pytest
import torch

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.head import Head
from mechanic_rl_ros.policy.inpainting import continuing, soft_mask
from mechanic_rl_ros.policy.part_config import UnetDenoiserConfig
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.schedule import NoiseSchedule

PERIOD_NS, T_A = 100_000_000, 4


def with_parts(checkpoint, **parts) -> Checkpoint:
    torch.manual_seed(0)
    config = dataclasses.replace(checkpoint.config, **parts)
    return dataclasses.replace(checkpoint, config=config, policy=Policy(config).state_dict(), critics=None)


def two_chunks(checkpoint, observe, delay=None, later=T_A, best_of_n=False, seed=0):
    """Chunks of two observations ``later`` periods apart; the second one continues the first one unless the delay is None."""
    actor, chunks = Actor(checkpoint, seed=seed), []
    for step in (0, later):
        actor.observe(dataclasses.replace(observe(step + 2), stamp_ns=10**9 + step * PERIOD_NS))
        chunks.append(actor.act(best_of_n, delay))
    return chunks


def test_the_weights_are_those_of_the_paper():
    one, three_quarters, half, quarter = 1.0, 0.4875510, 0.1887703, 0.0413240  # c (exp c - 1) / (e - 1) for c = 1, 3/4, ...
    assert soft_mask(8, 4, 1) == pytest.approx([one, three_quarters, half, quarter, 0, 0, 0, 0], abs=1e-6)
    assert soft_mask(4, 2, 3) == [1.0, 1.0, 0.0, 0.0]


def test_action_k_of_a_chunk_continues_action_k_plus_what_has_passed_of_the_previous_one():
    previous = torch.arange(16.0).reshape(8, 2)
    inpainting = continuing(previous, elapsed=5, frozen=2)
    assert torch.equal(inpainting.known[:3], previous[5:])
    free = torch.full((6, 8, 2), 99.0)
    inpainted = inpainting.spread(steps=5)(free)
    assert torch.equal(inpainted[:, :2], previous[5:7].expand(6, -1, -1))
    assert torch.equal(inpainted[:, 3:], free[:, 3:])


@pytest.mark.parametrize("steps", [1, 5, 100])
def test_all_steps_together_weigh_as_the_paper_says(steps):
    clean = torch.zeros(1, 8, 1)
    inpainting = continuing(torch.ones(8, 1), elapsed=4, frozen=1)
    for _ in range(steps):
        clean = inpainting.spread(steps)(clean)
    assert clean[0, :, 0].tolist() == pytest.approx(soft_mask(8, 4, 1), abs=1e-5)


SAMPLERS = [("ddim", "consistent"), ("ddim", "plain"), ("ddim", "none"), ("ddpm", "plain")]


@pytest.mark.parametrize(("sampler", "clipping"), SAMPLERS)
@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_what_will_be_over_is_exactly_what_the_previous_chunk_said(checkpoint, observe, sampler, clipping, prediction):
    schedule = NoiseSchedule(sampler=sampler, clipping=clipping, prediction=prediction)
    made = with_parts(checkpoint, schedule=schedule, head=UnetDenoiserConfig(widths=(16, 32), step_width=16))
    first, second = two_chunks(made, observe, delay=2)
    np.testing.assert_allclose(second[:2], first[T_A : T_A + 2], atol=1e-6)
    assert not np.allclose(second[2:4], first[T_A + 2 :], atol=1e-3)


def test_actions_that_lie_in_the_past_do_not_count_as_delay(checkpoint, observe):
    made = with_parts(checkpoint, past_actions=1, prediction_horizon=10, schedule=NoiseSchedule(prediction="sample"))
    first, second = two_chunks(made, observe, delay=2)
    np.testing.assert_allclose(second[:2], first[T_A : T_A + 2], atol=1e-6)
    assert not np.allclose(second[2], first[T_A + 2], atol=1e-3)


def test_every_sample_that_the_critics_judge_continues_the_previous_chunk(checkpoint, observe):
    first, second = two_chunks(checkpoint, observe, delay=3, best_of_n=True)
    np.testing.assert_allclose(second[:3], first[T_A : T_A + 3], atol=1e-6)


def test_a_continued_chunk_leaves_the_previous_one_more_gently(checkpoint, observe):
    def jump(delay, seed):
        first, second = two_chunks(checkpoint, observe, delay, seed=seed)
        return np.abs(second[1] - first[T_A + 1]).mean()

    seeds = range(16)
    assert np.mean([jump(1, seed) for seed in seeds]) < 0.8 * np.mean([jump(None, seed) for seed in seeds])


@pytest.mark.parametrize("later", [8, 30, -2], ids=["the previous one is over", "long over", "the clock went back"])
def test_where_nothing_overlaps_a_chunk_is_as_if_there_were_no_previous_one(checkpoint, observe, later):
    assert np.array_equal(two_chunks(checkpoint, observe, delay=2, later=later)[1], two_chunks(checkpoint, observe, later=later)[1])


def test_a_new_episode_does_not_continue_the_last_one(checkpoint, observe):
    fresh, used = Actor(checkpoint), Actor(checkpoint)
    used.observe(observe(5))
    used.act(delay=2)
    chunks = []
    for actor in (fresh, used):
        actor.reset(3)
        actor.observe(observe(6))
        chunks.append(actor.act(delay=2))
    assert np.array_equal(*chunks)


def test_a_head_that_cannot_inpaint_says_so():
    class Still(Head):
        def loss(self, observation, chunks, generator):
            return chunks.new_zeros(len(chunks))

        def sample(self, observation, samples, generator, explore=False):
            return torch.zeros(samples, 8, 4)

    with pytest.raises(UserError, match="Still cannot inpaint: use latency mode overlapping"):
        Still().inpaint(torch.zeros(1, 3), 1, torch.Generator(), continuing(torch.zeros(8, 4), 4, 1))
