"""The interface between command_node and a robot, and what several backends share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any

from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import Node
from mechanic_rl_ros.nodes.convert import trajectory_to_message
from mechanic_rl_ros.sim.trajectory import Trajectory


class Gripper(ABC):
    """A hand. ``grip`` is called from the control thread and never blocks; everything else runs in the node's executor."""

    @abstractmethod
    def grip(self, finger: float) -> None:
        """Moves each finger to ``finger``, m. The same wish may come again and again."""

    @abstractmethod
    def hold(self) -> None:
        """Drops what was asked for and has not begun; what runs comes to its end. Cheap; for any thread."""

    def obstacle(self) -> str:
        """Why it cannot be moved now, or "". Cheap; for any thread."""
        return ""

    def health(self) -> dict[str, Any]:
        """Values for /diagnostics."""
        return {}


class Backend(Gripper):
    """A robot: a hand and an arm. ``move`` is called as ``grip`` is; while ``hold`` is called again and again, nothing begins by itself."""

    @abstractmethod
    def move(self, trajectory: Trajectory) -> None:
        """Lets the arm follow ``trajectory`` from now on."""

    def close(self) -> None:
        """Gives back what is neither a publisher nor a subscription."""


class TrajectoryArm:
    """A joint_trajectory_controller."""

    def __init__(self, node: Node, embodiment: Embodiment, controller: str) -> None:
        """Publishes on ``<controller>/joint_trajectory``."""
        self._names = embodiment.joints.names
        self._publisher = node.create_publisher(JointTrajectory, f"{controller}/joint_trajectory", qos.TRAJECTORY)

    def move(self, trajectory: Trajectory) -> None:
        """See ``Backend.move``."""
        self._publisher.publish(trajectory_to_message(trajectory, self._names))


class ForwardGripper(Gripper):
    """A forward_command_controller for the finger joint."""

    def __init__(self, node: Node, controller: str) -> None:
        """Publishes on ``<controller>/commands``."""
        self._publisher = node.create_publisher(Float64MultiArray, f"{controller}/commands", qos.TRAJECTORY)

    def grip(self, finger: float) -> None:
        self._publisher.publish(Float64MultiArray(data=[finger]))

    def hold(self) -> None:
        """Each wish was sent at once: nothing waits."""


def arm_controller(node: Node, default: str = "fr3_arm_controller") -> str:
    """Declares the parameter ``arm_controller``."""
    return node.parameter("arm_controller", default, "name of the controller that moves the arm")


def gripper_controller(node: Node) -> str:
    """Declares the parameter ``gripper_controller``."""
    return node.parameter("gripper_controller", "fr3_gripper_controller", "name of the controller that moves the fingers")


def interfaces(backend: str, module: str, *names: str) -> tuple[Any, ...]:
    """Types of a ROS package that only ``backend`` needs, ``names`` out of ``module`` (``franka_msgs.action``).

    Raises:
        UserError: The package is not installed.
    """
    package = module.partition(".")[0]
    try:
        found = import_module(module)
    except ImportError as error:
        apt = f"ros-{os.environ.get('ROS_DISTRO', '<distribution>')}-{package.replace('_', '-')}"
        raise UserError(f"backend {backend} needs the package {package}: install {apt} or build {package} in your workspace") from error
    return tuple(getattr(found, name) for name in names)
