"""Camera messages of any encoding to RGB: by cv_bridge where ROS has it, else by rosbags-image from PyPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.errors import UserError

_Convert = Callable[[Any], Any]


def _converters() -> tuple[_Convert, _Convert]:
    """For ``Image`` to RGB, and for ``CompressedImage`` to what is in it: grey, or blue, green and red."""
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        return lambda message: bridge.imgmsg_to_cv2(message, "rgb8"), bridge.compressed_imgmsg_to_cv2
    except ImportError:
        pass
    try:
        from rosbags.image import compressed_image_to_cvimage, image_to_cvimage

        return lambda message: image_to_cvimage(message, "rgb8"), compressed_image_to_cvimage
    except ImportError as error:
        raise UserError("images cannot be converted: install cv_bridge (ROS) or 'rosbags-image[opencv-headless]' (PyPI)") from error


class ImageConverter:
    """Turns ``sensor_msgs/Image`` and ``sensor_msgs/CompressedImage`` into RGB arrays."""

    def __init__(self) -> None:
        """Chooses the library.

        Raises:
            UserError: Neither library is installed.
        """
        self._convert, self._decompress = _converters()

    def rgb(self, message: Any) -> NDArray[np.uint8]:
        """RGB image (height, width, 3), uint8, of an ``Image``.

        Raises:
            UserError: The encoding is unknown, or the data do not fit the size.
        """
        if message.encoding == "rgb8":  # nothing to convert: skip a copy
            rows, columns, step = message.height, message.width, message.step
            if rows < 1 or step < 3 * columns or len(message.data) != rows * step:
                raise UserError(f"image of {rows}x{columns} rgb8 has {len(message.data)} bytes: mend its publisher")
            return np.frombuffer(message.data, dtype=np.uint8).reshape(rows, step)[:, : 3 * columns].reshape(rows, columns, 3)
        return _checked(lambda: self._convert(message), f"image encoding {message.encoding!r}", "set the driver to rgb8, bgr8 or mono8")

    def decompressed(self, message: Any) -> NDArray[np.uint8]:
        """RGB image (height, width, 3), uint8, of a ``CompressedImage``.

        Raises:
            UserError: It is damaged, or of an unknown format.
        """
        return _checked(lambda: _rgb(self._decompress(message)), f"compressed image {message.format!r}", "set the driver to jpeg or png of 8 bits")


def _rgb(decoded: Any) -> Any:
    return np.repeat(decoded[..., None], 3, axis=-1) if decoded.ndim == 2 else decoded[..., ::-1]


def _checked(convert: Callable[[], Any], what: str, advice: str) -> NDArray[np.uint8]:
    try:
        image = np.asarray(convert())
    except Exception as error:  # the libraries raise many kinds, cv2.error among them
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{what} cannot be converted to rgb8 ({reason}): {advice}") from error
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"{what} gave {image.dtype} {image.shape} instead of RGB: {advice}")
    return image
