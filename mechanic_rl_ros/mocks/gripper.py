"""The action servers of a Franka Hand."""

from __future__ import annotations

import time
from typing import Any

from rclpy.action import ActionServer, GoalResponse

from mechanic_rl_ros.nodes.backends.backend import interfaces
from mechanic_rl_ros.nodes.base import Node

TICK_S = 0.02  # wall seconds


class MockGripper:
    """Fingers that reach their goal after a while.

    Attributes:
        width: Between the fingers, m.
        answers: Whether goals come to an end.
        accepts: Whether goals are taken at all.
        goals: Their names, as they came.
        most_at_once: Goals that were under way together.
    """

    def __init__(self, node: Node, prefix: str, seconds: float) -> None:
        """``seconds``: what a goal takes."""
        self.width, self.answers, self.accepts = 0.08, True, True
        self.goals: list[str] = []
        self.most_at_once = 0
        self._seconds = seconds
        self._under_way: list[tuple[float, Any]] = []
        kinds = interfaces("mock", "franka_msgs.action", "Homing", "Move", "Grasp")
        self._servers = [self._server(node, f"{prefix}/{kind.__name__.lower()}", kind) for kind in kinds]
        node.create_timer(TICK_S, self._tick, clock=node.wall)

    def _server(self, node: Node, name: str, kind: Any) -> ActionServer:
        def accepted(handle: Any) -> None:
            self.goals.append(kind.__name__.lower())
            self._under_way.append((time.monotonic(), handle))
            self.most_at_once = max(self.most_at_once, len(self._under_way))

        def finish(handle: Any) -> Any:
            self.width = getattr(handle.request, "width", 0.08)
            handle.succeed()
            return kind.Result(success=True)

        return ActionServer(node, kind, name, finish, goal_callback=self._judge, handle_accepted_callback=accepted)

    def _judge(self, goal: Any) -> GoalResponse:
        return GoalResponse.ACCEPT if self.accepts else GoalResponse.REJECT

    def _tick(self) -> None:
        due = time.monotonic() - self._seconds
        ready = [handle for since, handle in self._under_way if since <= due and self.answers]
        self._under_way = [item for item in self._under_way if item[1] not in ready]
        for handle in ready:
            handle.execute()
