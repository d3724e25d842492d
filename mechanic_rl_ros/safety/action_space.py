"""What the numbers of an action mean to the arm: the embodiment's channels as a wished joint velocity and a finger position."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.safety.compiled_servo import make_servo

_TOOL = re.compile(r"tcp_(velocity|delta|spin|turn)_([xyz])")
_JOINT = re.compile(r"joint(\d)_(velocity|position)")


class ActionSpace:
    """Tool velocities (``tcp_velocity_x`` m/s, ``tcp_spin_x`` rad/s), tool displacements of one period (``tcp_delta_x`` m, ``tcp_turn_x`` rad) or joints.

    Joints are ``joint1_velocity`` (rad/s) or ``joint1_position`` (rad from home), all seven. Tool channels that are left out
    are zero; without any rotation the hand is kept pointing down. The last channel is ``gripper``: above 0 closes, below 0
    opens to its scale.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        """Reads the channels of ``embodiment``.

        Raises:
            UserError: A channel is unknown, or channels of the tool and of joints are mixed.
        """
        names = [channel.name for channel in embodiment.action]
        if names[-1] != "gripper":
            raise UserError(f"embodiment {embodiment.name}: the last action channel is {names[-1]!r}: it must be gripper")
        self._scales = np.array([channel.scale for channel in embodiment.action[:-1]])
        self._finger = embodiment.action[-1].scale
        self._period, self._home = embodiment.period, np.array(embodiment.joints.home)
        self._servo = make_servo(embodiment)
        self._tool = np.zeros((6, len(names) - 1))
        self._joints: str | None = None
        kinds = [self._read(index, name) for index, name in enumerate(names[:-1])]
        if None in kinds or len(set(kinds)) > 1 or (kinds[0] != "tool" and names[:-1] != [f"joint{n + 1}_{kinds[0]}" for n in range(7)]):
            raise UserError(
                f"embodiment {embodiment.name} has the action channels {', '.join(names[:-1])}: use tcp_velocity_x/y/z (and tcp_spin_x/y/z), "
                "tcp_delta_x/y/z (and tcp_turn_x/y/z), joint1_velocity ... joint7_velocity or joint1_position ... joint7_position"
            )
        self._joints = None if kinds[0] == "tool" else kinds[0]
        self._turns = bool(self._tool[3:].any())

    def _read(self, index: int, name: str) -> str | None:
        tool, joint = _TOOL.fullmatch(name), _JOINT.fullmatch(name)
        if tool is None:
            return joint[2] if joint else None
        row = "xyz".index(tool[2]) + 3 * (tool[1] in ("spin", "turn"))
        # A displacement is made evenly over its period.
        self._tool[row, index] = 1.0 / self._period if tool[1] in ("delta", "turn") else 1.0
        return "tool"

    def joint_velocity(self, q: NDArray[np.float64], action: NDArray[np.float32]) -> tuple[NDArray[np.float64], list[str]]:
        """Wished joint velocities (7,), rad/s, of a normalised ``action`` (A,) at joint positions ``q`` (7,), and names of limits in effect."""
        values = self._scales * action[:-1].astype(np.float64)
        if self._joints == "velocity":
            return values, []
        if self._joints == "position":
            return (self._home + values - q) / self._period, []
        twist = self._tool @ values
        return self._servo.joint_velocity(q, twist[:3], twist[3:] if self._turns else None)

    def finger(self, action: NDArray[np.float32]) -> float:
        """Per-finger position, m."""
        return 0.0 if action[-1] > 0.0 else float(self._finger)
