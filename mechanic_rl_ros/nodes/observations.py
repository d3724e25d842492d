"""Subscribes to cameras and joint states and hands out observations: the same for policy and recorder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sensor_msgs.msg import Image, JointState

from mechanic_rl_ros.assemble import ObservationAssembler
from mechanic_rl_ros.data import Observation
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds
from mechanic_rl_ros.nodes.convert import image_from_message, reading_from_message


class ObservationSubscriber:
    """Calls ``on_observation`` for every complete observation."""

    def __init__(self, node: Any, on_observation: Callable[[Observation], None], profile: Any = qos.SENSOR) -> None:
        """``node``: a ``Node`` with an ``embodiment``; ``profile``: quality of service of the subscriptions."""
        self._node, self._deliver = node, on_observation
        self.assembler = ObservationAssembler(node.embodiment)
        self.refused, self.reason = 0, ""
        for key, spec in node.embodiment.cameras.items():
            node.create_subscription(Image, spec.topic, partial(self._on_image, key), profile)
        node.create_subscription(JointState, node.embodiment.joints.topic, self._on_joints, profile)

    def take_reason(self) -> str:
        """Why something was refused since the last call, or ""."""
        reason, self.reason = self.reason, ""
        return reason

    def _on_image(self, key: str, message: Image) -> None:
        spec = self._node.embodiment.cameras[key]
        try:
            image = image_from_message(message, spec.height, spec.width)
        except UserError as error:
            self._refuse(f"camera {key}: {error}")
            return
        self._hand_out(self.assembler.add_image(key, nanoseconds(message.header.stamp), image))

    def _on_joints(self, message: JointState) -> None:
        try:
            reading = reading_from_message(message, self._node.embodiment)
        except UserError as error:
            self._refuse(str(error))
            return
        self._hand_out(self.assembler.add_reading(reading))

    def _hand_out(self, observation: Observation | None) -> None:
        if observation is not None:
            self._deliver(observation)

    def _refuse(self, reason: str) -> None:
        self.refused, self.reason = self.refused + 1, reason
        self._node.get_logger().warning(reason, throttle_duration_sec=5.0)
