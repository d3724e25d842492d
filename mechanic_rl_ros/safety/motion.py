"""How the arm goes on: whatever is wished, it is always on a way to rest that keeps every limit.

A new piece is only taken if it and the way to rest that follows it were found to keep every limit; else the arm goes on
along the way to rest that was found before. So no sequence of wishes leads out of the limits (the argument of recursive
feasibility, as in model predictive control with a terminal set).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.clearance import Clearance
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.safety.limiter import JointLimiter
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.sim.trajectory import State, Trajectory, TrajectoryController

SHARES = (1.0, 0.5, 0.0)  # of a wish that are tried until one keeps every limit
SHARES_BETWEEN = np.linspace(0.125, 1.0, 8)  # of the time between two points, where speeds are looked at
HALVES = [3, 7]  # of those shares, where distances are looked at: they take longer to compute
TOLERANCE = 1e-9  # of the comparison with limits

Wish = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], list[str]]]
"""Joint positions (7,), rad -> wished joint velocities (7,), rad/s, and names of limits in effect."""


class Motion:
    """What the arm's trajectory controller desires, as far as we know, and its next piece."""

    def __init__(self, embodiment: Embodiment, bounds: SafetyLimits, period_s: float) -> None:
        """``period_s``: nominal seconds between two commands."""
        self._margin = bounds.position_margin
        # The speed that a joint may have, and between where its position leaves it free to have it.
        self._usual_speed = np.array(bounds.joint_speed)
        far = np.maximum(limits.braking_distance(self._usual_speed), self._margin)
        self._inner_low, self._inner_high = limits.POSITION_LOWER + far, limits.POSITION_UPPER - far
        self._tcp_speed = bounds.tcp_speed
        self._limiter = JointLimiter(bounds, period_s)
        self._clearance, self._kinematics = Clearance(embodiment, bounds), Kinematics(embodiment)
        self._stopping = True
        self.controller: TrajectoryController | None = None  # None: where the arm's own controller is, is not known

    def begin(self, positions: NDArray[np.float64], trajectory: Trajectory, now_ns: int) -> None:
        """From rest at ``positions`` (7,), rad, along ``trajectory``, which ends at rest."""
        self.controller = TrajectoryController(positions)
        self.controller.set_trajectory(trajectory, now_ns)
        self._stopping = True

    def stop(self, now_ns: int, state: State) -> Trajectory | None:
        """The way to rest from the ``state`` that the controller desires now; None where the arm is on it already."""
        if self._stopping:
            return None
        self._stopping = True
        trajectory, broken = self._rest(state)
        return None if broken else self._follow(trajectory, state, now_ns)

    def go_on(self, now_ns: int, state: State, wish: Wish) -> tuple[Trajectory | None, list[str]]:
        """The next piece towards what is wished, from the ``state`` that the controller desires now, and the names of the limits that changed it.

        None: what was sent before goes on to rest.
        """
        velocity, limited = wish(state[0])
        self._stopping = False
        for share in SHARES:
            trajectory, held_back, broken = self._next(state, velocity, share)
            limited += [name for name in (*held_back, *broken) if name not in limited]
            if not broken:
                return self._follow(trajectory, state, now_ns), limited
        self._stopping = True
        return None, limited

    def _follow(self, trajectory: Trajectory, state: State, now_ns: int) -> Trajectory:
        assert self.controller is not None
        self.controller.go_on(trajectory, state[0], state[1], now_ns)
        return trajectory

    def _next(self, state: State, wish: NDArray[np.float64], share: float) -> tuple[Trajectory, list[str], list[str]]:
        """The next piece towards a share of the wished joint velocities (7,), rad/s, what held that back, and what the way does not keep."""
        q, v, a = state
        next_a, held_back = self._limiter.acceleration(q, v, a, share * wish)
        trajectory = self._limiter.trajectory(q, v, next_a)
        return trajectory, held_back, self._broken(trajectory, q, v)

    def _rest(self, state: State) -> tuple[Trajectory, list[str]]:
        """The way to rest, and what it does not keep."""
        trajectory = self._limiter.stopping(*state)
        return trajectory, self._broken(trajectory, *state[:2])

    def _broken(self, trajectory: Trajectory, q: NDArray[np.float64], v: NDArray[np.float64]) -> list[str]:
        """Limits that the way from ``q`` (7,), rad, and ``v`` (7,), rad/s, does not keep. Who is beyond one already may not go further.

        Every comparison is one that fails for what is no number.
        """
        assert trajectory.velocities is not None
        positions, velocities = trajectory.positions, trajectory.velocities
        times = np.concatenate([[0.0], trajectory.times_s])
        at, speeds = _between(times, np.concatenate([q[None], positions]), np.concatenate([v[None], velocities]))
        distances = self._clearance.margins(np.concatenate([q[None], *at[HALVES]]))
        if any(margins[0] < 0.0 for margins in distances.values()):  # inside a box distances turn at once where another wall becomes the nearest
            distances = self._clearance.margins(np.concatenate([q[None], *at]))
        broken = [name for name, margins in distances.items() if not margins[1:].min() >= min(margins[0], 0.0) - TOLERANCE]
        if not self._far_from_joint_limits(at, speeds):
            if not self._beyond(positions).max() <= max(float(self._beyond(q)), 0.0) + TOLERANCE:
                broken.append("joint_position")
            low, high = limits.velocity_bounds(at)  # (S, P, 7)
            if not ((speeds >= np.minimum(low, v) - TOLERANCE).all() and (speeds <= np.maximum(high, v) + TOLERANCE).all()):
                broken.append("joint_velocity")
        quickest = speeds[:, :2].reshape(-1, len(q))  # of the piece, and while its acceleration turns into that of the stop
        if not np.linalg.norm(quickest @ self._kinematics.jacobian(positions[0])[:3].T, axis=1).max() <= self._tcp_speed:
            broken.append("tcp_speed")
        return broken

    def _far_from_joint_limits(self, at: NDArray[np.float64], speeds: NDArray[np.float64]) -> bool:
        """Whether positions and speeds (S, P, 7) keep every limit of a joint without a doubt: quicker to see than where the limits are, and so nearly always."""
        return bool((at >= self._inner_low).all() and (at <= self._inner_high).all() and (np.abs(speeds) <= self._usual_speed).all())

    def _beyond(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """rad by which positions (..., 7) come closer to a joint's limit than the margin."""
        return np.maximum(limits.POSITION_LOWER + self._margin - q, q - limits.POSITION_UPPER + self._margin).max(axis=-1)


def _between(times: NDArray[np.float64], positions: NDArray[np.float64], velocities: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions and velocities (S, P - 1, 7) along the cubics between points (P,), (P, 7), (P, 7), at every share of the time between two."""
    s, length = SHARES_BETWEEN[:, None, None], np.diff(times)[:, None]
    v0, v1, way = velocities[:-1] * length, velocities[1:] * length, positions[1:] - positions[:-1]
    curve, bend = 3.0 * way - 2.0 * v0 - v1, v0 + v1 - 2.0 * way
    at, speeds = positions[:-1] + s * (v0 + s * (curve + s * bend)), (v0 + s * (2.0 * curve + 3.0 * s * bend)) / length
    return at, speeds
