"""The next piece of the arm's way, its way to rest and their judgement, as in ``motion.py``, ``limiter.py`` and ``clearance.py``, compiled."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety import limiter, limits, motion
from mechanic_rl_ros.safety.clearance import SPHERES
from mechanic_rl_ros.safety.compiled import Chain, Corner, Joints, chain_of, corner, joints, library, require_layout
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.safety.motion import Motion
from mechanic_rl_ros.sim.trajectory import State, Trajectory

# In the order in which the limiter and the judgement of ``motion.py`` name them: bits of what src/way.cpp returns.
_HELD_BACK = ((1, "joint_position"), (2, "joint_velocity"), (4, "acceleration"), (8, "jerk"))
_BROKEN = ((16, "workspace"), (32, "table"), (64, "keep_out"), (1, "joint_position"), (2, "joint_velocity"), (128, "tcp_speed"))
_POINTS = 4  # of a trajectory at most


class _Numbers(ctypes.Structure):
    """``Cell`` of src/way.cpp."""

    _fields_ = (
        ("chain", Chain),
        *((name, Joints) for name in ("lower", "upper", "fastest", "offset", "deceleration", "approach", "speed")),
        *((name, Corner) for name in ("workspace_low", "workspace_high")),
        *((name, ctypes.c_double) for name in ("margin", "acceleration", "tool_speed", "clearance", "table", "period")),
        *((name, ctypes.c_double) for name in ("piece_periods", "follow_periods", "stop_deceleration", "ramp", "shortest", "approach_s", "step", "tolerance")),
        *((name, ctypes.c_void_p) for name in ("spheres", "sphere_frames", "boxes")),
        *((name, ctypes.c_int) for name in ("sphere_count", "box_count", "has_table")),
    )


class CompiledMotion(Motion):
    """As ``Motion``. For one thread."""

    def __init__(self, embodiment: Embodiment, bounds: SafetyLimits, period_s: float) -> None:
        """As of ``Motion``.

        Raises:
            RuntimeError: The library is not built, or from another version.
        """
        super().__init__(embodiment, bounds, period_s)
        self._library = library()
        require_layout(self._library, "way", _Numbers)
        self._spheres = np.array([(*centre, radius) for _, centre, radius in SPHERES])
        self._sphere_frames = np.array([frame for frame, _, _ in SPHERES], dtype=np.intc)
        self._boxes = np.array([(box.low, box.high) for box in bounds.keep_out], dtype=np.float64)
        self._numbers = _Numbers(
            chain_of(self._kinematics),
            *map(joints, (limits.POSITION_LOWER, limits.POSITION_UPPER, limits.VELOCITY, limits.VELOCITY_OFFSET, limits.DECELERATION)),
            *map(joints, (limiter.APPROACH_DECELERATION, bounds.joint_speed)),
            corner(embodiment.workspace.low),
            corner(embodiment.workspace.high),
            *(bounds.position_margin, bounds.joint_acceleration, bounds.tcp_speed, bounds.clearance, bounds.table_height or 0.0, period_s),
            *(limiter.PIECE_PERIODS, limiter.FOLLOW_PERIODS, limiter.STOP_DECELERATION, limiter.RAMP_S, limiter.SHORTEST_S),
            *(limiter.APPROACH_S, limiter.STEP, motion.TOLERANCE),
            *(self._spheres.ctypes.data, self._sphere_frames.ctypes.data, self._boxes.ctypes.data),
            *(len(self._spheres), len(self._boxes), bounds.table_height is not None),
        )
        self._input = np.empty((4, 7))  # positions, velocities, accelerations, wished velocities
        self._output = np.empty(_POINTS * 15)  # times, positions, velocities
        self._found = np.empty(2, dtype=np.intc)
        self._cell, self._input_place, self._output_place = ctypes.addressof(self._numbers), self._input.ctypes.data, self._output.ctypes.data
        self._found_place = self._found.ctypes.data

    def _next(self, state: State, wish: NDArray[np.float64], share: float) -> tuple[Trajectory, list[str], list[str]]:
        self._input[0], self._input[1], self._input[2] = state
        self._input[3] = wish
        self._library.way_next(self._cell, self._input_place, share, self._output_place, self._found_place)
        held_back, broken = self._found.tolist()
        return self._trajectory(4), _names(_HELD_BACK, held_back), _names(_BROKEN, broken)

    def _rest(self, state: State) -> tuple[Trajectory, list[str]]:
        self._input[0], self._input[1], self._input[2] = state
        broken = self._library.way_stop(self._cell, self._input_place, self._output_place)
        return self._trajectory(3), _names(_BROKEN, broken)

    def _trajectory(self, points: int) -> Trajectory:
        numbers = self._output[: 15 * points].copy()
        return Trajectory(numbers[:points], numbers[points : 8 * points].reshape(points, 7), numbers[8 * points :].reshape(points, 7))


def _names(order: tuple[tuple[int, str], ...], found: int) -> list[str]:
    return [name for bit, name in order if found & bit] if found else []


def make_motion(embodiment: Embodiment, bounds: SafetyLimits, period_s: float) -> Motion:
    """The compiled motion where it is built."""
    return Motion(embodiment, bounds, period_s) if library() is None else CompiledMotion(embodiment, bounds, period_s)
