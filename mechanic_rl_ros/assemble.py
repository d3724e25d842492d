"""Joins images and joint states into observations by their stamps, for policy and recorder alike."""

from __future__ import annotations

from collections import OrderedDict, deque

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import Observation
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.observe import Observer
from mechanic_rl_ros.safety.reading import JointReading

PENDING = 8  # stamps that wait for their other cameras or their joint state
READINGS = 64


class ObservationAssembler:
    """Gives an observation as soon as every camera's image of one instant and the joint state of that instant are there.

    Images belong together when their stamps differ by less than half a policy period; the observation carries the stamp
    of the first. The joint state is the newest that is not newer than the image, or one that is less than that after it.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        self._embodiment = embodiment
        self._observer = Observer(embodiment)
        self._tolerance_ns = embodiment.period_ns // 2
        self._pending: OrderedDict[int, dict[str, NDArray[np.uint8]]] = OrderedDict()
        self._readings: deque[JointReading] = deque(maxlen=READINGS)
        self.dropped = 0
        """Instants given up because a camera's image of them never came."""

    def add_reading(self, reading: JointReading) -> Observation | None:
        """Takes a joint state; an observation that waited for it, if any."""
        if self._readings and reading.stamp_ns < self._readings[-1].stamp_ns:
            self._forget_after(reading.stamp_ns)
        self._readings.append(reading)
        return self._complete()

    def add_image(self, camera: str, stamp_ns: int, image: NDArray[np.uint8]) -> Observation | None:
        """Takes an image (height, width, 3) as the policy sees it; the observation that it completes, if any."""
        key = next((key for key in self._pending if abs(key - stamp_ns) < self._tolerance_ns), stamp_ns)
        self._pending.setdefault(key, {})[camera] = image
        while len(self._pending) > PENDING:
            self._pending.popitem(last=False)
            self.dropped += 1
        return self._complete()

    def _complete(self) -> Observation | None:
        for stamp_ns, images in list(self._pending.items()):
            reading = self._reading_at(stamp_ns) if len(images) == len(self._embodiment.cameras) else None
            if reading is not None:
                for older in [key for key in self._pending if key <= stamp_ns]:
                    self.dropped += int(older != stamp_ns)
                    del self._pending[older]
                return Observation(stamp_ns, {key: images[key] for key in self._embodiment.cameras}, self._observer.state(reading))
        return None

    def _forget_after(self, stamp_ns: int) -> None:
        """The clock went back: what was stamped by it before belongs to another time."""
        self._readings.clear()
        for key in [key for key in self._pending if key > stamp_ns + self._tolerance_ns]:
            del self._pending[key]

    def _reading_at(self, stamp_ns: int) -> JointReading | None:
        """The joint state of that instant; None while a better one may still come."""
        if not self._readings or self._readings[-1].stamp_ns < stamp_ns:
            return None
        exact = [reading for reading in self._readings if reading.stamp_ns <= stamp_ns]
        if exact:
            return exact[-1]
        return self._readings[0] if self._readings[0].stamp_ns - stamp_ns < self._tolerance_ns else None
