import numpy as np
import pytest

from mechanic_rl_ros.safety import limits


def test_towards_a_position_limit_no_velocity_is_left_and_away_from_it_all():
    lower, upper = limits.velocity_bounds(limits.POSITION_UPPER)
    assert upper == pytest.approx(np.zeros(7))
    assert lower == pytest.approx(-limits.VELOCITY)
    lower, upper = limits.velocity_bounds(limits.POSITION_LOWER)
    assert lower == pytest.approx(np.zeros(7))
    assert upper == pytest.approx(limits.VELOCITY)


def test_the_velocity_bound_follows_the_published_formula():
    q = limits.POSITION_UPPER - 0.1
    expected = [0.795445, 0.519026, 0.636660, 0.594427, 1.493909, 0.698809, 1.493909]  # -offset + sqrt(2 decel 0.1), by hand
    assert limits.velocity_bounds(q)[1] == pytest.approx(expected, abs=1e-5)


def test_a_margin_moves_both_bounds_inwards():
    q = limits.POSITION_UPPER - 0.05
    assert limits.velocity_bounds(q, margin=0.05)[1] == pytest.approx(np.zeros(7))
    assert (limits.velocity_bounds(q)[1] > 0.1).all()
