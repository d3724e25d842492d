"""Joint velocities that respect the FR3's limits and can always be brought to rest inside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.sim.trajectory import Trajectory

MARGIN = 0.05  # rad kept to every position limit
STOP_S = 0.2  # s that the slowest stop takes
STOP_DECELERATION = 8.0  # rad/s^2 while stopping
ACCELERATION = 0.9 * limits.ACCELERATION  # rad/s^2 while moving
# The position-dependent bound may not shrink faster than the joints can slow down, hence at most 6 rad/s^2.
DECELERATION = np.minimum(limits.DECELERATION, 6.0)
SPEED = np.minimum(0.9 * limits.VELOCITY, STOP_DECELERATION * STOP_S)  # rad/s
# Speed is at most distance / APPROACH_S. That covers one period, one coasted period and the stop (0.14 s at 50 Hz), and
# it shrinks by at most SPEED / APPROACH_S = 6.4 rad/s^2.
APPROACH_S = 0.25


class JointLimiter:
    """Turns a wished joint velocity into the next one, and that into a trajectory that ends at rest."""

    def __init__(self, period_s: float) -> None:
        """``period_s``: seconds between two commands."""
        self._period = period_s

    def next_velocity(self, q: NDArray[np.float64], v: NDArray[np.float64], wish: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
        """Velocity for the end of this period.

        Args:
            q: Commanded positions now (7,), rad.
            v: Commanded velocities now (7,), rad/s.
            wish: Wished velocities (7,), rad/s.

        Returns:
            Velocities (7,), rad/s, and the names of the limits that held the wish back.
        """
        low, high = self._bounds(q, v)
        limited = []
        target, scaled = _shrink(wish, low, high)
        if scaled:
            limited.append("joint_limits")
        change = target - v
        largest = float(np.abs(change).max())
        allowed = ACCELERATION * self._period
        if largest > allowed:
            change *= allowed / largest
            limited.append("acceleration")
        return np.minimum(np.maximum(v + change, low), high), limited

    def trajectory(self, q: NDArray[np.float64], v: NDArray[np.float64], next_v: NDArray[np.float64]) -> Trajectory:
        """From ``q``, ``v`` to ``next_v`` in one period at constant acceleration, one more period at that speed, then to rest.

        The coasted period keeps the arm from stuttering when the next command comes late; without a next command it stops.
        """
        period, speed = self._period, float(np.abs(next_v).max())
        first = q + 0.5 * period * (v + next_v)
        if speed == 0.0:
            return Trajectory(np.array([period, 2.0 * period]), np.stack([first, first]), np.zeros((2, len(q))))
        stop = max(speed / STOP_DECELERATION, period)
        second = first + period * next_v
        last = second + 0.5 * stop * next_v
        times = np.array([period, 2.0 * period, 2.0 * period + stop])
        return Trajectory(times, np.stack([first, second, last]), np.stack([next_v, next_v, np.zeros_like(next_v)]))

    def _bounds(self, q: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ahead = q + self._period * v
        low, high = limits.velocity_bounds(ahead, MARGIN, DECELERATION)
        above = np.maximum(limits.POSITION_UPPER - MARGIN - ahead, 0.0) / APPROACH_S
        below = np.maximum(ahead - limits.POSITION_LOWER - MARGIN, 0.0) / APPROACH_S
        return np.maximum(np.maximum(low, -SPEED), -below), np.minimum(np.minimum(high, SPEED), above)


def _shrink(wish: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Scales ``wish`` towards zero until it lies between ``low`` <= 0 and ``high`` >= 0, so that it keeps its direction."""
    bound = np.where(wish > 0.0, high, -low)
    size = np.abs(wish)
    over = size > bound
    if not over.any():
        return wish, False
    return wish * float((bound[over] / size[over]).min()), True
