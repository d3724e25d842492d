"""The newest message of a topic, taken when it is wanted: a topic of 100 Hz costs no more than one of 5 Hz."""

from __future__ import annotations

from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile


class _Never(CallbackGroup):
    """Keeps its subscriptions out of the executor: messages wait in the middleware until they are taken."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        return None


class Latest:
    """Reads one topic of a node."""

    def __init__(self, node: Node, kind: Any, topic: str, profile: QoSProfile) -> None:
        """Of ``profile``, depth is set to one. Nothing is subscribed to before the first look."""
        newest = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=profile.reliability, durability=profile.durability)
        self._group = _Never()
        self._subscribe = lambda: node.create_subscription(kind, topic, lambda message: None, newest, callback_group=self._group)
        self._subscription: Any = None
        self._kind, self._message = kind, None

    def take(self) -> Any:
        """The newest message so far, also if it was taken before; None before the first."""
        self._subscription = self._subscription or self._subscribe()
        with self._subscription.handle:
            found = self._subscription.handle.take_message(self._kind, False)
        if found is not None:
            self._message = found[0]
        return self._message
