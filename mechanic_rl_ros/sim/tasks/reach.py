"""Reach: move the tool centre point to a marker in the air."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.reward.success import reached
from mechanic_rl_ros.sim.tasks.task import Task, TaskReading, span, towards

X_RANGE = (0.40, 0.60)  # m
Y_RANGE = (-0.20, 0.20)  # m
NARROW_Y_RANGE = (0.0, 0.20)  # m, the left half
Z_RANGE = (0.06, 0.20)  # m


class Reach(Task):
    """The tool centre point has to come within 1.5 cm of the marker's centre."""

    name = "reach"

    def __init__(self, model: mujoco.MjModel) -> None:
        """Finds the marker."""
        super().__init__(model)
        self._body = int(model.body("target").id)
        self._marker = int(model.body("target").mocapid[0])

    def place(self, data: mujoco.MjData, rng: np.random.Generator, region: str) -> None:
        """See ``Task.place``: position uniform in the region."""
        target = [rng.uniform(*X_RANGE), rng.uniform(*span(region, *Y_RANGE, *NARROW_Y_RANGE)), rng.uniform(*Z_RANGE)]
        data.mocap_pos[self._marker] = target

    def reading(self, data: mujoco.MjData, tcp: NDArray[np.float64]) -> TaskReading:
        """See ``Task.reading``; object and goal are both the marker."""
        target = data.xpos[self._body].copy()
        judgement = reached(tcp, target)
        return TaskReading(
            success=judgement.success,
            progress=judgement.progress,
            object_position=target,
            object_quaternion=data.xquat[self._body].copy(),
            goal=target.copy(),
        )

    def expert(self, reading: TaskReading, tcp: NDArray[np.float64], finger: float) -> NDArray[np.float64]:
        """See ``Task.expert``: straight to the marker with an open hand."""
        return towards(reading.goal, tcp, -1.0)
