import numpy as np
import pytest

from mechanic_rl_ros.errors import UserError
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


def test_the_shipped_limits_are_those_of_the_class_with_a_table():
    assert limits.SafetyLimits.load() == limits.SafetyLimits(table_height=0.0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("joint_speed: [1, 1, 5.26, 1, 1, 1, 1]", "joint_speed is 5.26: the limits of the robot and of its stop allow 0.01 to 1.2"),
        ("joint_acceleration: 12.0", "joint_acceleration is 12"),
        ("joint_acceleration: 5.0", "table_height is missing"),
        ("{table_height: null, keep_out: 5}", "keep_out is 5: give a list"),
        ("position_margin: 0.0", "position_margin is 0"),
        ("grip_force: 100", "grip_force is 100"),
        ("tcp_speed: .nan", "tcp_speed is nan"),
        ("joint_speed: 1.0", "give seven numbers"),
        ("grip_width: wide", "give a number"),
        ("speed: 1.0", "'speed' is no limit: use position_margin"),
        ("keep_out: [{name: bin, low: [0, 0, 0], high: [1, -1, 1]}]", "with low below high"),
        ("keep_out: [{name: bin, low: [0, 0, 0]}]", "give name, low and high"),
        ("- 1", "is no limit"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_file_that_widens_a_limit_or_is_malformed_is_refused_by_name(tmp_path, line, words):
    path = tmp_path / "mine.yaml"
    path.write_text(line if line[0] not in "jpgtks" or "joint_acceleration: 5" in line else f"{line}\ntable_height: null\n")
    with pytest.raises(UserError, match=r"limits .*mine\.yaml") as caught:
        limits.SafetyLimits.load(path)
    assert words in str(caught.value)


def test_a_file_may_narrow_limits_and_name_boxes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("table_height: null\ntcp_speed: 0.1\nkeep_out:\n- {name: bin, low: [0, 0, 0], high: [1, 1, 1]}\n")
    loaded = limits.SafetyLimits.load(path)
    assert (loaded.tcp_speed, loaded.joint_speed) == (0.1, limits.SafetyLimits().joint_speed)
    assert loaded.keep_out == (limits.KeepOut("bin", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),)
