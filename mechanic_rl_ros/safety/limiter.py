"""The next piece of the arm's way, with continuous acceleration, and the way to rest that always follows it.

Between its points a trajectory is made of cubics in position, so acceleration is piecewise linear and jerk is bounded by
the largest change of acceleration over the length of a piece.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.sim.trajectory import Trajectory

STOP_DECELERATION = 9.0  # rad/s^2 while stopping
RAMP_S = 0.01  # s in which the deceleration of a stop begins and ends: at most 1900 rad/s^3
# Acceleration follows the missing velocity over this many periods: less overshoots, since acceleration answers a period late.
FOLLOW_PERIODS = 3.0
# Speed is at most distance / APPROACH_S: a wish that would run into a position limit slows down long before it.
APPROACH_S = 0.25

JERK = 350.0  # rad/s^3 while moving

_Joints = NDArray[np.float64]

Point = tuple[float, _Joints, _Joints, _Joints]
"""Seconds from now; position (7,), rad, velocity (7,), rad/s, and acceleration (7,), rad/s^2, that the arm has then."""


class JointLimiter:
    """Turns a wished joint velocity into an acceleration, and that into a trajectory that ends at rest."""

    def __init__(self, bounds: SafetyLimits, period_s: float) -> None:
        """``period_s``: seconds between two commands."""
        self._bounds, self._period = bounds, period_s
        self._speed = np.array(bounds.joint_speed)

    def acceleration(self, q: _Joints, v: _Joints, a: _Joints, wish: _Joints) -> tuple[_Joints, list[str]]:
        """Acceleration for the end of the next period.

        Args:
            q: Commanded positions (7,), rad.
            v: Commanded velocities (7,), rad/s.
            a: Commanded accelerations (7,), rad/s^2.
            wish: Wished velocities (7,), rad/s.

        Returns:
            Accelerations (7,), rad/s^2, and the names of the limits that held the wish back.
        """
        target, limited = self._allowed(q, v, wish)
        next_a = (target - v) / (FOLLOW_PERIODS * self._period)
        highest = self._bounds.joint_acceleration
        largest = float(np.abs(next_a).max())
        if largest > highest:
            next_a *= highest / largest
            limited.append("acceleration")
        step = JERK * self._period
        if (np.abs(next_a - a) > step).any():
            limited.append("jerk")
        return a + np.clip(next_a - a, -step, step), limited

    def trajectory(self, lead: list[Point], next_a: _Joints) -> Trajectory:
        """Through the points of ``lead``, on for one period while acceleration goes to ``next_a``, then to rest."""
        _, _, v, a = lead[-1]
        return _through(lead, [(self._period, next_a), *self._stop(v + 0.5 * self._period * (a + next_a), next_a)])

    def stopping(self, lead: list[Point]) -> Trajectory:
        """Through the points of ``lead``, then to rest."""
        return _through(lead, self._stop(*lead[-1][2:]))

    def _allowed(self, q: _Joints, v: _Joints, wish: _Joints) -> tuple[_Joints, list[str]]:
        """``wish`` scaled towards zero until every joint may go so fast, so that it keeps its direction."""
        ahead = q + self._period * v
        low, high = limits.velocity_bounds(ahead, self._bounds.position_margin, np.minimum(limits.DECELERATION, 6.0))
        above = np.maximum(limits.POSITION_UPPER - self._bounds.position_margin - ahead, 0.0) / APPROACH_S
        below = np.maximum(ahead - limits.POSITION_LOWER - self._bounds.position_margin, 0.0) / APPROACH_S
        size, near = np.abs(wish), np.where(wish > 0.0, above, below)
        fast = np.minimum(self._speed, np.where(wish > 0.0, high, -low))
        limited = [name for name, bound in (("joint_position", near), ("joint_velocity", fast)) if (size > bound).any()]
        if not limited:
            return wish, limited
        bound = np.minimum(near, fast)
        over = size > bound
        return wish * float((bound[over] / size[over]).min()), limited

    def _stop(self, v: _Joints, a: _Joints) -> list[tuple[float, _Joints]]:
        """Pieces (seconds, acceleration at the end) to rest: all joints come to rest at the same time."""
        left = v + 0.5 * RAMP_S * a
        hold = max(float(np.abs(left).max()) / STOP_DECELERATION - RAMP_S, 0.0)
        constant = -left / (hold + RAMP_S)
        held = [(hold, constant)] if hold > 1e-4 else []
        if not held:
            constant = -left / RAMP_S
        return [(RAMP_S, constant), *held, (RAMP_S, np.zeros_like(v))]


def _through(lead: list[Point], pieces: list[tuple[float, _Joints]]) -> Trajectory:
    times, positions, velocities = (list(values) for values in list(zip(*lead, strict=True))[:3])
    at, q, v, a = lead[-1]
    for seconds, next_a in pieces:
        q = q + seconds * v + seconds**2 * (2.0 * a + next_a) / 6.0
        at, v, a = at + seconds, v + 0.5 * seconds * (a + next_a), next_a
        times.append(at)
        positions.append(q)
        velocities.append(v)
    velocities[-1] = np.zeros_like(v)  # exactly
    return Trajectory(np.array(times), np.stack(positions), np.stack(velocities))
