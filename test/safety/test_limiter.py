import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.limiter import STOP_DECELERATION, JointLimiter
from mechanic_rl_ros.safety.limits import SafetyLimits

PERIOD = 0.01
BOUNDS = SafetyLimits()
REST = np.array([0.0, 0.0, 0.0, -1.5, 0.0, 2.0, 0.0])
speeds = st.lists(st.floats(-1.2, 1.2), min_size=7, max_size=7).map(np.array)
accelerations = st.lists(st.floats(-9.5, 9.5), min_size=7, max_size=7).map(np.array)


def accelerate(wish, periods, q=REST):
    limiter, v, a = JointLimiter(BOUNDS, PERIOD), np.zeros(7), np.zeros(7)
    history = []
    for _ in range(periods):
        a, limited = limiter.acceleration(q, v, a, wish)
        v = v + PERIOD * a
        history.append((v, a, limited))
    return history


@given(speeds, accelerations)
@settings(max_examples=100, deadline=None)
def test_every_trajectory_comes_to_rest_within_150_ms_of_its_first_point(v, next_a):
    trajectory = JointLimiter(BOUNDS, PERIOD).trajectory(REST, v - 0.02 * next_a, next_a)
    assert 2 <= len(trajectory.times_s) <= 8
    assert (trajectory.velocities[-1] == 0.0).all()
    assert trajectory.times_s[-1] - trajectory.times_s[0] <= 0.15
    assert (np.diff(trajectory.times_s) > 0.0).all()


@given(speeds, accelerations)
@settings(max_examples=100, deadline=None)
def test_a_stop_brakes_at_most_as_hard_as_it_may_and_all_joints_rest_at_once(v, a):
    trajectory = JointLimiter(BOUNDS, PERIOD).stopping(REST, v, a)
    middle = np.diff(trajectory.velocities, axis=0)[:-1] / np.diff(trajectory.times_s)[:-1, None]  # between the two ramps
    assert (np.abs(middle) <= STOP_DECELERATION + 1e-6).all()
    assert trajectory.times_s[-1] <= 0.15


def test_a_velocity_that_is_too_fast_keeps_its_direction():
    wish = np.array([10.0, 5.0, 0.0, -2.5, 0.0, 0.0, 0.0])
    v, _, limited = accelerate(wish, 100)[-1]
    assert np.allclose(v / v[0], wish / wish[0])
    assert limited == ["joint_velocity"]
    assert v[0] == pytest.approx(BOUNDS.joint_speed[0])


def test_a_wished_velocity_is_reached_without_overshoot_and_without_bending_more_than_it_may():
    history = accelerate(np.full(7, 0.5), 40)
    velocities, bends = np.array([v for v, _, _ in history]), np.diff([a for _, a, _ in history], axis=0)
    assert velocities[-1] == pytest.approx(0.5, abs=1e-3)
    assert velocities.max() <= 0.5 * 1.03
    assert 0.5 * limits.JERK < np.abs(bends).max() / 0.001 <= limits.JERK, "a step of acceleration takes a millisecond of the robot"


def test_near_a_position_limit_only_the_way_back_is_fast():
    q = np.where(np.arange(7) == 1, limits.POSITION_UPPER - BOUNDS.position_margin - 0.02, REST)
    towards, back = accelerate(np.eye(7)[1], 40, q)[-1], accelerate(-np.eye(7)[1], 40, q)[-1]
    assert towards[0][1] < 0.1
    assert towards[2] == ["joint_position", "joint_velocity"]
    assert back[0][1] == pytest.approx(-1.0, abs=0.01)
