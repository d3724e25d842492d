"""Lift: grasp a cube that lies somewhere on the table and raise it."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.reward.success import LIFT_HEIGHT, lifted
from mechanic_rl_ros.sim.tasks.task import Task, TaskReading, span, towards

X_RANGE = (0.40, 0.60)  # m
Y_RANGE = (-0.20, 0.20)  # m
NARROW_Y_RANGE = (0.0, 0.20)  # m, the left half
YAW_RANGE = 0.2  # rad; small, because the hand keeps its yaw


class Lift(Task):
    """A cube of 4 cm has to be raised by 6 cm and be between the fingers."""

    name = "lift"

    def __init__(self, model: mujoco.MjModel) -> None:
        """Finds the cube."""
        super().__init__(model)
        self._address = int(model.joint("cube").qposadr[0])
        self._body = int(model.body("cube").id)
        self._rest = float(model.geom("cube").size[2])

    def place(self, data: mujoco.MjData, rng: np.random.Generator, region: str) -> None:
        """See ``Task.place``: position uniform in the region, yaw uniform within 0.2 rad."""
        x, y = rng.uniform(*X_RANGE), rng.uniform(*span(region, *Y_RANGE, *NARROW_Y_RANGE))
        yaw = rng.uniform(-YAW_RANGE, YAW_RANGE)
        data.qpos[self._address : self._address + 7] = [x, y, self._rest, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]

    def reading(self, data: mujoco.MjData, tcp: NDArray[np.float64]) -> TaskReading:
        """See ``Task.reading``; the goal is the point 6 cm above the cube's rest."""
        cube = data.xpos[self._body].copy()
        judgement = lifted(cube, self._rest, tcp)
        return TaskReading(
            success=judgement.success,
            progress=judgement.progress,
            object_position=cube,
            object_quaternion=data.xquat[self._body].copy(),
            goal=np.array([cube[0], cube[1], self._rest + LIFT_HEIGHT]),
        )

    def expert(self, reading: TaskReading, tcp: NDArray[np.float64], finger: float) -> NDArray[np.float64]:
        """See ``Task.expert``: over the cube, down, close, up; decided anew from every state, so that it recovers from noise."""
        cube = reading.object_position
        beside = float(np.hypot(*(cube - tcp)[:2]))
        above = float(tcp[2] - cube[2])
        if beside < 0.02 and above < 0.02 and finger < 0.03:
            return towards(np.array([tcp[0], tcp[1], tcp[2] + 0.1]), tcp, 1.0)
        if beside < 0.012 and above < 0.01:
            return towards(tcp, tcp, 1.0)
        if beside < 0.012 or (beside < 0.02 and above < 0.05):
            return towards(cube + np.array([0.0, 0.0, 0.003]), tcp, -1.0)
        clearance = 0.07 if beside < 0.06 else 0.10
        return towards(np.array([cube[0], cube[1], self._rest + clearance]), tcp, -1.0)
