"""What the arm was really told, interval by interval, for recording and learning."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import Source
from mechanic_rl_ros.safety.command import Command


@dataclass(frozen=True)
class Executed:
    """One interval of the policy's grid.

    Attributes:
        stamp_ns: Start of the interval.
        action: float32 (action_dim,): velocities as the mean over the interval, the gripper as the last value that was commanded.
        policy_version: Version that chose most of it.
        best_of_n: Whether the critics chose.
        source: Who acted longest.
    """

    stamp_ns: int
    action: NDArray[np.float32]
    policy_version: int
    best_of_n: bool
    source: Source


class ExecutedActions:
    """Averages commands over the intervals [start + k period, start + (k + 1) period)."""

    def __init__(self, action_dim: int, period_ns: int) -> None:
        self._dim, self._period_ns = action_dim, period_ns
        self._start_ns: int | None = None
        self._index = 0
        self._commands: list[Command] = []
        self._gripper = -1.0

    def start(self, start_ns: int) -> None:
        """Begins an episode whose grid starts at ``start_ns``."""
        self._start_ns, self._index, self._commands, self._gripper = start_ns, 0, [], -1.0

    def stop(self) -> None:
        """Ends the episode; the interval that is not over is dropped."""
        self._start_ns = None

    def add(self, now_ns: int, command: Command) -> list[Executed]:
        """Takes the command of ``now_ns``; the intervals that it closes. A gap in time gives intervals in which the arm held."""
        if self._start_ns is None or now_ns < self._start_ns:
            return []
        closed: list[Executed] = []
        index = (now_ns - self._start_ns) // self._period_ns
        while self._index < index and len(closed) < 64:
            closed.append(self._close())
        self._index = max(self._index, index)
        self._commands.append(command)
        return closed

    def _close(self) -> Executed:
        assert self._start_ns is not None
        commands, self._commands = self._commands, []
        stamp_ns = self._start_ns + self._index * self._period_ns
        self._index += 1
        acting = [command for command in commands if command.source != Source.HOLD]
        if acting:
            self._gripper = float(acting[-1].action[-1])
        action = np.zeros(self._dim, dtype=np.float32)
        if commands:
            action = np.mean([command.action for command in commands], axis=0).astype(np.float32)
        action[-1] = self._gripper
        source = Counter(command.source for command in commands).most_common(1)[0][0] if commands else Source.HOLD
        version = Counter(command.policy_version for command in acting).most_common(1)[0][0] if acting else 0
        return Executed(stamp_ns, action, version, any(command.best_of_n for command in acting), source)
