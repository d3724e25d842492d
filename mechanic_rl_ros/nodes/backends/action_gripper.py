"""Grippers that are driven by actions: the driver of the Franka Hand, and gripper controllers of ros2_control."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from typing import Any

from rclpy.action import ActionClient

from mechanic_rl_ros.nodes.backends.backend import Gripper, interfaces
from mechanic_rl_ros.nodes.backends.calls import Step, action_step, send_goal
from mechanic_rl_ros.nodes.base import Node
from mechanic_rl_ros.safety.gripper import STROKE, GripperGoal, GripperGoals

SEND_S = 0.05  # wall seconds between two looks whether there is a goal to send
LOOK_S = 1.0  # wall seconds between two looks whether the driver is there
HELD_EPSILON = 2 * STROKE  # m: whatever is between the fingers counts as grasped; whether it is the right thing is for the task to say


class ActionGripper(Gripper):
    """Sends one goal at a time; see ``GripperGoals``."""

    def __init__(self, node: Node, name: str) -> None:
        """``name`` is told to people."""
        patience = node.parameter("gripper_patience", 10.0, "s that one motion of the gripper may take", low=0.5, high=120.0)
        self._name, self._goals = name, GripperGoals(name, patience)
        self._lock = threading.Lock()
        self._turn, self._sent, self._there = 0, 0, False
        node.create_timer(SEND_S, self._send, clock=node.wall)
        node.create_timer(LOOK_S, self._look, clock=node.wall)

    def grip(self, finger: float) -> None:
        with self._lock:
            self._goals.wish(finger)

    def hold(self) -> None:
        with self._lock:
            self._goals.hold()

    def obstacle(self) -> str:
        if not self._there:
            return f"gripper {self._name} is not there: start its driver"
        with self._lock:
            return self._goals.obstacle(time.monotonic())

    def health(self) -> dict[str, Any]:
        return {"gripper_goals": self._sent}

    @abstractmethod
    def _clients(self) -> tuple[ActionClient, ...]:
        """All that must have a server."""

    @abstractmethod
    def _ask(self, goal: GripperGoal) -> tuple[ActionClient, Any]:
        """Whom to ask, and the goal as a message."""

    def _judge(self, result: Any) -> str:
        """Why a result is a failure, or ""."""
        return ""

    def _look(self) -> None:
        self._there = all(client.server_is_ready() for client in self._clients())
        if not self._there:
            with self._lock:
                self._turn += 1
                self._goals.forget()

    def _send(self) -> None:
        if not self._there:
            return
        with self._lock:
            goal = self._goals.next(time.monotonic())
            if goal is None:
                return
            self._turn, self._sent = self._turn + 1, self._sent + 1
            turn = self._turn
        client, message = self._ask(goal)
        send_goal(client, message, self._judge, lambda why: self._ended(turn, why))

    def _ended(self, turn: int, why: str) -> None:
        with self._lock:
            if turn != self._turn:
                return  # of a driver that has gone since
            if why:
                self._goals.failed(why, time.monotonic())
            else:
                self._goals.succeeded()


class FrankaGripper(ActionGripper):
    """``franka_gripper``: opens with ``move``, closes with ``grasp``, which keeps squeezing."""

    def __init__(self, node: Node, backend: str) -> None:
        """Declares its parameters."""
        grasp, move, homing = interfaces(backend, "franka_msgs.action", "Grasp", "Move", "Homing")
        self._prefix = node.parameter("gripper_prefix", "franka_gripper", "name of the gripper's node, fr3_gripper under MoveIt")
        self._speed = node.parameter("gripper_speed", 0.1, "speed between the fingers, m/s", low=0.01, high=0.2)
        self._force = node.parameter("gripper_force", 20.0, "force of a grasp, N", low=1.0, high=70.0)
        self._grasp: Any = ActionClient(node, grasp, f"{self._prefix}/grasp")
        self._move: Any = ActionClient(node, move, f"{self._prefix}/move")
        self._homing: Any = ActionClient(node, homing, f"{self._prefix}/homing")
        self._grasp_goal, self._move_goal, self._homing_goal = grasp.Goal, move.Goal, homing.Goal
        super().__init__(node, self._prefix)

    def homing(self) -> Step:
        """Step in which the hand finds its zero and its largest width; the fingers open and close."""
        return action_step("homing the gripper", f"{self._prefix}/homing", self._homing, self._homing_goal(), self._judge)

    def _clients(self) -> tuple[ActionClient, ...]:
        return self._grasp, self._move, self._homing

    def _ask(self, goal: GripperGoal) -> tuple[ActionClient, Any]:
        if not goal.grasp:
            return self._move, self._move_goal(width=goal.width, speed=self._speed)
        message = self._grasp_goal(width=goal.width, speed=self._speed, force=self._force)
        message.epsilon.inner = message.epsilon.outer = HELD_EPSILON
        return self._grasp, message

    def _judge(self, result: Any) -> str:
        return "" if result.success else result.error or "no success"


class CommandGripper(ActionGripper):
    """A gripper controller of ros2_control, or any other server of control_msgs/GripperCommand with positions per finger."""

    def __init__(self, node: Node, backend: str, action: str) -> None:
        """``action``: name of the action."""
        (command,) = interfaces(backend, "control_msgs.action", "GripperCommand")
        self._force = node.parameter("gripper_force", 20.0, "force of a grasp, N", low=1.0, high=70.0)
        self._client: Any = ActionClient(node, command, action)
        self._goal = command.Goal
        super().__init__(node, action)

    def _clients(self) -> tuple[ActionClient, ...]:
        return (self._client,)

    def _ask(self, goal: GripperGoal) -> tuple[ActionClient, Any]:
        message = self._goal()
        message.command.position, message.command.max_effort = 0.5 * goal.width, self._force
        return self._client, message

    def _judge(self, result: Any) -> str:
        return "" if result.reached_goal or result.stalled else "it did not get there"
