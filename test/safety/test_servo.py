import numpy as np
import pytest

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.safety.kinematics import DOWNWARD, Kinematics
from mechanic_rl_ros.safety.servo import Servo

EMBODIMENT = load_embodiment()
KINEMATICS = Kinematics(EMBODIMENT)
HOME = np.array(EMBODIMENT.joints.home)


def drive(velocity, seconds, q=HOME):
    servo = Servo(EMBODIMENT)
    for _ in range(round(seconds / 0.02)):
        q = q + 0.02 * servo.joint_velocity(q, np.array(velocity))[0]
    return q


@pytest.mark.parametrize("velocity", [(0.1, 0.0, 0.0), (0.0, -0.1, 0.0), (0.0, 0.0, 0.1), (-0.1, 0.1, -0.1)])
def test_the_tool_moves_as_asked_and_the_hand_keeps_pointing_down(velocity):
    q = drive(velocity, 1.0)
    position, rotation = KINEMATICS.tcp(q)
    assert position - KINEMATICS.tcp(HOME)[0] == pytest.approx(np.array(velocity), abs=0.005)
    assert rotation == pytest.approx(DOWNWARD, abs=0.02)


def test_a_tilted_hand_is_turned_back_while_the_tool_stays():
    tilted = HOME + np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0])
    q = drive((0.0, 0.0, 0.0), 3.0, tilted)
    assert KINEMATICS.tcp(q)[1] == pytest.approx(DOWNWARD, abs=0.01)
    assert KINEMATICS.tcp(q)[0] == pytest.approx(KINEMATICS.tcp(tilted)[0], abs=0.01)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_tool_stays_inside_the_box(axis, sign):
    velocity = 0.3 * sign * np.eye(3)[axis]
    q = drive(velocity, 4.0)
    edge = EMBODIMENT.workspace.high[axis] if sign > 0 else EMBODIMENT.workspace.low[axis]
    assert KINEMATICS.tcp(q)[0][axis] == pytest.approx(edge, abs=0.002)
    assert Servo(EMBODIMENT).joint_velocity(q, velocity)[1] == ["workspace"]


def test_outside_the_box_the_tool_may_only_go_back_and_never_goes_by_itself():
    q = drive((0.0, 0.0, 0.3), 1.0, HOME + np.array([0.0, -0.5, 0.0, 0.3, 0.0, 0.2, 0.0]))
    outside = q + np.array([1.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])  # turned about the base, beyond the left wall
    position = KINEMATICS.tcp(outside)[0]
    assert position[1] > EMBODIMENT.workspace.high[1]
    servo, jacobian = Servo(EMBODIMENT), KINEMATICS.jacobian(outside)
    assert (jacobian @ servo.joint_velocity(outside, np.array([0.0, 0.1, 0.0]))[0])[1] == pytest.approx(0.0, abs=0.02)
    assert (jacobian @ servo.joint_velocity(outside, np.array([0.0, -0.1, 0.0]))[0])[1] < -0.05
