"""From raw readings to what a policy sees. Live, recorded and offline observations all come from here."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import Observation
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.safety.reading import JointReading


class Observer:
    """Makes observations of one embodiment."""

    def __init__(self, embodiment: Embodiment) -> None:
        """Takes cameras and joints from ``embodiment``."""
        self._embodiment = embodiment
        self._kinematics = Kinematics(embodiment)

    def image(self, camera: str, raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Crops ``raw`` (H, W, 3) RGB about its centre to the camera's aspect ratio and resizes it.

        Returns:
            uint8 (height, width, 3) as the embodiment wants it.

        Raises:
            UserError: Unknown camera, or not an RGB image of 8 bits.
        """
        spec = self._embodiment.cameras.get(camera)
        if spec is None:
            raise UserError(f"embodiment {self._embodiment.name} has no camera {camera!r}: use one of {', '.join(self._embodiment.cameras)}")
        if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[2] != 3 or 0 in raw.shape:
            raise UserError(f"image of camera {camera} is {raw.dtype} {raw.shape}: give uint8 (height, width, 3) RGB")
        return resize(crop(raw, spec.height, spec.width), spec.height, spec.width)

    def state(self, reading: JointReading) -> NDArray[np.float32]:
        """Proprioception (4,): tool centre point x, y, z in the base frame (m) and finger position (m)."""
        position, _ = self._kinematics.tcp(reading.positions)
        return np.append(position, reading.finger).astype(np.float32)

    def observation(self, stamp_ns: int, raw_images: dict[str, NDArray[np.uint8]], reading: JointReading) -> Observation:
        """Whole observation from raw images (camera key -> RGB) taken at ``stamp_ns`` and the joint state of that time."""
        return Observation(stamp_ns, {camera: self.image(camera, raw_images[camera]) for camera in self._embodiment.cameras}, self.state(reading))


def crop(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Largest central part of ``image`` (H, W, 3) with the aspect ratio ``height`` : ``width``."""
    rows, columns = image.shape[:2]
    kept_rows = min(rows, max(1, round(columns * height / width)))
    kept_columns = min(columns, max(1, round(rows * width / height)))
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    return image[top : top + kept_rows, left : left + kept_columns]


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resizes ``image`` (H, W, 3) to (height, width, 3): every pixel is the mean of the area that it covers."""
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return np.ascontiguousarray(image)
    tall = np.zeros((height, columns, image.shape[2]), dtype=np.float32)
    for pixels, weights in _taps(rows, height):
        tall += weights[:, None, None] * image[pixels]
    wide = np.full((height, width, image.shape[2]), 0.5, dtype=np.float32)  # rounds when it is cut to integers
    for pixels, weights in _taps(columns, width):
        wide += weights[None, :, None] * tall[:, pixels]
    return wide.astype(np.uint8)


@lru_cache(maxsize=64)
def _taps(source: int, target: int) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Source pixel (target,) and its weight (target,), one pair for every source pixel that a target pixel may cover.

    A few weighted sums rather than a matrix product: the result does not depend on the linear algebra library and its threads.
    """
    scale = source / target
    starts = np.arange(target) * scale
    first = np.floor(starts).astype(np.int64)
    taps = []
    for tap in range(int(np.ceil(scale)) + 1):
        pixels = first + tap
        covered = np.minimum(starts + scale, pixels + 1) - np.maximum(starts, pixels)
        taps.append((np.minimum(pixels, source - 1), (np.maximum(covered, 0.0) / scale).astype(np.float32)))
    return [(pixels, weights) for pixels, weights in taps if weights.any()]
