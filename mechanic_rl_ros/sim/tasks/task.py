"""What a task is: a scene that a seed arranges, a test of success, and a scripted expert."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.errors import UserError

REGIONS = ("all", "narrow")
EXPERT_GAIN = 4.0  # 1/s: velocity per distance to the next waypoint
EXPERT_SPEED = 0.3  # m/s: what a normalised 1 means in the expert's actions


@dataclass(frozen=True)
class TaskReading:
    """Privileged state of a task, which no policy sees.

    Attributes:
        success: Whether the task is solved now.
        progress: 0 at the start to 1 when solved, for people to look at.
        object_position: float64 (3,), m, in ``fr3_link0``.
        object_quaternion: float64 (4,), w x y z.
        goal: float64 (3,), m, in ``fr3_link0``.
    """

    success: bool
    progress: float
    object_position: NDArray[np.float64]
    object_quaternion: NDArray[np.float64]
    goal: NDArray[np.float64]


class Task(ABC):
    """One task. Its scene is ``description/<name>.xml``; one instance belongs to one model."""

    name: ClassVar[str]

    def __init__(self, model: mujoco.MjModel) -> None:
        """Binds the task to the model of its scene."""
        self._model = model

    @abstractmethod
    def place(self, data: mujoco.MjData, rng: np.random.Generator, region: str) -> None:
        """Arranges objects and goal; ``region`` is one of ``REGIONS``. The arm is at home already."""

    @abstractmethod
    def reading(self, data: mujoco.MjData, tcp: NDArray[np.float64]) -> TaskReading:
        """Privileged state; ``tcp`` (3,) is the tool centre point in ``fr3_link0``, m."""

    @abstractmethod
    def expert(self, reading: TaskReading, tcp: NDArray[np.float64], finger: float) -> NDArray[np.float64]:
        """Action (4,) of the scripted expert, normalised to [-1, 1]: velocity of the tool centre point, then the gripper."""


def span(region: str, low: float, high: float, narrow_low: float, narrow_high: float) -> tuple[float, float]:
    """Interval of one coordinate that belongs to ``region``.

    Raises:
        UserError: There is no such region.
    """
    if region not in REGIONS:
        raise UserError(f"unknown region {region!r}: use one of {', '.join(REGIONS)}")
    return (low, high) if region == "all" else (narrow_low, narrow_high)


def towards(target: NDArray[np.float64], tcp: NDArray[np.float64], gripper: float, gain: float = EXPERT_GAIN) -> NDArray[np.float64]:
    """Action (4,) that moves the tool centre point straight to ``target`` (3,), m, with the gripper at -1 (open) or 1 (closed)."""
    velocity = gain * (target - tcp) / EXPERT_SPEED
    velocity /= max(1.0, float(np.abs(velocity).max()))
    return np.append(velocity, gripper)
