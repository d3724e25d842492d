"""What a Franka says of itself, judged."""

import pytest

from mechanic_rl_ros.safety.robot_mode import RobotMode, RobotState, RobotWatch


def watch(mode=RobotMode.MOVE, speed=0.0):
    robot = RobotWatch("robot_state", max_age_s=0.5)
    robot.see(RobotState(mode, speed, clock=7.0), at=10.0)
    return robot


def test_a_robot_of_which_nothing_is_known_cannot_be_moved():
    robot = RobotWatch("robot_state", max_age_s=0.5)
    assert "no robot state on robot_state" in robot.obstacle(0.0)
    assert not robot.resting(0.0)


def test_only_a_robot_in_mode_move_can_be_moved():
    assert watch().obstacle(10.1) == ""
    for mode in set(RobotMode) - {RobotMode.MOVE}:
        assert watch(mode).obstacle(10.1).startswith(f"the robot is in mode {mode.name}: ")
    assert "not known" in watch(None).obstacle(10.1)


def test_a_state_that_is_old_says_nothing():
    robot = watch()
    assert "has stopped" in robot.obstacle(10.6)
    assert robot.mode(10.6) is None
    assert not robot.resting(10.6)


def test_states_that_come_while_the_robots_own_clock_stands_still_are_old():
    robot = watch()
    for at in (10.2, 10.4, 10.6):
        robot.see(RobotState(RobotMode.MOVE, 0.0, clock=7.0), at)
    assert "has stopped" in robot.obstacle(10.6)
    robot.see(RobotState(RobotMode.MOVE, 0.0, clock=7.1), 10.7)
    assert robot.obstacle(10.7) == ""


@pytest.mark.parametrize(("speed", "resting"), [(0.0, True), (0.5, False), (float("inf"), False), (float("nan"), False)])
def test_an_arm_rests_only_where_every_joint_is_known_to(speed, resting):
    assert watch(speed=speed).resting(10.1) == resting
