"""A Franka Research 3 under franka_ros2 (v2 on Humble, v3 on Jazzy)."""

from __future__ import annotations

from typing import Any

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.nodes.backends.action_gripper import FrankaGripper
from mechanic_rl_ros.nodes.backends.backend import Backend, TrajectoryArm, arm_controller
from mechanic_rl_ros.nodes.backends.franka_robot import FrankaRobot
from mechanic_rl_ros.nodes.base import Node
from mechanic_rl_ros.sim.trajectory import Trajectory


class FrankaBackend(Backend):
    """Trajectories for the arm, actions for the hand."""

    def __init__(self, node: Node, embodiment: Embodiment) -> None:
        """Declares its parameters."""
        controller = arm_controller(node)
        self._arm = TrajectoryArm(node, embodiment, controller)
        self._gripper = FrankaGripper(node, "franka")
        homing = node.parameter("gripper_homing", False, "whether the hand looks for its zero at the start; its fingers open and close")
        self._robot = FrankaRobot(node, "franka", controller, [self._gripper.homing()] if homing else [])

    def move(self, trajectory: Trajectory) -> None:
        self._arm.move(trajectory)

    def grip(self, finger: float) -> None:
        self._gripper.grip(finger)

    def hold(self) -> None:
        self._robot.hold()
        self._gripper.hold()

    def obstacle(self) -> str:
        return self._robot.obstacle() or self._gripper.obstacle()

    def health(self) -> dict[str, Any]:
        return {**self._robot.health(), **self._gripper.health()}
