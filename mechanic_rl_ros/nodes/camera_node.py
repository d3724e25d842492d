"""Ingests the cameras: any encoding in, also compressed; cropped and resized RGB with the driver's stamp out; watches rate and freeze."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from mechanic_rl_ros.embodiment import CameraSpec
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import ERROR, OK, WARN, Node, nanoseconds, run
from mechanic_rl_ros.nodes.convert import image_to_message
from mechanic_rl_ros.nodes.image_conversion import ImageConverter
from mechanic_rl_ros.observe import Observer

FROZEN_FRAMES = 200  # identical frames in a row that make a live camera suspicious; a still simulation gives a few tens
UNUSABLE_FRAMES = 10  # in a row that end the node: one may be an accident, this many are a driver that is set up wrong
WINDOW_NS = 3_000_000_000  # over which the rate is measured, by stamps
LOWEST_SHARE = 0.8  # of the policy's rate that a camera must give
AHEAD_NS = 100_000_000  # that a stamp may be ahead of this machine's clock: as synchronised machines never are
COMPRESSED = "/compressed"  # how image_transport calls topics of sensor_msgs/CompressedImage

_Convert = Callable[[Any], NDArray[np.uint8]]


@dataclass
class _Camera:
    spec: CameraSpec
    publisher: Any
    stamps_ns: deque[int] = field(default_factory=deque)
    frames: int = 0
    out_of_order: int = 0
    checksum: int = 0
    identical: int = 0
    unusable: int = 0
    reason: str = ""

    def note(self, stamp_ns: int) -> None:
        """Takes the stamp of a new frame; one far before the last is of a clock that was set back."""
        if self.stamps_ns and stamp_ns < self.stamps_ns[-1]:
            self.stamps_ns.clear()
        self.stamps_ns.append(stamp_ns)
        while self.stamps_ns[0] < stamp_ns - WINDOW_NS:
            self.stamps_ns.popleft()
        self.frames += 1

    def rate(self) -> float | None:
        """Frames per second over the last seconds; None before the first second."""
        span_ns = self.stamps_ns[-1] - self.stamps_ns[0] if self.stamps_ns else 0
        return (len(self.stamps_ns) - 1) * 1e9 / span_ns if span_ns >= 10**9 else None


class CameraNode(Node):
    """One node for all cameras of the embodiment: fewer processes, less scheduling."""

    def __init__(self) -> None:
        super().__init__("camera_node")
        self.embodiment = self.embodiment_parameter()
        self.observer = Observer(self.embodiment)
        self.converter = ImageConverter()
        self.simulated = self.get_parameter("use_sim_time").value
        self.cameras: dict[str, _Camera] = {}

    def setup(self) -> None:
        for key, spec in self.embodiment.cameras.items():
            self.cameras[key] = _Camera(spec, self.create_publisher(Image, spec.topic, qos.SENSOR))
            compressed = spec.raw_topic.endswith(COMPRESSED)
            kind, convert = (CompressedImage, self.converter.decompressed) if compressed else (Image, self.converter.rgb)
            self.create_subscription(kind, spec.raw_topic, partial(self._on_image, key, convert), qos.SENSOR)

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        values: dict[str, Any] = {}
        for key, camera in self.cameras.items():
            rate = camera.rate()
            values |= {f"{key}_frames": camera.frames, f"{key}_out_of_order": camera.out_of_order, f"{key}_rate": "" if rate is None else f"{rate:.1f}"}
        complaints = [(level, f"camera {key}{words}") for key, camera in self.cameras.items() for level, words in self._complaints(camera)]
        if not complaints:
            return OK, "all cameras are live", values
        return max(level for level, _ in complaints), "; ".join(words for _, words in complaints), values

    def _complaints(self, camera: _Camera) -> Iterator[tuple[bytes, str]]:
        reason, camera.reason = camera.reason, ""
        if reason:
            yield WARN if camera.stamps_ns else ERROR, f": {reason}"
        elif not camera.stamps_ns:
            yield ERROR, f" has sent nothing on {camera.spec.raw_topic}: start its driver"
        if not camera.stamps_ns:
            return
        age = (self.now_ns() - camera.stamps_ns[-1]) * 1e-9
        if age > 5 * camera.spec.max_age:
            yield ERROR, f" has been silent for {age:.1f} s"
        if camera.identical >= FROZEN_FRAMES:
            yield WARN, f" has sent {camera.identical} identical frames: it may be frozen"
        rate, wanted = camera.rate(), self.embodiment.policy_rate
        if rate is not None and rate < LOWEST_SHARE * wanted:
            yield WARN, f" gives {rate:.1f} frames per second, the policy wants {wanted:g}: set its driver to at least that"

    def _on_image(self, key: str, convert: _Convert, message: Image | CompressedImage) -> None:
        if not self.active:
            return
        camera = self.cameras[key]
        stamp_ns, last_ns = nanoseconds(message.header.stamp), camera.stamps_ns[-1] if camera.stamps_ns else -1
        ahead_ns = stamp_ns - self.now_ns()
        if ahead_ns > AHEAD_NS and not self.simulated:  # simulated time is told by messages, which may be later than the image
            camera.reason = f"its images are stamped {ahead_ns * 1e-9:.1f} s ahead of this machine's clock: set the clocks of the machines alike"
            return
        if stamp_ns <= last_ns and last_ns - stamp_ns < 10**9:
            camera.out_of_order += 1  # a reordered or repeated frame; a clock that went far back is a new start
            return
        try:
            if message.header.frame_id != camera.spec.frame:
                raise UserError(
                    f"frame_id is {message.header.frame_id!r}, the embodiment says {camera.spec.frame!r}: set the driver's frame or the embodiment's"
                )
            image = self.observer.image(key, convert(message))
        except UserError as error:
            self._refuse(key, camera, str(error))
            return
        camera.unusable = 0
        checksum = zlib.crc32(np.ascontiguousarray(image).data)
        camera.identical = camera.identical + 1 if checksum == camera.checksum else 0
        camera.checksum = checksum
        camera.note(stamp_ns)
        camera.publisher.publish(image_to_message(image, camera.spec.frame, message.header.stamp))

    def _refuse(self, key: str, camera: _Camera, reason: str) -> None:
        camera.unusable, camera.reason = camera.unusable + 1, reason
        if camera.unusable >= UNUSABLE_FRAMES:
            self.fault = UserError(f"camera {key}: {reason}")


def main() -> None:
    """Entry point of the executable ``camera_node``."""
    run(CameraNode)
