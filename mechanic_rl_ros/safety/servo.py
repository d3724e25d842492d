"""Cartesian velocity of the tool centre point to joint velocities, inside the workspace box, with the hand kept pointing down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety.kinematics import DOWNWARD, Kinematics

DAMPING = 0.05  # of the least squares (m and rad mixed); Nakamura and Hanafusa 1986
UPRIGHT_GAIN = 2.0  # 1/s, how fast a tilt is undone
UPRIGHT_SPEED = 0.5  # rad/s, at most
WALL_S = 0.1  # s: speed towards a wall of the box is at most distance / WALL_S


class Servo:
    """Damped least squares with a box around the tool centre point."""

    def __init__(self, embodiment: Embodiment) -> None:
        """Takes kinematics and workspace of ``embodiment``."""
        self._kinematics = Kinematics(embodiment)
        self._low, self._high = np.array(embodiment.workspace.low), np.array(embodiment.workspace.high)

    def joint_velocity(self, q: NDArray[np.float64], velocity: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
        """Joint velocities (7,), rad/s, for ``velocity`` (3,), m/s in the base frame, at joint positions ``q``; names of limits in effect."""
        position, rotation, jacobian = self._kinematics.pose_and_jacobian(q)
        inside = np.clip(velocity, np.minimum(self._low - position, 0.0) / WALL_S, np.maximum(self._high - position, 0.0) / WALL_S)
        limited = [] if np.array_equal(inside, velocity) else ["workspace"]
        twist = np.concatenate([inside, _upright(rotation)])
        square = jacobian @ jacobian.T
        square[np.diag_indices(6)] += DAMPING**2
        return jacobian.T @ np.linalg.solve(square, twist), limited


def _upright(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angular velocity (3,), rad/s, that turns ``rotation`` back to pointing down."""
    error = DOWNWARD @ rotation.T
    axis = 0.5 * np.array([error[2, 1] - error[1, 2], error[0, 2] - error[2, 0], error[1, 0] - error[0, 1]])
    spin = UPRIGHT_GAIN * axis
    return spin / max(1.0, float(np.linalg.norm(spin)) / UPRIGHT_SPEED)
