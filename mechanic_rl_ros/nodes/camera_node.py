"""Ingests the cameras: any encoding in, cropped and resized RGB with the driver's stamp out; watches rate and freeze."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sensor_msgs.msg import Image

from mechanic_rl_ros.embodiment import CameraSpec
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import ERROR, OK, WARN, Node, nanoseconds, run
from mechanic_rl_ros.nodes.convert import image_to_message
from mechanic_rl_ros.nodes.image_conversion import ImageConverter
from mechanic_rl_ros.observe import Observer

FROZEN_FRAMES = 200  # identical frames in a row that make a live camera suspicious; a still simulation gives a few tens
UNUSABLE_FRAMES = 10  # in a row that end the node: one may be an accident, this many are a driver that is set up wrong


@dataclass
class _Camera:
    spec: CameraSpec
    publisher: Any
    last_ns: int = -1
    frames: int = 0
    out_of_order: int = 0
    checksum: int = 0
    identical: int = 0
    unusable: int = 0
    reason: str = ""


class CameraNode(Node):
    """One node for all cameras of the embodiment: fewer processes, less scheduling."""

    def __init__(self) -> None:
        super().__init__("camera_node")
        self.embodiment = self.embodiment_parameter()
        self.observer = Observer(self.embodiment)
        self.converter = ImageConverter()
        self.cameras: dict[str, _Camera] = {}

    def setup(self) -> None:
        for key, spec in self.embodiment.cameras.items():
            self.cameras[key] = _Camera(spec, self.create_publisher(Image, spec.topic, qos.SENSOR))
            self.create_subscription(Image, spec.raw_topic, partial(self._on_image, key), qos.SENSOR)

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        values = {f"{key}_frames": camera.frames for key, camera in self.cameras.items()}
        values |= {f"{key}_out_of_order": camera.out_of_order for key, camera in self.cameras.items()}
        now_ns = self.now_ns()
        for key, camera in self.cameras.items():
            if camera.reason:
                reason, camera.reason = camera.reason, ""
                return WARN, f"camera {key}: {reason}", values
            if camera.last_ns < 0:
                return ERROR, f"camera {key} has sent nothing on {camera.spec.raw_topic}: start its driver", values
            age = (now_ns - camera.last_ns) * 1e-9
            if age > 5 * camera.spec.max_age:
                return ERROR, f"camera {key} has been silent for {age:.1f} s", values
            if camera.identical >= FROZEN_FRAMES:
                return WARN, f"camera {key} has sent {camera.identical} identical frames: it may be frozen", values
        return OK, "all cameras are live", values

    def _on_image(self, key: str, message: Image) -> None:
        if not self.active:
            return
        camera = self.cameras[key]
        stamp_ns = nanoseconds(message.header.stamp)
        if stamp_ns <= camera.last_ns and camera.last_ns - stamp_ns < 10**9:
            camera.out_of_order += 1  # a reordered or repeated frame; a clock that went far back is a new start
            return
        try:
            if message.header.frame_id != camera.spec.frame:
                raise UserError(
                    f"frame_id is {message.header.frame_id!r}, the embodiment says {camera.spec.frame!r}: set the driver's frame or the embodiment's"
                )
            image = self.observer.image(key, self.converter.rgb(message))
        except UserError as error:
            self._refuse(key, camera, str(error))
            return
        camera.unusable = 0
        checksum = zlib.crc32(np.ascontiguousarray(image).data)
        camera.identical = camera.identical + 1 if checksum == camera.checksum else 0
        camera.checksum, camera.last_ns = checksum, stamp_ns
        camera.frames += 1
        camera.publisher.publish(image_to_message(image, camera.spec.frame, message.header.stamp))

    def _refuse(self, key: str, camera: _Camera, reason: str) -> None:
        camera.unusable, camera.reason = camera.unusable + 1, reason
        if camera.unusable >= UNUSABLE_FRAMES:
            self.fault = UserError(f"camera {key}: {reason}")


def main() -> None:
    """Entry point of the executable ``camera_node``."""
    run(CameraNode)
