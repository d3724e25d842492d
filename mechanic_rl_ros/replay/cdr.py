"""The three messages of an episode file as bytes, in CDR, the encoding that ROS 2 messages have on the wire and in bags.

Plain CDR (XCDR1), little endian: every number is aligned to its size, counted from after the 4 bytes of encapsulation. OMG DDSI-RTPS 2.5, chapter 10.
Encoding is done here because the writer of ``mcap_ros2`` cannot ask for checksums over the whole data section; a test decodes the result with its decoder.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

NANOSECONDS = 1_000_000_000
"""In a second."""


class CdrWriter:
    """Appends values with the alignment that CDR asks for."""

    def __init__(self) -> None:
        self._data = bytearray(b"\x00\x01\x00\x00")

    def number(self, code: str, value: float) -> None:
        """One number; ``code`` as in ``struct``."""
        self._align(struct.calcsize(code))
        self._data += struct.pack("<" + code, value)

    def string(self, text: str) -> None:
        """A string: length with the closing zero, bytes, zero."""
        encoded = text.encode() + b"\x00"
        self.number("I", len(encoded))
        self._data += encoded

    def header(self, stamp_ns: int, frame: str) -> None:
        """A ``std_msgs/Header``."""
        self.number("i", stamp_ns // NANOSECONDS)
        self.number("I", stamp_ns % NANOSECONDS)
        self.string(frame)

    def array(self, values: NDArray[np.generic]) -> None:
        """A sequence of numbers."""
        self.number("I", values.size)
        if values.size:
            self._align(values.itemsize)
        self._data += values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()

    def bytes(self) -> bytes:
        """The message so far."""
        return bytes(self._data)

    def _align(self, size: int) -> None:
        self._data += bytes(-(len(self._data) - 4) % size)


def encode_image(stamp_ns: int, frame: str, image: NDArray[np.uint8]) -> bytes:
    """A ``sensor_msgs/Image`` of encoding rgb8 from uint8 (height, width, 3)."""
    height, width, _ = image.shape
    writer = CdrWriter()
    writer.header(stamp_ns, frame)
    writer.number("I", height)
    writer.number("I", width)
    writer.string("rgb8")
    writer.number("B", 0)
    writer.number("I", 3 * width)
    writer.array(image)
    return writer.bytes()


def encode_state(stamp_ns: int, frame: str, names: list[str], values: NDArray[np.float32]) -> bytes:
    """A ``sensor_msgs/JointState`` whose names and positions are the channels of the policy's state; velocity and effort stay empty."""
    writer = CdrWriter()
    writer.header(stamp_ns, frame)
    writer.number("I", len(names))
    for name in names:
        writer.string(name)
    writer.array(values.astype(np.float64))
    writer.array(np.zeros(0))
    writer.array(np.zeros(0))
    return writer.bytes()


def encode_step(
    stamp_ns: int, frame: str, index: int, action: NDArray[np.float32], reward: float, policy_version: int, source: int, trace: NDArray[np.float32]
) -> bytes:
    """A ``mechanic_rl_ros/Step``, field by field as in msg/Step.msg."""
    writer = CdrWriter()
    writer.header(stamp_ns, frame)
    writer.number("I", index)
    writer.array(action)
    writer.number("f", reward)
    writer.number("q", policy_version)
    writer.number("B", source)
    writer.array(trace)
    return writer.bytes()
