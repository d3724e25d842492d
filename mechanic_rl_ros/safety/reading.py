"""One measurement of the robot's joints, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class JointReading:
    """Joint state of arm and hand at one instant.

    Attributes:
        stamp_ns: When it was measured.
        positions: float64 (7,), rad.
        velocities: float64 (7,), rad/s.
        efforts: float64 (7,), Nm.
        finger: Per-finger position, m (0 closed, 0.04 open).
        finger_velocity: m/s.
    """

    stamp_ns: int
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    efforts: NDArray[np.float64]
    finger: float
    finger_velocity: float
