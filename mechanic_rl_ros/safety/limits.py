"""Joint limits of the Franka Research 3.

Sources: ``franka_description`` 1.0.1, ``robots/fr3/joint_limits.yaml`` (position, velocity, torque), and libfranka,
``include/franka/rate_limiting.h`` (acceleration, jerk, position-dependent velocity).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POSITION_LOWER = np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159])  # rad
POSITION_UPPER = np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159])  # rad
VELOCITY = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])  # rad/s
VELOCITY_OFFSET = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])  # rad/s
DECELERATION = np.array([6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0])  # rad/s^2, of the position-dependent velocity bound
ACCELERATION = 10.0  # rad/s^2, every joint
JERK = 5000.0  # rad/s^3, every joint. From -ACCELERATION to ACCELERATION within one command takes at most 4000 on average, at 200 Hz, so nothing enforces it.
TORQUE = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])  # Nm


def velocity_bounds(
    q: NDArray[np.float64],
    margin: float = 0.0,
    deceleration: NDArray[np.float64] = DECELERATION,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Velocity that the FR3 allows at joint positions ``q``: min(dq_max, max(0, -offset + sqrt(2 decel distance))).

    Args:
        q: Positions (..., 7), rad.
        margin: Moves both position limits inwards, rad.
        deceleration: Deceleration (7,) of the bound, rad/s^2.

    Returns:
        Lower (at most 0) and upper (at least 0) bound, (..., 7) each, rad/s.
    """
    above = np.maximum(POSITION_UPPER - margin - q, 0.0)
    below = np.maximum(q - POSITION_LOWER - margin, 0.0)
    upper = np.clip(np.sqrt(2.0 * deceleration * above) - VELOCITY_OFFSET, 0.0, VELOCITY)
    lower = -np.clip(np.sqrt(2.0 * deceleration * below) - VELOCITY_OFFSET, 0.0, VELOCITY)
    return lower, upper
