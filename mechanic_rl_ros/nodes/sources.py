"""Who else commands what only one node may command."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mechanic_rl_ros.nodes.base import Node

LOOK_S = 1.0  # wall seconds between two looks
LEASE_S = 30.0  # wall seconds for which the publisher of a process that was killed may still be seen
UNNAMED = "_NODE_NAME_UNKNOWN_"  # what is said of a publisher before its node is known: for seconds, where another process was killed


class SourceWatch:
    """Watches topics on which one node of a name may publish, and one only."""

    def __init__(self, node: Node, topics: Sequence[str], patient: bool) -> None:
        """Looks once a second.

        Args:
            node: This node.
            topics: Names as in create_publisher.
            patient: Whether to hold while it is open if a publisher of the same name that was there before this node is alive: on a robot two of them must
                not move the arm even for a moment.
        """
        self._node, self._topics, self._patient = node, list(topics), patient
        self._began = time.monotonic()
        self._since: dict[str, float] = {}  # when a second publisher of the same name was first seen
        self.obstacle = ""
        node.create_timer(LOOK_S, self._look, clock=node.wall)

    def _look(self) -> None:
        self.obstacle = next(filter(None, map(self._second, self._topics)), "")

    def _second(self, topic: str) -> str:
        """What is wrong with one topic, or "". A node that was killed and started again is no second one, even before its name is known."""
        found = [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in self._node.get_publishers_info_by_topic(topic)]
        names = sorted({name for name in found if not name.endswith(UNNAMED)})
        if len(found) < 2:
            self._since.pop(topic, None)
            return ""
        since = self._since.setdefault(topic, time.monotonic())
        if len(names) < 2 and time.monotonic() - since < LEASE_S:
            first = since - self._began < 2.0 * LOOK_S
            return f"another {(*names, 'node')[0]} publishes {topic}, or was killed less than {LEASE_S:g} s ago" if self._patient and first else ""
        if len(names) < len(set(found)):
            names.append("a node that does not say its name")
        return f"{' and '.join(names) if len(names) > 1 else f'{len(found)} nodes called {names[0]}'} publish {topic}: stop all but one"
