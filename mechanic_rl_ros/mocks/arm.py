"""An arm that follows its trajectories exactly."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import Node
from mechanic_rl_ros.nodes.convert import trajectory_from_message
from mechanic_rl_ros.sim.trajectory import TrajectoryController


class MockArm:
    """What a joint_trajectory_controller desires is where the arm is."""

    def __init__(self, node: Node, embodiment: Embodiment, controller: str) -> None:
        """Starts at home."""
        self._names, self._log = embodiment.joints.names, node.get_logger()
        self._controller = TrajectoryController(embodiment.joints.home)
        self.free = True
        """Whether it can move."""
        node.create_subscription(JointTrajectory, f"{controller}/joint_trajectory", self._on_trajectory, qos.TRAJECTORY)

    def state(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions (7,), rad, and velocities (7,), rad/s."""
        return self._controller.sample(time.monotonic_ns())

    def stop(self) -> None:
        """Stands still where it is, and ignores trajectories until it is free again."""
        self.free = False
        self._controller.hold(self.state()[0])

    def _on_trajectory(self, message: JointTrajectory) -> None:
        if not self.free:
            return
        try:
            self._controller.set_trajectory(trajectory_from_message(message, self._names), time.monotonic_ns())
        except UserError as error:
            self._log.warning(f"trajectory refused: {error}", throttle_duration_sec=5.0)
