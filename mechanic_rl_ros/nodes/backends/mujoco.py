"""The embedded simulation, ``sim_node``: it listens as ros2_control does and needs no more."""

from __future__ import annotations

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.nodes.backends.backend import Backend, ForwardGripper, TrajectoryArm
from mechanic_rl_ros.nodes.base import Node
from mechanic_rl_ros.sim.trajectory import Trajectory


class MujocoBackend(Backend):
    """Trajectories and finger positions as topics."""

    def __init__(self, node: Node, embodiment: Embodiment) -> None:
        """Makes both publishers."""
        self._arm = TrajectoryArm(node, embodiment, "fr3_arm_controller")
        self._gripper = ForwardGripper(node, "fr3_gripper_controller")

    def move(self, trajectory: Trajectory) -> None:
        self._arm.move(trajectory)

    def grip(self, finger: float) -> None:
        self._gripper.grip(finger)

    def hold(self) -> None:
        self._gripper.hold()
