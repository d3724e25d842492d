"""The inverse kinematics of ``servo.py``, compiled."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety import servo
from mechanic_rl_ros.safety.compiled import Chain, Corner, Joints, chain_of, corner, joints, library, require_layout
from mechanic_rl_ros.safety.servo import Servo


class _Numbers(ctypes.Structure):
    """``Servo`` of src/servo.cpp."""

    _fields_ = (
        ("chain", Chain),
        ("low", Corner),
        ("high", Corner),
        ("home", Joints),
        *((name, ctypes.c_double) for name in ("wall_s", "damping", "singular", "posture_gain", "posture_speed", "upright_gain", "upright_speed")),
    )


class CompiledServo(Servo):
    """As ``Servo``. In a singularity, where more directions than one leave the tool where it is, all of them pull the arm home. For one thread."""

    def __init__(self, embodiment: Embodiment) -> None:
        """As of ``Servo``.

        Raises:
            RuntimeError: The library is not built, or from another version.
        """
        super().__init__(embodiment)
        self._library = library()
        require_layout(self._library, "servo", _Numbers)
        self._numbers = _Numbers(
            chain_of(self._kinematics),
            corner(self._low),
            corner(self._high),
            joints(self._home),
            servo.WALL_S,
            servo.DAMPING,
            servo.SINGULAR,
            servo.POSTURE_GAIN,
            servo.POSTURE_SPEED,
            servo.UPRIGHT_GAIN,
            servo.UPRIGHT_SPEED,
        )
        self._input, self._output = np.empty(13), np.empty(7)  # joint positions, velocity, spin; joint velocities
        start = self._input.ctypes.data
        self._places = (ctypes.addressof(self._numbers), start, start + 7 * 8)
        self._spin_place, self._output_place = start + 10 * 8, self._output.ctypes.data

    def joint_velocity(
        self, q: NDArray[np.float64], velocity: NDArray[np.float64], spin: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], list[str]]:
        """See ``Servo.joint_velocity``."""
        self._input[:7], self._input[7:10] = q, velocity
        if spin is not None:
            self._input[10:] = spin
        limited = self._library.servo_joint_velocity(*self._places, None if spin is None else self._spin_place, self._output_place)
        return self._output.copy(), ["workspace"] if limited else []


def make_servo(embodiment: Embodiment) -> Servo:
    """The compiled servo where it is built."""
    return Servo(embodiment) if library() is None else CompiledServo(embodiment)
