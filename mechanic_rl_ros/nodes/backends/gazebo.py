"""Gazebo with gz_ros2_control."""

from __future__ import annotations

from typing import Any

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.nodes.backends.action_gripper import CommandGripper
from mechanic_rl_ros.nodes.backends.backend import Backend, ForwardGripper, Gripper, TrajectoryArm, arm_controller, gripper_controller
from mechanic_rl_ros.nodes.backends.controllers import Controllers
from mechanic_rl_ros.nodes.base import Node
from mechanic_rl_ros.sim.trajectory import Trajectory


class GazeboBackend(Backend):
    """Speaks to the controllers once the controller manager says that they are active."""

    def __init__(self, node: Node, embodiment: Embodiment) -> None:
        """Declares its parameters."""
        arm, hand = arm_controller(node), gripper_controller(node)
        action = node.parameter("gripper_action", "", "action of type control_msgs/GripperCommand, where the gripper controller offers one; empty: a topic")
        self._controllers = Controllers(node, "gazebo", (arm, hand))
        self._arm = TrajectoryArm(node, embodiment, arm)
        self._gripper: Gripper = CommandGripper(node, "gazebo", action) if action else ForwardGripper(node, hand)

    def move(self, trajectory: Trajectory) -> None:
        self._arm.move(trajectory)

    def grip(self, finger: float) -> None:
        self._gripper.grip(finger)

    def hold(self) -> None:
        self._gripper.hold()

    def obstacle(self) -> str:
        return self._controllers.obstacle() or self._gripper.obstacle()

    def health(self) -> dict[str, Any]:
        return self._gripper.health()
