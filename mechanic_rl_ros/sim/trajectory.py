"""Joint trajectories and the controller that follows them.

The semantics are those of ``joint_trajectory_controller`` (ros2_control) with ``interpolate_from_desired_state``: a new
trajectory starts from the current desired state, is interpolated by cubics where velocities are given and linearly where
they are not, and its last point is held.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechanic_rl_ros.errors import UserError

ROUNDING_S = 1e-8  # of times

State = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Joint positions (J,), rad, velocities (J,), rad/s, and accelerations (J,), rad/s^2."""


@dataclass(frozen=True)
class Trajectory:
    """Points that the joints shall pass.

    Attributes:
        times_s: float64 (P,), seconds from its start, above 0 and rising.
        positions: float64 (P, J), rad.
        velocities: float64 (P, J), rad/s, or None: straight lines between the positions.
    """

    times_s: NDArray[np.float64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64] | None

    def check(self, joints: int) -> None:
        """Refuses what a controller refuses.

        Raises:
            UserError: Shapes do not fit, times do not rise from above 0, or a number is not finite.
        """
        times, positions = np.asarray(self.times_s), np.asarray(self.positions)
        arrays = [positions] if self.velocities is None else [positions, np.asarray(self.velocities)]
        if times.ndim != 1 or not len(times) or any(array.shape != (len(times), joints) for array in arrays):
            raise UserError(f"trajectory has the wrong shape: give times (P,) and positions and velocities (P, {joints}), P at least 1")
        if not all(np.isfinite(array).all() for array in (times, *arrays)):
            raise UserError("trajectory holds numbers that are not finite: send finite times, positions and velocities")
        if times[0] <= 0.0 or (times[1:] <= times[:-1]).any():
            raise UserError("trajectory times do not rise from above 0: give every point a later time_from_start")


class TrajectoryController:
    """Desired joint state over time."""

    def __init__(self, positions: ArrayLike) -> None:
        """Starts by holding ``positions`` (J,), rad."""
        self.hold(positions)

    def hold(self, positions: ArrayLike) -> None:
        """Drops any trajectory and holds ``positions`` (J,), rad, from now on."""
        point = np.array(positions, dtype=np.float64)
        self._start_ns = 0
        self._times = [0.0]
        self._positions = point[None]
        self._cubics: NDArray[np.float64] | None = None

    def set_trajectory(self, trajectory: Trajectory, now_ns: int) -> None:
        """Follows ``trajectory`` from the desired state at ``now_ns`` on.

        Raises:
            UserError: The trajectory is malformed; the old one goes on.
        """
        trajectory.check(self._positions.shape[1])
        position, velocity = self.sample(now_ns)
        self.go_on(trajectory, position, velocity, now_ns)

    def go_on(self, trajectory: Trajectory, position: NDArray[np.float64], velocity: NDArray[np.float64], now_ns: int) -> None:
        """As ``set_trajectory`` for who knows the desired state at ``now_ns``, and that the trajectory is well-formed."""
        self._times = [0.0, *np.asarray(trajectory.times_s, dtype=np.float64).tolist()]
        self._positions = np.concatenate([position[None], trajectory.positions])
        self._cubics = None if trajectory.velocities is None else _cubics(self._positions, velocity, trajectory.velocities)
        self._start_ns = now_ns

    @property
    def final(self) -> NDArray[np.float64]:
        """Positions (J,), rad, that are held in the end."""
        return self._positions[-1].copy()

    @property
    def end_ns(self) -> int:
        """When the last point is reached."""
        return self._start_ns + round(self._times[-1] * 1e9)

    def sample(self, now_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Desired positions (J,), rad, and velocities (J,), rad/s, at ``now_ns``."""
        return self.state(now_ns)[:2]

    def state(self, now_ns: int) -> State:
        """Desired positions (J,), rad, velocities (J,), rad/s, and accelerations (J,), rad/s^2, at ``now_ns``; at a point, those of the piece before it."""
        elapsed = (now_ns - self._start_ns) * 1e-9
        if len(self._times) == 1 or elapsed >= self._times[-1]:
            return self._positions[-1].copy(), np.zeros(self._positions.shape[1]), np.zeros(self._positions.shape[1])
        segment = max(bisect_left(self._times, elapsed - ROUNDING_S) - 1, 0)
        length = self._times[segment + 1] - self._times[segment]
        share = min(max((elapsed - self._times[segment]) / length, 0.0), 1.0)
        start = self._positions[segment]
        if self._cubics is not None:
            return _along(self._cubics[segment], share, length, start)
        way = self._positions[segment + 1] - start
        return start + share * way, way / length, np.zeros(len(start))


def _cubics(positions: NDArray[np.float64], velocity: NDArray[np.float64], velocities: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 3, J): way, velocity at the start and velocity at the end of each piece between ``positions`` (P + 1, J)."""
    cubics = np.empty((len(velocities), 3, positions.shape[1]))
    np.subtract(positions[1:], positions[:-1], out=cubics[:, 0])
    cubics[0, 1], cubics[1:, 1], cubics[:, 2] = velocity, velocities[:-1], velocities
    return cubics


def _along(cubic: NDArray[np.float64], s: float, length: float, start: NDArray[np.float64]) -> State:
    """Position, velocity and acceleration at share ``s`` of a piece that lasts ``length`` seconds: its Hermite polynomial and its derivatives.

    One small product of matrices: this is computed hundreds of times in every second of simulation.
    """
    r = 1.0 - s
    weights = (
        (s * s * (3.0 - 2.0 * s), length * s * r * r, -length * s * s * r),
        (6.0 * s * r / length, r * (r - 2.0 * s), s * (s - 2.0 * r)),
        (6.0 * (r - s) / length**2, (6.0 * s - 4.0) / length, (6.0 * s - 2.0) / length),
    )
    position, velocity, acceleration = np.array(weights) @ cubic
    return start + position, velocity, acceleration
