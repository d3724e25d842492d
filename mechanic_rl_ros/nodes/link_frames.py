"""The arm's frames on /tf where nobody else tells them: the embedded simulation runs without robot_state_publisher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geometry_msgs.msg import TransformStamped

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes.base import stamp
from mechanic_rl_ros.view.cameras import CameraView
from mechanic_rl_ros.view.links import Link, quaternion

MODES = ("auto", "always", "never")
TOPIC = "/tf"


class LinkFrames:
    """Publishes tf2_msgs/TFMessage, whose package is looked for when it is first wanted."""

    def __init__(self, node: Any, cameras: Mapping[str, CameraView]) -> None:
        """Declares the parameter ``publish_tf`` of ``node``; ``cameras`` by their key in its embodiment.

        Raises:
            UserError: The parameter is none of ``MODES``.
        """
        self._node = node
        self._mode = node.parameter(
            "publish_tf", "auto", "frames of the arm on /tf: auto (beside the embedded simulation, if nobody else does), always or never"
        )
        if self._mode not in MODES:
            raise UserError(f"parameter publish_tf of {node.get_name()} is {self._mode!r}: use one of {', '.join(MODES)}")
        specs = node.embodiment.cameras
        self._fixed = [Link(view.parent, specs[key].frame, view.pose) for key, view in cameras.items() if key in specs]
        self._publisher: Any = None
        self._kind: Any = None
        self.note = ""

    def wanted(self) -> bool:
        """Whether it is up to us to publish, and somebody listens."""
        if self._mode == "never" or self.note:
            return False
        if self._publisher is None:
            self._open()
        return self._publisher is not None and self._publisher.get_subscription_count() > 0 and (self._mode == "always" or self._alone())

    def publish(self, links: list[Link], stamp_ns: int) -> None:
        """Poses of ``links`` and of the cameras, as of then."""
        self._publisher.publish(self._kind(transforms=[_transform(link, stamp_ns) for link in (*links, *self._fixed)]))

    def _alone(self) -> bool:
        return self._node.count_publishers(TOPIC) == 1 and ("sim_node", self._node.get_namespace()) in self._node.get_node_names_and_namespaces()

    def _open(self) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            self.note = "frames are not published: the package tf2_msgs is not installed"
            return
        self._kind = TFMessage
        self._publisher = self._node.create_publisher(TFMessage, TOPIC, 10)


def _transform(link: Link, stamp_ns: int) -> TransformStamped:
    message = TransformStamped(child_frame_id=link.child)
    message.header.frame_id, message.header.stamp = link.parent, stamp(stamp_ns)
    place, turn = message.transform.translation, message.transform.rotation
    place.x, place.y, place.z = link.pose[:3, 3].tolist()
    turn.x, turn.y, turn.z, turn.w = quaternion(link.pose[:3, :3]).tolist()
    return message
