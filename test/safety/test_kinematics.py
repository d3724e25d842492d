from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.safety.kinematics import DOWNWARD, Kinematics
from mechanic_rl_ros.safety.limits import POSITION_LOWER, POSITION_UPPER

EMBODIMENT = load_embodiment()
joint_positions = st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7).map(
    lambda shares: POSITION_LOWER + np.array(shares) * (POSITION_UPPER - POSITION_LOWER)
)


@pytest.mark.parametrize(
    ("q", "position"),
    [
        ((0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4), (0.306891, 0.0, 0.486882)),
        ((0.3, 0.4, -0.5, -1.9, 0.6, 1.2, -0.7), (0.435663, 0.043660, 0.249285)),
    ],
)
def test_the_tool_centre_point_lies_where_the_published_poses_say(q, position):
    assert Kinematics(EMBODIMENT).tcp(q)[0] == pytest.approx(position, abs=1e-6)


@given(joint_positions)
@settings(max_examples=50, deadline=None)
def test_the_jacobian_is_the_derivative_of_the_pose(q):
    kinematics, step = Kinematics(EMBODIMENT), 1e-6
    jacobian = kinematics.jacobian(q)
    for joint in range(7):
        nudge = step * np.eye(7)[joint]
        (after, turned), (before, start) = kinematics.tcp(q + nudge), kinematics.tcp(q - nudge)
        spin = (turned - start) / (2 * step) @ kinematics.tcp(q)[1].T
        assert jacobian[:3, joint] == pytest.approx((after - before) / (2 * step), abs=1e-7)
        assert jacobian[3:, joint] == pytest.approx([spin[2, 1], spin[0, 2], spin[1, 0]], abs=1e-7)


def test_at_home_the_hand_points_straight_down_over_the_table():
    position, rotation = Kinematics(EMBODIMENT).tcp(EMBODIMENT.joints.home)
    assert rotation == pytest.approx(DOWNWARD, abs=1e-5)
    assert (np.array(EMBODIMENT.workspace.low) < position).all()
    assert (position < np.array(EMBODIMENT.workspace.high)).all()


def test_a_robot_with_six_joints_is_refused():
    arm = replace(EMBODIMENT, joints=replace(EMBODIMENT.joints, names=EMBODIMENT.joints.names[:6]))
    with pytest.raises(UserError, match="seven joints"):
        Kinematics(arm)
