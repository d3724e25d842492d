"""When a task is solved, from where things are: the same rule for the simulation and for a robot with a tracked object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIFT_HEIGHT = 0.06  # m above rest
HELD_DISTANCE = 0.03  # m between object and tool centre point
ARRIVED = 0.03  # m between the middles of object and goal, on the table
FALLEN = 0.9  # cosine of the tilt beyond which the object has tipped over
REACHED = 0.015  # m between tool centre point and goal


@dataclass(frozen=True)
class Judgement:
    """Whether the task is solved now, and how far it is: 0 at the start to 1."""

    success: bool
    progress: float


def lifted(place: NDArray[np.float64], rest_height: float, tcp: NDArray[np.float64]) -> Judgement:
    """The object, at ``place`` (3,), m, is 6 cm above ``rest_height`` and between the fingers; ``tcp`` (3,), m."""
    height = float(place[2]) - rest_height
    held = float(np.linalg.norm(place - tcp)) < HELD_DISTANCE
    return Judgement(height >= LIFT_HEIGHT and held, float(np.clip(height / LIFT_HEIGHT, 0.0, 1.0)))


def pushed(place: NDArray[np.float64], upright: float, goal: NDArray[np.float64]) -> Judgement:
    """The object lies on the goal, both (3,), m, and stands; ``upright``: cosine of its tilt."""
    distance = float(np.hypot(*(goal - place)[:2]))
    return Judgement(bool(distance < ARRIVED and upright > FALLEN), float(np.clip(ARRIVED / max(distance, 1e-9), 0.0, 1.0)))


def reached(tcp: NDArray[np.float64], goal: NDArray[np.float64]) -> Judgement:
    """The tool centre point is at the goal, both (3,), m."""
    distance = float(np.linalg.norm(goal - tcp))
    return Judgement(distance < REACHED, float(np.clip(REACHED / max(distance, 1e-9), 0.0, 1.0)))
