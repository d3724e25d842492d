"""An episode is joined from what was seen, done and rewarded."""

import numpy as np
import pytest

from mechanic_rl_ros.data import Observation, Outcome, Source
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.replay.episode_check import check_episode
from mechanic_rl_ros.replay.recording import Recording
from mechanic_rl_ros.safety.executed import Executed

EMBODIMENT = load_embodiment()
STEP = EMBODIMENT.period_ns
START = 123 * STEP


def frame(index):
    images = {key: np.full((spec.height, spec.width, 3), index % 256, np.uint8) for key, spec in EMBODIMENT.cameras.items()}
    return Observation(START + index * STEP, images, np.full(4, index, np.float32))


def done(index, version=2, best_of_n=False):
    return Executed(START + index * STEP, np.full(4, 0.01 * index, np.float32), version, best_of_n, Source.POLICY)


def record(steps, frames=(), actions=(), order=1):
    """A recording of an episode that lacks the given frames and actions."""
    recording = Recording("e1", "lift", 5, START, EMBODIMENT)
    for index in list(range(steps + 1))[::order]:
        if index not in frames:
            recording.observe(frame(index))
        if index < steps and index not in actions:
            recording.execute(done(index))
    return recording


def test_a_whole_episode_holds_exactly_what_came():
    recording = record(6)
    recording.reward(START + 6 * STEP, 1.0)
    assert recording.complete(START + 6 * STEP)
    episode, reason = recording.finish(START + 6 * STEP, Outcome.SUCCESS)
    assert reason == ""
    check_episode(episode)
    assert episode.stamps_ns.tolist() == [START + index * STEP for index in range(7)]
    assert episode.states[:, 0].tolist() == list(range(7))
    assert episode.images["wrist"][:, 0, 0, 0].tolist() == list(range(7))
    assert episode.actions[:, 0] == pytest.approx([0.01 * index for index in range(6)])
    assert episode.rewards.tolist() == [0, 0, 0, 0, 0, 1]
    assert (episode.outcome, episode.seed, set(episode.policy_versions)) == (Outcome.SUCCESS, 5, {2})


def test_a_trace_belongs_to_the_step_of_its_observation_and_one_of_another_size_to_none():
    recording = record(4)
    recording.trace(START + STEP, np.arange(3, dtype=np.float32))
    recording.trace(START + 3 * STEP, np.zeros(7, np.float32))
    episode, _ = recording.finish(START + 4 * STEP, Outcome.SUCCESS)
    check_episode(episode)
    assert episode.traces[1].tolist() == [0, 1, 2]
    assert np.isnan(episode.traces[[0, 2, 3]]).all()


def test_the_order_of_arrival_does_not_matter():
    forth, _ = record(6).finish(START + 6 * STEP, Outcome.TIMEOUT)
    back, _ = record(6, order=-1).finish(START + 6 * STEP, Outcome.TIMEOUT)
    assert np.array_equal(forth.actions, back.actions)
    assert np.array_equal(forth.images["front"], back.images["front"])


def test_frames_of_the_last_episode_and_after_the_end_are_left_out():
    recording = record(4)
    for index in (-2, -1, 5, 6):
        recording.observe(frame(index))
    episode, _ = recording.finish(START + 4 * STEP, Outcome.TIMEOUT)
    assert episode.states[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_of_two_frames_of_one_step_the_first_counts():
    recording = record(4)
    recording.observe(Observation(START + 2 * STEP + 1000, frame(9).images, frame(9).state))
    episode, _ = recording.finish(START + 4 * STEP, Outcome.TIMEOUT)
    assert episode.states[2, 0] == 2


def test_a_missing_frame_is_filled_with_the_one_before_and_a_missing_action_with_the_last():
    recording = record(20, frames=(7,), actions=(11,))
    assert not recording.complete(START + 20 * STEP)
    episode, reason = recording.finish(START + 20 * STEP, Outcome.TIMEOUT)
    assert reason == ""
    check_episode(episode)
    assert episode.states[6:9, 0].tolist() == [6, 6, 8]
    assert episode.actions[10:13, 0] == pytest.approx([0.10, 0.10, 0.12])
    assert np.diff(episode.stamps_ns).tolist() == [STEP] * 20


def test_a_missing_first_action_is_filled_with_the_next_one():
    episode, reason = record(20, actions=(0,)).finish(START + 20 * STEP, Outcome.TIMEOUT)
    assert reason == ""
    check_episode(episode)
    assert episode.actions[0, 0] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("frames", "actions"),
    [((), range(5)), (range(1, 6), ()), ((3, 4, 5), (3, 4))],
    ids=["actions", "frames", "both"],
)
def test_when_much_is_missing_there_is_no_episode(frames, actions):
    episode, reason = record(20, frames=frames, actions=actions).finish(START + 20 * STEP, Outcome.TIMEOUT)
    assert episode is None
    assert reason == "5 of 41 frames and actions are missing"


def test_without_a_first_frame_or_a_step_there_is_no_episode():
    assert record(20, frames=(0,)).finish(START + 20 * STEP, Outcome.TIMEOUT)[0] is None
    assert record(0).finish(START, Outcome.TIMEOUT) == (None, "it has no complete step")


def test_an_episode_is_best_of_n_when_any_of_its_actions_was():
    recording = Recording("e1", "lift", 5, START, EMBODIMENT)
    for index in range(5):
        recording.observe(frame(index))
        recording.execute(done(index, version=3, best_of_n=True) if index == 2 else done(index))
    episode, _ = recording.finish(START + 4 * STEP, Outcome.TIMEOUT)
    assert episode.best_of_n
    assert episode.policy_versions.tolist() == [2, 2, 3, 2]


def test_stamps_that_jitter_by_less_than_half_a_step_find_their_place():
    recording = Recording("e1", "lift", 5, START, EMBODIMENT)
    for index in range(5):
        shift = STEP // 3 * (-1) ** index
        recording.observe(Observation(START + index * STEP + (shift if index else 0), frame(index).images, frame(index).state))
        recording.execute(done(index))
    episode, _ = recording.finish(START + 4 * STEP, Outcome.TIMEOUT)
    assert episode.states[:, 0].tolist() == list(range(5))
