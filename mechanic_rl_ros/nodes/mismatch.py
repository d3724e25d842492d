"""Publishers from which a node hears nothing, because they offer less than the node asks for. ROS tells nobody but the log."""

from __future__ import annotations

from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks


class MismatchWatch:
    """Remembers topics on which an incompatible publisher was met, until that publisher is gone."""

    def __init__(self, node: Any) -> None:
        """``node``: an rclpy node."""
        self._node = node
        self._met: dict[str, tuple[QoSProfile, str]] = {}  # what we ask for, and the policy that did not fit

    def callbacks(self, topic: str, profile: QoSProfile | int) -> SubscriptionEventCallbacks:
        """For the subscription of ``topic`` with ``profile``."""
        asked = profile if isinstance(profile, QoSProfile) else QoSProfile(depth=profile)

        def met(event: Any) -> None:
            self._met[topic] = asked, qos_policy_name_from_kind(event.last_policy_kind).lower()

        return SubscriptionEventCallbacks(incompatible_qos=met)

    def reason(self) -> str:
        """Who is not heard, on which topic, and what to do; "" if everybody is."""
        found = {topic: self._unheard(topic) for topic in self._met}
        self._met = {topic: met for topic, met in self._met.items() if found[topic]}
        return "; ".join(self._text(topic, found[topic]) for topic in self._met)

    def _unheard(self, topic: str) -> list[str]:
        asked = self._met[topic][0]
        found = self._node.get_publishers_info_by_topic(topic)
        return [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in found if _too_little(info.qos_profile, asked)]

    def _text(self, topic: str, who: list[str]) -> str:
        asked, policy = self._met[topic]
        wanted = f"{asked.reliability.name.lower()}, {asked.durability.name.lower()}"
        return f"nothing is heard from {' and '.join(who)} on {topic}, its quality of service does not fit ({policy}): let it publish {wanted}"


def _too_little(offered: QoSProfile, asked: QoSProfile) -> bool:
    unreliable = asked.reliability == ReliabilityPolicy.RELIABLE and offered.reliability == ReliabilityPolicy.BEST_EFFORT
    forgetful = asked.durability == DurabilityPolicy.TRANSIENT_LOCAL and offered.durability == DurabilityPolicy.VOLATILE
    return unreliable or forgetful
