"""Camera messages of any encoding to RGB: by cv_bridge where ROS has it, else by rosbags-image from PyPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.errors import UserError


def _converter() -> Callable[[Any], Any]:
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        return lambda message: bridge.imgmsg_to_cv2(message, "rgb8")
    except ImportError:
        pass
    try:
        from rosbags.image import image_to_cvimage

        return lambda message: image_to_cvimage(message, "rgb8")
    except ImportError as error:
        raise UserError("images cannot be converted: install cv_bridge (ROS) or 'rosbags-image[opencv-headless]' (PyPI)") from error


class ImageConverter:
    """Turns ``sensor_msgs/Image`` into RGB arrays."""

    def __init__(self) -> None:
        """Chooses the library.

        Raises:
            UserError: Neither library is installed.
        """
        self._convert = _converter()

    def rgb(self, message: Any) -> NDArray[np.uint8]:
        """RGB image (height, width, 3), uint8.

        Raises:
            UserError: The encoding is unknown, or the data do not fit the size.
        """
        if message.encoding == "rgb8":  # nothing to convert: skip a copy
            rows, columns, step = message.height, message.width, message.step
            if rows < 1 or step < 3 * columns or len(message.data) != rows * step:
                raise UserError(f"image of {rows}x{columns} rgb8 has {len(message.data)} bytes: mend its publisher")
            return np.frombuffer(message.data, dtype=np.uint8).reshape(rows, step)[:, : 3 * columns].reshape(rows, columns, 3)
        try:
            image = np.asarray(self._convert(message))
        except Exception as error:  # the libraries raise many kinds, cv2.error among them
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"image encoding {message.encoding!r} cannot be converted to rgb8 ({reason}): set the driver to rgb8, bgr8 or mono8") from error
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(f"image encoding {message.encoding!r} gave {image.dtype} {image.shape} instead of RGB: set the driver to rgb8, bgr8 or mono8")
        return image
