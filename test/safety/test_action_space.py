from dataclasses import replace

import numpy as np
import pytest

from mechanic_rl_ros.embodiment import Channel, load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.safety.action_space import ActionSpace
from mechanic_rl_ros.safety.kinematics import Kinematics

FR3 = load_embodiment()
HOME = np.array(FR3.joints.home)
GRIPPER = FR3.action[-1]


def space(names, scale=0.3):
    return ActionSpace(replace(FR3, action=(*(Channel(name, "", "", scale) for name in names), GRIPPER)))


def twist(names, action, scale=0.3):
    velocity, _ = space(names, scale).joint_velocity(HOME, np.array([*action, 0.0], np.float32))
    return Kinematics(FR3).jacobian(HOME) @ velocity


def test_tool_velocities_move_the_tool_and_keep_the_hand_upright():
    assert twist([f"tcp_velocity_{axis}" for axis in "xyz"], (1.0, -0.5, 0.0)) == pytest.approx([0.3, -0.15, 0.0, 0.0, 0.0, 0.0], abs=1e-3)


def test_a_displacement_is_made_evenly_over_one_period_of_the_policy():
    assert twist([f"tcp_delta_{axis}" for axis in "xyz"], (1.0, 0.0, -1.0), 0.02)[:3] == pytest.approx([0.2, 0.0, -0.2], abs=1e-3)


def test_rotations_are_about_the_axes_of_the_base_and_channels_that_are_left_out_are_zero():
    names = ["tcp_velocity_x", "tcp_velocity_y", "tcp_velocity_z", "tcp_spin_z"]
    assert twist(names, (0.0, 0.0, 0.0, 1.0), 0.5) == pytest.approx([0.0, 0.0, 0.0, 0.0, 0.0, 0.5], abs=1e-3)
    turns = ["tcp_delta_x", "tcp_turn_x", "tcp_turn_y"]
    assert twist(turns, (0.0, 1.0, -1.0), 0.05) == pytest.approx([0.0, 0.0, 0.0, 0.5, -0.5, 0.0], abs=1e-3)


def test_joint_velocities_and_positions_are_those_of_the_joints():
    action = np.array([0.1, -0.2, 0.3, 0.4, -0.5, 0.6, 0.7, 0.0], np.float32)
    speeds, _ = space([f"joint{n}_velocity" for n in range(1, 8)], 2.0).joint_velocity(HOME, action)
    assert speeds == pytest.approx(2.0 * action[:-1])
    ways, _ = space([f"joint{n}_position" for n in range(1, 8)], 0.1).joint_velocity(HOME + 0.01, action)
    assert ways == pytest.approx((0.1 * action[:-1] - 0.01) / FR3.period, abs=1e-6)


def test_the_gripper_closes_above_zero_and_opens_below():
    fingers = [space(["tcp_velocity_x"]).finger(np.array([0.0, value], np.float32)) for value in (0.2, -0.2)]
    assert fingers == [0.0, pytest.approx(0.04)]


@pytest.mark.parametrize("names", [["tcp_velocity_w"], ["joint1_velocity"], ["tcp_velocity_x", *(f"joint{n}_velocity" for n in range(1, 8))], ["speed"]])
def test_channels_that_are_unknown_incomplete_or_mixed_are_refused_with_what_there_is(names):
    with pytest.raises(UserError, match="use tcp_velocity_x/y/z") as caught:
        space(names)
    assert "fr3" in str(caught.value)


def test_an_action_without_a_gripper_at_its_end_is_refused():
    with pytest.raises(UserError, match="it must be gripper"):
        ActionSpace(replace(FR3, action=FR3.action[:-1]))
