"""A Franka Research 3 under crisp_controllers: a Cartesian impedance controller that pulls the hand to a target pose."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.backends.action_gripper import FrankaGripper
from mechanic_rl_ros.nodes.backends.backend import Backend, ForwardGripper, Gripper, arm_controller, gripper_controller
from mechanic_rl_ros.nodes.backends.franka_robot import FrankaRobot
from mechanic_rl_ros.nodes.base import Node
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.safety.rotation import quaternion
from mechanic_rl_ros.sim.trajectory import Trajectory, TrajectoryController

TARGET_S = 0.02  # wall seconds between two targets
LOOK_S = 1.0  # wall seconds between two looks at who speaks and listens on the topic


class CrispBackend(Backend):
    """Poses for the arm: the target runs along each trajectory, since the controller would pull straight to its end."""

    def __init__(self, node: Node, embodiment: Embodiment) -> None:
        """Declares its parameters.

        Raises:
            UserError: The gripper is of no known kind.
        """
        self._node, self._frame = node, embodiment.base_frame
        self._kinematics, self._lock = Kinematics(embodiment), threading.Lock()
        self._motion: TrajectoryController | None = None
        self._under_way = False
        self._topic = node.parameter("target_pose_topic", "target_pose", "topic of the target pose, geometry_msgs/PoseStamped")
        self._publisher = node.create_publisher(PoseStamped, self._topic, qos.TRAJECTORY)
        self._robot = FrankaRobot(node, "crisp", arm_controller(node, "cartesian_impedance_controller"))
        self._gripper = _gripper(node)
        self._audience = f"nobody listens on {self._topic}: start crisp_controllers"
        node.create_timer(LOOK_S, self._look, clock=node.wall)
        # Not a timer of the node: at the end of the process the arm is brought to rest after the executor has stopped.
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="target pose", daemon=True)
        self._thread.start()

    def move(self, trajectory: Trajectory) -> None:
        with self._lock:
            if self._motion is None or (not self._under_way and not np.ptp(trajectory.positions, axis=0).any()):
                # command_node begins by holding the measured position, wherever the arm was brought meanwhile
                self._motion = TrajectoryController(trajectory.positions[0])
            self._motion.set_trajectory(trajectory, time.monotonic_ns())
            self._under_way = True

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(TARGET_S):
            self._aim()

    def _aim(self) -> None:
        with self._lock:
            if self._motion is None or not self._under_way:
                return
            now_ns = time.monotonic_ns()
            positions, _ = self._motion.sample(now_ns)
            self._under_way = now_ns < self._motion.end_ns
        position, rotation = self._kinematics.tcp(positions)
        message = PoseStamped()
        message.header.stamp, message.header.frame_id = self._node.get_clock().now().to_msg(), self._frame
        pose, turn = message.pose.position, message.pose.orientation
        pose.x, pose.y, pose.z = position.tolist()
        turn.w, turn.x, turn.y, turn.z = quaternion(rotation).tolist()
        self._publisher.publish(message)

    def grip(self, finger: float) -> None:
        self._gripper.grip(finger)

    def hold(self) -> None:
        self._robot.hold()
        self._gripper.hold()

    def obstacle(self) -> str:
        return self._robot.obstacle() or self._audience or self._gripper.obstacle()

    def health(self) -> dict[str, Any]:
        return {**self._robot.health(), **self._gripper.health()}

    def _look(self) -> None:
        """The controller ignores every target pose while two publish it."""
        publishers = self._node.count_publishers(self._topic)
        if publishers > 1:
            self._audience = f"{publishers} nodes publish {self._topic}, and crisp_controllers then ignores them all: stop the others"
        else:
            self._audience = "" if self._publisher.get_subscription_count() else f"nobody listens on {self._topic}: start crisp_controllers"


def _gripper(node: Node) -> Gripper:
    kind = node.parameter("gripper", "franka", "franka (actions of franka_gripper) or forward (a forward_command_controller)")
    if kind not in ("franka", "forward"):
        raise UserError(f"parameter gripper of {node.get_name()} is {kind!r}: use franka or forward")
    return FrankaGripper(node, "crisp") if kind == "franka" else ForwardGripper(node, gripper_controller(node))
