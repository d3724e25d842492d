"""What is heard in a ROS domain for a few seconds, as JSON on stdout. ``mechanic-rl doctor --live`` starts it as a process of its own."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState

from mechanic_rl_ros import msg
from mechanic_rl_ros.embodiment import Embodiment, load_embodiment
from mechanic_rl_ros.episode import Phase
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds

NAME = "mechanic_rl_doctor"
UNINTERESTING = ("/rosout", "/parameter_events")
_STATES = {phase.value: phase.name for phase in Phase}
SOLE_TOPICS = (
    "/clock",
    "action_chunk",
    "joint_states",
    "episode",
    "weights/manifest",
    "fr3_arm_controller/joint_trajectory",
    "fr3_gripper_controller/commands",
)
"""What only one node may publish: two would fight over the arm, the policy or the episode."""


class LiveProbe(Node):
    """Listens only, without parameters and services of its own."""

    def __init__(self, namespace: str, embodiment: Embodiment) -> None:
        super().__init__(NAME, namespace=namespace, enable_rosout=False, start_parameter_services=False)
        self.embodiment = embodiment
        self.began = time.monotonic()
        self.arrivals: dict[str, list[float]] = {}  # by topic, monotonic seconds
        self.statuses: dict[str, dict[str, Any]] = {}
        self.episode: dict[str, Any] = {}
        self.learner: dict[str, Any] = {}
        self.holdings: list[str] = []
        self.clock_ns: list[int] = []
        self.joints: JointState | None = None
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.create_subscription(Clock, "/clock", self._on_clock, qos.SENSOR)
        self.create_subscription(JointState, embodiment.joints.topic, self._on_joints, qos.SENSOR)
        self.create_subscription(msg.EpisodeState, "episode", self._on_episode, qos.EPISODE)
        self.create_subscription(msg.LearnerStatus, "learner_status", self._on_learner, qos.STATE)
        for spec in embodiment.cameras.values():
            kind = CompressedImage if spec.raw_topic.endswith("/compressed") else Image
            for topic, of in ((spec.raw_topic, kind), (spec.topic, Image)):
                self.create_subscription(of, topic, partial(self._count, topic), qos.SENSOR, raw=True)

    def heard(self) -> dict[str, Any]:
        """Everything, as plain data."""
        topics = [self.embodiment.joints.topic, *(topic for spec in self.embodiment.cameras.values() for topic in (spec.raw_topic, spec.topic))]
        names = [f"{namespace.rstrip('/')}/{name}" for name, namespace in self.get_node_names_and_namespaces() if name != NAME]
        return {
            "nodes": sorted(names),
            "statuses": self.statuses,
            "episode": self.episode,
            "learner": self.learner,
            "holdings": self.holdings,
            "clock_stands_still": len(self.clock_ns) > 0 and self.clock_ns[0] == self.clock_ns[-1],
            "rates": {topic: self._rate(topic) for topic in topics},
            "joints": self._joint_state(),
            "publishers": {topic: self._speakers(topic) for topic in topics},
            "sole": {topic: self._speakers(topic) for topic in SOLE_TOPICS},
            "mismatches": list(self._mismatches()),
        }

    def _rate(self, topic: str) -> float:
        """Messages per second since the first one: until then, both sides had to find each other."""
        arrivals = self.arrivals.get(topic, [])
        return len(arrivals) / max(time.monotonic() - arrivals[0], 1.0) if arrivals else 0.0

    def _joint_state(self) -> dict[str, Any]:
        if self.joints is None:
            return {}
        now_ns = self.clock_ns[-1] if self.clock_ns else time.time_ns()
        return {"names": list(self.joints.name), "age": (now_ns - nanoseconds(self.joints.header.stamp)) * 1e-9}

    def _speakers(self, topic: str) -> list[str]:
        found = self.get_publishers_info_by_topic(self.resolve_topic_name(topic))
        return sorted(_owner(info) for info in found)

    def _mismatches(self) -> Iterator[dict[str, str]]:
        """Publishers and subscriptions of one topic that never come together."""
        for topic, _ in self.get_topic_names_and_types():
            if topic in UNINTERESTING:
                continue
            subscribers = [info for info in self.get_subscriptions_info_by_topic(topic) if info.node_name != NAME]
            for publisher, subscriber in product(self.get_publishers_info_by_topic(topic), subscribers):
                if publisher.topic_type != subscriber.topic_type:
                    reason = f"one speaks {publisher.topic_type}, the other wants {subscriber.topic_type}"
                else:
                    compatible, reason = qos_check_compatible(publisher.qos_profile, subscriber.qos_profile)
                    if compatible != QoSCompatibility.ERROR:
                        continue
                yield {
                    "topic": topic,
                    "publisher": _owner(publisher),
                    "subscriber": _owner(subscriber),
                    "reason": reason.strip().rstrip(";").removeprefix("ERROR: "),
                }

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        commander = f"{self.get_namespace()}/command_node".lstrip("/")
        for status in array.status:
            values = {item.key: item.value for item in status.values}
            self.statuses[f"/{status.name}"] = {"level": int.from_bytes(status.level, "little"), "message": status.message, "values": values}
            holds = status.message.startswith("holding: ")  # a warning where it is not meant to
            if status.name == commander and (holds or status.level == status.OK):
                self.holdings.append(status.message.removeprefix("holding: ") if holds else "")

    def _on_clock(self, message: Clock) -> None:
        self.clock_ns.append(nanoseconds(message.clock))

    def _on_joints(self, message: JointState) -> None:
        self.joints = message
        self._count(self.embodiment.joints.topic, message)

    def _on_episode(self, message: msg.EpisodeState) -> None:
        self.episode = {"state": _STATES.get(message.state, ""), "number": int(message.number), "reason": message.reason, "outcome": message.outcome}

    def _on_learner(self, message: msg.LearnerStatus) -> None:
        self.learner = {"version": int(message.version), "updates": int(message.updates), "episodes": int(message.episodes), "reason": message.reason}

    def _count(self, topic: str, message: Any) -> None:
        self.arrivals.setdefault(topic, []).append(time.monotonic())


def _owner(info: Any) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def main() -> None:
    """Listens as long as asked for and prints what was heard."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--namespace", default="")
    parser.add_argument("--embodiment", default="fr3")
    given = parser.parse_args()
    embodiment = load_embodiment(given.embodiment)
    rclpy.init(args=[])
    probe = LiveProbe(given.namespace, embodiment)
    executor = SingleThreadedExecutor()
    executor.add_node(probe)
    while time.monotonic() - probe.began < given.seconds:
        executor.spin_once(timeout_sec=0.1)
    json.dump(probe.heard(), sys.stdout)
    probe.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
