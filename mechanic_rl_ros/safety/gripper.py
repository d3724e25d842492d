"""Which goal a gripper that takes one goal at a time gets next: never more than one in flight, and the newest wish wins."""

from __future__ import annotations

import math
from dataclasses import dataclass

STROKE = 0.04  # m per finger, franka_description 1.0.1, end_effectors/franka_hand
CLOSED = 0.005  # m per finger, below which a hand of unknown width is meant to grasp
SAME = 0.0005  # m per finger: a smaller change of the wish is none
RETRY_S = 1.0  # until a goal that failed is sent again
WORST = 3  # failures in a row after which the gripper counts as broken


@dataclass(frozen=True)
class GripperGoal:
    """What the gripper shall do.

    Attributes:
        width: Between the fingers, m.
        grasp: Whether to close and keep squeezing; otherwise the fingers only move.
    """

    width: float
    grasp: bool


class GripperGoals:
    """Coalesces wishes into goals. Times are seconds of a monotonic clock."""

    def __init__(self, name: str, patience_s: float) -> None:
        """``name`` is told to people; a goal that is not over after ``patience_s`` is an obstacle."""
        self._name, self._patience_s = name, patience_s
        self._wish: float | None = None
        self._sent: float | None = None  # per-finger position of the last goal that did not fail
        self._in_flight: tuple[float, float] | None = None  # per-finger position, since when
        self._not_before = 0.0
        self._failures, self._why = 0, ""

    def wish(self, finger: float) -> None:
        """Takes a per-finger position, m, over; what cannot be reached is clipped to what can, and what is no number is ignored."""
        if not math.isnan(finger):
            self._wish = min(max(finger, 0.0), STROKE)

    def next(self, at: float) -> GripperGoal | None:
        """The goal to send now, which is in flight from then on; None: send nothing."""
        if self._wish is None or self._in_flight is not None or at < self._not_before:
            return None
        if self._sent is not None and abs(self._wish - self._sent) < SAME:
            return None
        closing = self._wish < (CLOSED if self._sent is None else self._sent)  # a hand of which nothing is known opens without force unless it shall close
        self._in_flight = self._wish, at
        return GripperGoal(2.0 * self._wish, closing)

    def succeeded(self) -> None:
        """The goal in flight is reached."""
        if self._in_flight is not None:
            self._sent, self._in_flight = self._in_flight[0], None
        self._failures, self._why = 0, ""

    def failed(self, why: str, at: float) -> None:
        """The goal in flight was refused or aborted; the wish is sent again after a pause."""
        self._in_flight, self._sent = None, None
        self._not_before = at + RETRY_S
        self._failures, self._why = self._failures + 1, why

    def hold(self) -> None:
        """Drops the wish, and with it the failures on its account. A goal in flight ends by itself: to break a grasp off would drop the object."""
        self._wish = None
        self._failures, self._why = 0, ""

    def forget(self) -> None:
        """The gripper's driver went away: nobody will answer, and what it did last is unknown. The new one waits for a new wish."""
        self.hold()
        self._in_flight, self._sent = None, None

    def obstacle(self, at: float) -> str:
        """Why the gripper cannot be relied on, or ""."""
        if self._in_flight is not None and at - self._in_flight[1] > self._patience_s:
            return f"gripper {self._name} has not answered for {self._patience_s:g} s: look at the hand and restart its driver"
        if self._failures >= WORST:
            return f"gripper {self._name} has failed {self._failures} times ({self._why}): look at the hand and restart its driver"
        return ""
