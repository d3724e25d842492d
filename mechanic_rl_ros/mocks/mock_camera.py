"""mock_camera: plays the driver of one camera, good or bad.

Publishes sensor_msgs/Image, a picture that changes from frame to frame.
Parameters (--ros-args -p name:=value); all but the first four may be set while it runs, with ros2 param set:
  topic    default camera/front/image_raw
  frame    default camera_front_optical_frame
  rate     Hz, default 30
  size     rows and columns, pixels, default 64
  drop     share of the frames that are lost, 0 to 1, default 0
  freeze   true: one and the same picture with live stamps, default false
  delay    s by which frames come late: stamps are that much older, default 0
  ahead    s by which stamps lie in the future, default 0
  wrong_frame, wrong_size   true: frames of another camera's name, or of odd size, default false
"""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from rcl_interfaces.msg import ParameterDescriptor
from sensor_msgs.msg import Image

from mechanic_rl_ros.mocks.main import start
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import OK, Node, stamp

FAULTS = {"drop": 0.0, "freeze": False, "delay": 0.0, "ahead": 0.0, "wrong_frame": False, "wrong_size": False}


class MockCamera(Node):
    """A moving picture and its faults."""

    def __init__(self) -> None:
        super().__init__("mock_camera")
        self.topic = self.parameter("topic", "camera/front/image_raw", "topic of the images")
        self.frame = self.parameter("frame", "camera_front_optical_frame", "frame_id of the images")
        self.rate = self.parameter("rate", 30.0, "frames per second, Hz", low=1.0, high=120.0)
        self.size = self.parameter("size", 64, "rows and columns, pixels", low=8, high=1024)
        for name, value in FAULTS.items():
            self.declare_parameter(name, value, ParameterDescriptor(description="a fault, see --help"))
        self.random = np.random.default_rng(0)
        self.frames = 0
        self.picture = 0

    def setup(self) -> None:
        self.publisher = self.create_publisher(Image, self.topic, qos.SENSOR)
        self.create_timer(1.0 / self.rate, self._publish, clock=self.wall)

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        return OK, "running", {"frames": self.frames}

    def _publish(self) -> None:
        fault = {name: self.get_parameter(name).value for name in FAULTS}
        if self.random.random() < fault["drop"]:
            return
        self.picture += not fault["freeze"]
        size = self.size // 2 if fault["wrong_size"] else self.size
        ramp = np.add.outer(np.arange(size), np.arange(size)) + 4 * self.picture
        pixels = np.stack([ramp, ramp + 85, ramp + 170], axis=-1).astype(np.uint8)
        message = Image(height=size, width=size, encoding="rgb8", step=3 * size)
        message.header.stamp = stamp(self.now_ns() + round(1e9 * (fault["ahead"] - fault["delay"])))
        message.header.frame_id = "another_frame" if fault["wrong_frame"] else self.frame
        message.data = array.array("B", pixels.tobytes())
        self.publisher.publish(message)
        self.frames += 1


def main() -> None:
    """Entry point of the executable ``mock_camera``."""
    start(MockCamera, __doc__)
