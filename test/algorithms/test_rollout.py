"""Rollouts: the receding horizon, latency, what is recorded; collection and evaluation on the real environment."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from mechanic_rl_ros.algorithms.behaviour_cloning import BehaviourCloningConfig, clone
from mechanic_rl_ros.collection import DEMONSTRATION_SEED, CollectionConfig, collect
from mechanic_rl_ros.data import Outcome, Source
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.evaluation import evaluate, wilson
from mechanic_rl_ros.latency import LatencyMode
from mechanic_rl_ros.paths import checkpoint_directory
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.rollout import record_episode, run_episode, solves
from mechanic_rl_ros.sim.environment import Environment


class CountingActor:
    """Its n-th chunk is n, n + 0.1, n + 0.2, ... in every dimension, all divided by 10."""

    version, has_critic, embodiment = 3, True, load_embodiment()
    config = SimpleNamespace(action_horizon=4)
    trace, explore = np.zeros(0, np.float32), False

    def reset(self, seed):
        self.chunks, self.seen, self.seed, self.delays = 0, 0, seed, []

    def observe(self, observation):
        self.seen += 1

    def act(self, best_of_n, delay=None):
        self.chunks += 1
        self.delays.append(delay)
        return np.tile((self.chunks + np.arange(8) / 10)[:, None] / 10, (1, 4)).astype(np.float32)


def test_four_actions_of_a_chunk_are_executed_and_every_frame_is_observed(world):
    actor = CountingActor()
    world.max_steps = 9
    episode = run_episode(world, actor, seed=4, best_of_n=True)
    executed = np.array([1, 1.1, 1.2, 1.3, 2, 2.1, 2.2, 2.3, 3]) / 10
    np.testing.assert_allclose(episode.actions[:, 0], executed[: episode.steps], atol=1e-6)
    assert (actor.seen, actor.seed) == (episode.steps, 4)
    assert episode.best_of_n
    assert set(episode.policy_versions.tolist()) == {3}


def test_a_late_chunk_leaves_the_first_part_of_its_interval_to_the_previous_one(world):
    world.max_steps = 5
    world.reset(4)
    episode = run_episode(world, CountingActor(), seed=4, latency=0.03)
    np.testing.assert_allclose(episode.actions[0, 0], 0.7 * 0.1, atol=1e-6)
    np.testing.assert_allclose(episode.actions[4, 0], 0.7 * 0.2 + 0.3 * 0.14, atol=1e-6)


PLAYED = {
    LatencyMode.OVERLAPPING: [0, 0, 1.2, 1.3, 1.4, 1.5, 2.2, 2.3, 2.4, 2.5, 3.2],
    LatencyMode.INPAINTING: [0, 0, 1.2, 1.3, 1.4, 1.5, 2.2, 2.3, 2.4, 2.5, 3.2],
    LatencyMode.WAITING: [0, 0, 1, 1.1, 1.2, 1.3, 0, 0, 2, 2.1, 2.2],
}


@pytest.mark.parametrize("mode", LatencyMode)
def test_for_two_periods_the_arm_holds_or_plays_the_previous_chunk(world, mode):
    actor, world.max_steps = CountingActor(), 11
    world.reset(4)
    episode = run_episode(world, actor, seed=4, latency=0.2, latency_mode=mode)
    np.testing.assert_allclose(episode.actions[:, 0], np.array(PLAYED[mode])[: episode.steps] / 10, atol=1e-6)
    assert set(actor.delays) == {2 if mode is LatencyMode.INPAINTING else None}


def test_while_the_arm_waits_the_hand_stays_as_it_is_and_actions_follow_one_another_within_periods(world):
    world.max_steps = 8
    episode = run_episode(world, CountingActor(), seed=4, latency=0.15, latency_mode=LatencyMode.WAITING)
    arm = np.array([0, 0.5, 1.05, 1.15, 1.25, 0.65, 0, 1]) / 10
    np.testing.assert_allclose(episode.actions[:, 0], arm[: episode.steps], atol=1e-6)
    assert (episode.actions[1:, 3] > 0.0).all()


class Watched(Environment):
    """Remembers what is done, and counts how often anybody looks."""

    def reset(self, seed, region="all"):
        self.actions, self.looks = [], 0
        return super().reset(seed, region)

    def move(self, action):
        self.actions.append(action)
        return super().move(action)

    def observe(self):
        self.looks += 1
        return super().observe()


@pytest.mark.parametrize(("mode", "latency"), [(LatencyMode.OVERLAPPING, 0.05), (LatencyMode.INPAINTING, 0.2), (LatencyMode.WAITING, 0.15)])
def test_who_only_asks_whether_a_scene_is_solved_looks_half_as_often_and_does_exactly_the_same(mode, latency):
    checkpoint = Checkpoint.load(checkpoint_directory("reach"))
    env, actor = Watched("reach", checkpoint.embodiment), Actor(checkpoint)
    results = []
    for seed in range(500_000, 500_006):
        episode = run_episode(env, actor, seed, latency=latency, latency_mode=mode)
        actions, looks = env.actions, env.looks
        results.append(solves(env, actor, seed, latency=latency, latency_mode=mode))
        assert results[-1] == episode.success
        assert np.array_equal(env.actions, actions)
        assert env.looks <= 0.6 * looks
    assert len(set(results)) == 2, "scenes of both kinds"


def test_a_latency_beyond_what_is_played_of_a_chunk_is_refused(world):
    with pytest.raises(UserError, match="longer than the 4 actions"):
        run_episode(world, CountingActor(), seed=4, latency=0.41)


def test_an_episode_has_one_more_frame_than_actions_and_says_how_it_ended(world):
    solved = record_episode(world, lambda observation: world.expert(), 5, "a", source=Source.EXPERT)
    idle = record_episode(world, lambda observation: np.zeros(4, np.float32), 5, "b")
    assert (solved.outcome, idle.outcome) == (Outcome.SUCCESS, Outcome.TIMEOUT)
    assert (solved.rewards[-1], solved.rewards[:-1].sum(), idle.rewards.sum()) == (1.0, 0.0, 0.0)
    for episode in (solved, idle):
        assert len(episode.stamps_ns) == len(episode.states) == len(episode.images["front"]) == episode.steps + 1
    assert idle.steps == world.max_steps


def test_wilson_intervals_are_the_published_ones():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


@pytest.fixture(scope="module")
def demonstrations():
    return list(collect("lift", load_embodiment(), CollectionConfig(episodes=3)))


def test_demonstrations_are_solved_reproducible_and_the_same_for_two_workers(demonstrations):
    assert [episode.success for episode in demonstrations] == [True] * 3
    assert all(episode.seed >= DEMONSTRATION_SEED for episode in demonstrations)
    again = list(collect("lift", load_embodiment(), CollectionConfig(episodes=3), workers=2))
    assert [episode.id for episode in again] == [episode.id for episode in demonstrations]
    for first, second in zip(demonstrations, again, strict=True):
        assert np.array_equal(first.actions, second.actions)
        assert np.array_equal(first.images["wrist"], second.images["wrist"])


def test_an_evaluation_is_the_same_for_two_workers_and_reports_every_episode(demonstrations):
    made = clone(demonstrations, BehaviourCloningConfig(encoder_updates=2, denoiser_updates=2, encoder_batch=4, denoiser_batch=8))
    reports, seeds = [], range(500_000, 500_003)
    alone = evaluate(made, "lift", seeds, progress=lambda *values: reports.append(values))
    assert evaluate(made, "lift", seeds, workers=2) == alone
    assert [report[:2] for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert not alone.best_of_n


def test_a_base_checkpoint_never_acts_best_of_n(demonstrations):
    made = clone(demonstrations, BehaviourCloningConfig(encoder_updates=1, denoiser_updates=1, encoder_batch=4, denoiser_batch=8))
    assert not evaluate(dataclasses.replace(made, metadata={"prefers_best_of_n": True}), "lift", [500_000]).best_of_n


def test_an_unknown_task_is_said(demonstrations):
    with pytest.raises(UserError, match="unknown task"):
        next(collect("juggle", load_embodiment(), CollectionConfig(episodes=1)))
