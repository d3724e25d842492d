import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.limiter import JointLimiter

PERIOD = 0.02
wishes = st.lists(st.lists(st.sampled_from([-50.0, -1.0, -0.1, 0.0, 0.1, 1.0, 50.0]), min_size=7, max_size=7), min_size=1, max_size=8)
starts = st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7).map(
    lambda shares: limits.POSITION_LOWER + np.array(shares) * (limits.POSITION_UPPER - limits.POSITION_LOWER)
)


@given(starts, wishes)
@settings(max_examples=100, deadline=None)
def test_whatever_is_wished_positions_velocities_and_accelerations_stay_within_the_limits(q, wishes):
    limiter, v = JointLimiter(PERIOD), np.zeros(7)
    for wish in wishes:
        for _ in range(12):  # long enough to reach full speed, or a limit
            next_v, _ = limiter.next_velocity(q, v, np.array(wish))
            assert (np.abs(next_v - v) <= limits.ACCELERATION * PERIOD + 1e-9).all()
            _check(q, v, limiter.trajectory(q, v, next_v))
            q, v = q + 0.5 * PERIOD * (v + next_v), next_v


def _check(q, v, trajectory):
    assert (trajectory.velocities[-1] == 0.0).all()
    points_q, points_v = np.vstack([q, trajectory.positions]), np.vstack([v, trajectory.velocities])
    assert (points_q >= limits.POSITION_LOWER - 1e-9).all()
    assert (points_q <= limits.POSITION_UPPER + 1e-9).all()
    low, high = limits.velocity_bounds(points_q)
    assert (points_v >= low - 1e-9).all()
    assert (points_v <= high + 1e-9).all()
    durations = np.diff(trajectory.times_s, prepend=0.0)[:, None]
    assert (np.abs(np.diff(points_v, axis=0)) / durations <= limits.ACCELERATION + 1e-6).all()


def test_a_velocity_that_is_too_fast_keeps_its_direction():
    limiter, q = JointLimiter(PERIOD), np.array([0.0, 0.0, 0.0, -1.5, 0.0, 2.0, 0.0])
    wish = np.array([10.0, 5.0, 0.0, -2.5, 0.0, 0.0, 0.0])
    v = np.zeros(7)
    for _ in range(30):
        v, limited = limiter.next_velocity(q, v, wish)
    assert np.allclose(v / v[0], wish / wish[0])
    assert limited == ["joint_limits"]
    assert v[0] <= limits.VELOCITY[0]


def test_without_a_next_command_the_arm_is_at_rest_a_quarter_of_a_second_later():
    limiter, q = JointLimiter(PERIOD), np.array([0.0, 0.0, 0.0, -1.5, 0.0, 2.0, 0.0])
    v = np.zeros(7)
    for _ in range(30):
        v, _ = limiter.next_velocity(q, v, np.full(7, 10.0))
    assert limiter.trajectory(q, v, v).times_s[-1] <= 0.25


def test_even_at_the_highest_rate_of_commands_the_mean_jerk_stays_below_the_limit():
    period = 1.0 / 200.0
    limiter, q, v = JointLimiter(period), np.array([0.0, 0.0, 0.0, -1.5, 0.0, 2.0, 0.0]), [np.zeros(7), np.zeros(7)]
    for index in range(60):
        v.append(limiter.next_velocity(q, v[-1], np.full(7, 10.0 * (-1) ** index))[0])
    jerk = np.abs(np.diff(v, n=2, axis=0)) / period**2
    assert jerk.max() > 0.5 * limits.JERK, "it changes its mind as fast as it can"
    assert jerk.max() <= limits.JERK
    assert 2.0 * limits.ACCELERATION / period <= limits.JERK
