"""A task on a robot, judged by the pose of a tracked object and the rule that the simulation uses, too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.reward.success import LIFT_HEIGHT, Judgement, lifted, pushed, reached
from mechanic_rl_ros.safety.kinematics import Kinematics

GOALS = {"lift": [0.5, 0.0, 0.08], "push": [0.6, 0.0, 0.0], "reach": [0.5, 0.0, 0.15]}
"""Of every task that can be judged, where its goal is if nobody says otherwise, m: as in description/worlds/. That of lift follows the object."""

MAX_AGE_NS = 500_000_000  # an older pose of the object says nothing about now
UNKNOWN = Judgement(False, 0.0)


class TrackedTask:
    """Remembers where hand and object are.

    Attributes:
        place: Of the object, float64 (3,), m, in the base frame.
        turn: Of the object, float64 (4,), w x y z.
        goal: Where object (push) or hand (reach) shall be; in lift, 6 cm above the object's rest. float64 (3,), m, in the base frame.
    """

    def __init__(self, task: str, embodiment: Embodiment, goal: Sequence[float]) -> None:
        """Binds to a task.

        Raises:
            UserError: Nobody knows when this task is solved, or the goal is no point.
        """
        if task not in GOALS:
            raise UserError(f"task {task!r} cannot be judged by poses: use judge=label, or one of {', '.join(GOALS)}")
        self.goal = np.array(goal, dtype=np.float64)
        if self.goal.shape != (3,) or not np.isfinite(self.goal).all():
            raise UserError(f"goal {list(goal)} is no point: give x, y and z in m")
        self._task, self._kinematics = task, Kinematics(embodiment)
        self.place, self.turn = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
        self._seen_ns: int | None = None
        self._rest: float | None = None
        self._tcp: NDArray[np.float64] | None = None

    def start(self, now_ns: int) -> None:
        """A new scene, at rest: the object rests where it is, or where it is seen first from now on."""
        self._rest = None
        if self._seen(now_ns):
            self._settle()

    def joints(self, positions: ArrayLike) -> None:
        """Takes joint positions (7,), rad, over."""
        self._tcp = self._kinematics.tcp(positions)[0]

    def object(self, place: NDArray[np.float64], turn: NDArray[np.float64], stamp_ns: int) -> None:
        """Takes a pose of the object over; one that is not finite is ignored."""
        if not (np.isfinite(place).all() and np.isfinite(turn).all()):
            return
        self.place, self.turn, self._seen_ns = place, turn, stamp_ns
        if self._rest is None:
            self._settle()

    def judge(self, now_ns: int) -> Judgement:
        """How the task stands; what is not known is not solved."""
        if self._tcp is None:
            return UNKNOWN
        if self._task == "reach":
            return reached(self._tcp, self.goal)
        if self._rest is None or not self._seen(now_ns):
            return UNKNOWN
        if self._task == "lift":
            return lifted(self.place, self._rest, self._tcp)
        _, x, y, _ = self.turn
        return pushed(self.place, 1.0 - 2.0 * float(x * x + y * y), self.goal)

    def _seen(self, now_ns: int) -> bool:
        return self._seen_ns is not None and abs(now_ns - self._seen_ns) <= MAX_AGE_NS

    def _settle(self) -> None:
        self._rest = float(self.place[2])
        if self._task == "lift":
            self.goal = self.place + np.array([0.0, 0.0, LIFT_HEIGHT])
