import numpy as np
import pytest

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.safety.kinematics import DOWNWARD, Kinematics
from mechanic_rl_ros.sim.environment import Environment


def test_an_observation_has_the_shapes_of_the_embodiment(environment, embodiment):
    observation = environment.reset(0)
    assert {key: image.shape for key, image in observation.images.items()} == {"front": (48, 48, 3), "wrist": (48, 48, 3)}
    assert all(image.dtype == np.uint8 for image in observation.images.values())
    assert observation.state.shape == (len(embodiment.state),)
    assert observation.state.dtype == np.float32
    assert observation.state == pytest.approx([0.47, 0.0, 0.25, 0.04], abs=0.002)


def test_a_step_lasts_one_policy_period_and_moves_as_the_action_says(environment, embodiment):
    first = environment.reset(1)
    for _ in range(5):
        result = environment.step((0.5, -0.5, 0.0, 1.0))
    assert result.observation.stamp_ns - first.stamp_ns == 5 * embodiment.period_ns
    assert result.observation.state[:3] - first.state[:3] == pytest.approx([0.075, -0.075, 0.0], abs=0.015)
    assert result.observation.state[3] < 0.001


def test_the_hand_points_down_all_the_time(environment, embodiment):
    environment.reset(2)
    kinematics, rng = Kinematics(embodiment), np.random.default_rng(0)
    for _ in range(40):
        environment.step(rng.uniform(-1.0, 1.0, 4))
        rotation = kinematics.tcp(environment.simulation.joint_state().positions)[1]
        assert rotation[2, 2] < -0.999
        assert rotation == pytest.approx(DOWNWARD, abs=0.05)


def test_an_episode_ends_with_a_reward_when_the_task_is_solved(environment):
    environment.reset(3)
    results = []
    while not results or not results[-1].terminated:
        results.append(environment.step(environment.expert()))
    assert [result.reward for result in results] == [0.0] * (len(results) - 1) + [1.0]
    assert results[-1].success
    assert not results[-1].truncated
    with pytest.raises(UserError, match="reset"):
        environment.step(np.zeros(4))


def test_an_episode_solved_in_its_last_step_is_not_truncated(environment, embodiment):
    environment.reset(3)
    steps = 1
    while not environment.step(environment.expert()).terminated:
        steps += 1
    short = Environment("lift", embodiment, max_steps=steps)
    short.reset(3)
    last = [short.step(short.expert()) for _ in range(steps)][-1]
    assert last.success
    assert not last.truncated


def test_an_episode_without_success_is_truncated_after_its_last_step(embodiment):
    environment = Environment("lift", embodiment, max_steps=5)
    environment.reset(0)
    results = [environment.step(np.zeros(4)) for _ in range(5)]
    assert [result.truncated for result in results] == [False] * 4 + [True]
    assert not any(result.terminated or result.reward for result in results)
    with pytest.raises(UserError, match="reset"):
        environment.step(np.zeros(4))


def test_the_same_seed_and_actions_give_the_same_episode_whatever_was_before(environment, embodiment):
    other = Environment("lift", embodiment)
    environment.reset(9)
    environment.step((1.0, 1.0, 1.0, 1.0))
    for env in (environment, other):
        env.reset(10)
    for _ in range(15):
        action = environment.expert(0.3)
        assert np.array_equal(action, other.expert(0.3))
        mine, theirs = environment.step(action).observation, other.step(action).observation
        assert np.array_equal(mine.state, theirs.state)
        assert all(np.array_equal(mine.images[key], theirs.images[key]) for key in mine.images)


def test_noise_varies_the_experts_velocity_but_not_its_grip(environment):
    environment.reset(4)
    plain, noisy = environment.expert(), environment.expert(0.5)
    assert np.abs(plain - noisy)[:3].max() > 0.05
    assert plain[3] == noisy[3]


def test_an_action_of_the_wrong_shape_is_refused(environment):
    environment.reset(0)
    with pytest.raises(UserError, match=r"give \(4,\)"):
        environment.step(np.zeros(3))


def test_before_the_first_reset_there_is_no_episode(embodiment):
    with pytest.raises(UserError, match="reset"):
        Environment("lift", embodiment).step(np.zeros(4))


def test_an_action_that_is_not_finite_holds_the_arm(environment):
    start = environment.reset(5).state
    for _ in range(5):
        result = environment.step((np.nan, 0.0, 0.0, 0.0))
    assert result.observation.state == pytest.approx(start, abs=1e-3)
