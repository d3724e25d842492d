"""Cartesian velocity of the tool centre point to joint velocities, inside the workspace box.

Damped least squares, damped only near singularities (Nakamura and Hanafusa 1986; Chiaverini 1997), and what is left of
the seven joints pulls the arm towards its home posture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety.kinematics import DOWNWARD, Kinematics

DAMPING = 0.15  # of the least squares in a singularity (m and rad mixed)
SINGULAR = 0.12  # smallest singular value of the Jacobian from which on nothing is damped
POSTURE_GAIN = 0.5  # 1/s, how fast the elbow returns to where it is at home
POSTURE_SPEED = 0.3  # rad/s, at most
UPRIGHT_GAIN = 2.0  # 1/s, how fast a tilt is undone
UPRIGHT_SPEED = 0.5  # rad/s, at most
WALL = 0.001  # m before the walls of the box, where the tool slowly comes to rest: an arm under load is that far from where it should be
WALL_S = 0.1  # s: speed towards a wall of the box is at most distance / WALL_S


class Servo:
    """Inverse kinematics with a box around the tool centre point."""

    def __init__(self, embodiment: Embodiment) -> None:
        """Takes kinematics, workspace and home of ``embodiment``."""
        self._kinematics = Kinematics(embodiment)
        self._low, self._high = np.array(embodiment.workspace.low) + WALL, np.array(embodiment.workspace.high) - WALL
        self._home = np.array(embodiment.joints.home)

    def joint_velocity(
        self, q: NDArray[np.float64], velocity: NDArray[np.float64], spin: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], list[str]]:
        """Joint velocities that move the tool.

        Args:
            q: Joint positions (7,), rad.
            velocity: Of the tool centre point (3,), m/s in the base frame.
            spin: Angular velocity of the hand (3,), rad/s in the base frame; None: the hand is kept pointing down.

        Returns:
            Joint velocities (7,), rad/s, and the names of limits in effect.
        """
        position, rotation, jacobian = self._kinematics.pose_and_jacobian(q)
        lowest, highest = np.minimum(self._low - position, 0.0) / WALL_S, np.maximum(self._high - position, 0.0) / WALL_S
        inside = np.minimum(np.maximum(velocity, lowest), highest)
        limited = [] if (inside == velocity).all() else ["workspace"]
        twist = np.concatenate([inside, _upright(rotation) if spin is None else spin])
        return self._solve(jacobian, twist, self._posture(q)), limited

    def _solve(self, jacobian: NDArray[np.float64], twist: NDArray[np.float64], posture: NDArray[np.float64]) -> NDArray[np.float64]:
        left, values, right = np.linalg.svd(jacobian, full_matrices=True)
        near = max(0.0, 1.0 - (values[-1] / SINGULAR) ** 2)
        inverse = values / (values**2 + near * DAMPING**2)
        elbow = right[6]  # the direction of the joints that leaves the tool where it is
        return (inverse * (left.T @ twist)) @ right[:6] + (elbow @ posture) * elbow

    def _posture(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.minimum(np.maximum(POSTURE_GAIN * (self._home - q), -POSTURE_SPEED), POSTURE_SPEED)


def _upright(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angular velocity (3,), rad/s, that turns ``rotation`` back to pointing down."""
    error = DOWNWARD @ rotation.T
    axis = 0.5 * np.array([error[2, 1] - error[1, 2], error[0, 2] - error[2, 0], error[1, 0] - error[0, 1]])
    spin = UPRIGHT_GAIN * axis
    return spin / max(1.0, float(np.linalg.norm(spin)) / UPRIGHT_SPEED)
