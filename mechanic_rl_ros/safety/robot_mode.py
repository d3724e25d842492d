"""What a Franka says of itself, judged: mode, age, and whether its own clock runs. No message, no answer: the arm is held."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

RESTING = 0.01  # rad/s of the fastest joint, below which the arm counts as at rest


class RobotMode(IntEnum):
    """``robot_mode`` of ``franka_msgs/FrankaRobotState``."""

    OTHER = 0
    IDLE = 1
    MOVE = 2
    GUIDING = 3
    REFLEX = 4
    USER_STOPPED = 5
    AUTOMATIC_ERROR_RECOVERY = 6


ADVICE = {
    RobotMode.OTHER: "open the robot's Desk and see what it wants",
    RobotMode.IDLE: "no controller moves it: activate the arm controller",
    RobotMode.GUIDING: "somebody guides it by hand: let go of the guiding button",
    RobotMode.REFLEX: "it has touched something or broken a limit",
    RobotMode.USER_STOPPED: "release the stop button, then the service recover brings it back",
    RobotMode.AUTOMATIC_ERROR_RECOVERY: "it is recovering",
}


@dataclass(frozen=True)
class RobotState:
    """One robot state.

    Attributes:
        mode: What it does; None where the number is unknown.
        speed: Of the fastest joint, rad/s; infinite where it is not known.
        clock: The robot's own clock, s.
    """

    mode: RobotMode | None
    speed: float
    clock: float


class RobotWatch:
    """Remembers the last robot state. Times are seconds of a monotonic clock."""

    def __init__(self, topic: str, max_age_s: float) -> None:
        """``topic`` is told to people; a state older than ``max_age_s`` says nothing about now."""
        self._topic, self._max_age_s = topic, max_age_s
        self._state: RobotState | None = None
        self._fresh_at = 0.0

    def see(self, state: RobotState, at: float) -> None:
        """Takes a state over. One whose own clock stands still is an echo: its hardware has been shut down."""
        if self._state is None or state.clock != self._state.clock:
            self._fresh_at = at
        self._state = state

    def silent(self, at: float) -> bool:
        """Whether nothing is known of now."""
        return self._state is None or at - self._fresh_at > self._max_age_s

    def mode(self, at: float) -> RobotMode | None:
        """The mode, as far as it is known now."""
        return None if self._state is None or self.silent(at) else self._state.mode

    def resting(self, at: float) -> bool:
        """Whether the arm is known to be at rest."""
        return self._state is not None and not self.silent(at) and self._state.speed < RESTING

    def obstacle(self, at: float) -> str:
        """Why the robot cannot be moved now, or ""."""
        if self._state is None:
            return f"no robot state on {self._topic}: start franka_bringup with franka_robot_state_broadcaster"
        if self.silent(at):
            return f"robot state on {self._topic} has stopped: after an error its hardware shuts down; look at the arm, then call the service recover"
        if self._state.mode is RobotMode.MOVE:
            return ""
        if self._state.mode is None:
            return "the robot is in a mode that is not known: see its Desk"
        return f"the robot is in mode {self._state.mode.name}: {ADVICE[self._state.mode]}"
