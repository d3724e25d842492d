"""The next piece of the arm's way, and the way to rest that always follows it.

A piece has constant acceleration and lasts two periods, so that a command that arrives a little late or early is still
smooth; the next command replaces its second half. Acceleration steps at a command by so little that, looked at every
millisecond as the robot does, jerk keeps its limit. The way to rest is made of pieces with linear acceleration.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.sim.trajectory import Trajectory

PIECE_PERIODS = 2  # that a piece lasts
FOLLOW_PERIODS = 1.7  # in which the missing velocity is made up for; less overshoots, since acceleration can only step by STEP
STOP_DECELERATION = 9.5  # rad/s^2 while stopping
RAMP_S = 0.01  # s in which the deceleration of a stop begins and ends: at most 1900 rad/s^3
SHORTEST_S = 0.001  # s that the part of a stop between its ramps takes at least: the points of a trajectory lie apart
# Speed is at most distance / APPROACH_S: a wish that would run into a position limit slows down long before it.
APPROACH_S = 0.25

STEP = 0.8 * limits.JERK * 0.001  # rad/s^2 by which acceleration may step: within the robot's millisecond, jerk keeps its limit
APPROACH_DECELERATION = np.minimum(limits.DECELERATION, 6.0)  # rad/s^2, of the bound on a wish near a position limit

_Joints = NDArray[np.float64]


class JointLimiter:
    """Turns a wished joint velocity into an acceleration, and that into a trajectory that ends at rest."""

    def __init__(self, bounds: SafetyLimits, period_s: float) -> None:
        """``period_s``: seconds between two commands."""
        self._bounds, self._period = bounds, period_s
        self._speed = np.array(bounds.joint_speed)

    def acceleration(self, q: _Joints, v: _Joints, a: _Joints, wish: _Joints) -> tuple[_Joints, list[str]]:
        """Acceleration of the next piece.

        Args:
            q: Commanded positions now (7,), rad.
            v: Commanded velocities now (7,), rad/s.
            a: Commanded accelerations now (7,), rad/s^2.
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
        change = next_a - a
        if (np.abs(change) > STEP).any():
            limited.append("jerk")
        return a + np.minimum(np.maximum(change, -STEP), STEP), limited

    def trajectory(self, q: _Joints, v: _Joints, next_a: _Joints) -> Trajectory:
        """From positions ``q`` (7,), rad, and velocities ``v`` (7,), rad/s, one piece with acceleration ``next_a``, then to rest."""
        seconds = PIECE_PERIODS * self._period
        return _through(q, v, next_a, [(seconds, next_a), *self._stop(v + seconds * next_a, next_a)])

    def stopping(self, q: _Joints, v: _Joints, a: _Joints) -> Trajectory:
        """From positions ``q`` (7,), rad, velocities ``v`` (7,), rad/s, and accelerations ``a`` (7,), rad/s^2, to rest."""
        return _through(q, v, a, self._stop(v, a))

    def _allowed(self, q: _Joints, v: _Joints, wish: _Joints) -> tuple[_Joints, list[str]]:
        """``wish`` scaled towards zero until every joint may go so fast, so that it keeps its direction."""
        ahead = q + self._period * v
        low, high = limits.velocity_bounds(ahead, self._bounds.position_margin, APPROACH_DECELERATION)
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
        hold = max(float(np.abs(left).max()) / STOP_DECELERATION - RAMP_S, SHORTEST_S)
        constant = -left / (hold + RAMP_S)
        return [(RAMP_S, constant), (hold, constant), (RAMP_S, np.zeros_like(v))]


def _through(q: _Joints, v: _Joints, a: _Joints, pieces: list[tuple[float, _Joints]]) -> Trajectory:
    at, times, positions, velocities = 0.0, [], [], []
    for seconds, next_a in pieces:
        q = q + seconds * v + seconds**2 * (2.0 * a + next_a) / 6.0
        at, v, a = at + seconds, v + 0.5 * seconds * (a + next_a), next_a
        times.append(at)
        positions.append(q)
        velocities.append(v)
    velocities[-1] = np.zeros_like(v)  # exactly
    return Trajectory(np.array(times), np.stack(positions), np.stack(velocities))
