"""Push: push a puck over the table until it lies on a disc."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.reward.success import pushed
from mechanic_rl_ros.sim.tasks.task import Task, TaskReading, span, towards

PUCK_X_RANGE = (0.43, 0.49)  # m
GOAL_X_RANGE = (0.57, 0.62)  # m, beyond the puck: it is pushed away from the base
Y_RANGE = (-0.12, 0.12)  # m, of the puck
NARROW_Y_RANGE = (0.0, 0.12)  # m, the left half
SIDEWAYS = 0.06  # m between puck and goal along y, at most

HOVER = 0.09  # m, expert: height of the tool centre point on its way to the puck
LOW = 0.022  # m, expert: height while pushing
BEHIND = 0.065  # m, expert: where to come down behind the puck's centre
OFF_LINE = 0.03  # m, expert: distance to the line from puck to goal that it still pushes at
AHEAD = 0.03  # m, expert: how far ahead of the tool its target lies while it pushes
STEER = 1.5  # expert: distances to the line beyond which its target lies; 1 loses the puck three times as often where its actions are noisy


class Push(Task):
    """A puck of 7 cm across has to lie within 3 cm of the middle of a disc, standing upright."""

    name = "push"

    def __init__(self, model: mujoco.MjModel) -> None:
        """Finds puck and disc."""
        super().__init__(model)
        self._address = int(model.joint("puck").qposadr[0])
        self._puck = int(model.body("puck").id)
        self._goal = int(model.body("goal").id)
        self._marker = int(model.body("goal").mocapid[0])
        self._rest = float(model.geom("puck").size[1])

    def place(self, data: mujoco.MjData, rng: np.random.Generator, region: str) -> None:
        """See ``Task.place``: puck and disc uniform in their parts of the region."""
        x, y = rng.uniform(*PUCK_X_RANGE), rng.uniform(*span(region, *Y_RANGE, *NARROW_Y_RANGE))
        data.qpos[self._address : self._address + 7] = [x, y, self._rest, 1.0, 0.0, 0.0, 0.0]
        data.mocap_pos[self._marker, :2] = [rng.uniform(*GOAL_X_RANGE), y + rng.uniform(-SIDEWAYS, SIDEWAYS)]

    def reading(self, data: mujoco.MjData, tcp: NDArray[np.float64]) -> TaskReading:
        """See ``Task.reading``; the goal is the middle of the disc."""
        puck, goal = data.xpos[self._puck].copy(), data.xpos[self._goal].copy()
        judgement = pushed(puck, float(data.xmat[self._puck, 8]), goal)
        return TaskReading(
            success=judgement.success,
            progress=judgement.progress,
            object_position=puck,
            object_quaternion=data.xquat[self._puck].copy(),
            goal=goal,
        )

    def expert(self, reading: TaskReading, tcp: NDArray[np.float64], finger: float) -> NDArray[np.float64]:
        """See ``Task.expert``: with a closed hand behind the puck, down, then along the line to the goal."""
        puck, way = reading.object_position[:2], (reading.goal - reading.object_position)[:2]
        along = way / max(float(np.linalg.norm(way)), 1e-9)
        offset = puck - tcp[:2]
        ahead = float(offset @ along)
        aside = offset - ahead * along
        start = puck - BEHIND * along
        if ahead > 0.03 and float(np.linalg.norm(aside)) < OFF_LINE and tcp[2] < LOW + 0.02:
            push = tcp[:2] + AHEAD * along + STEER * aside  # steers back to the line while it pushes
            return towards(np.append(push, LOW), tcp, 1.0)
        if float(np.linalg.norm(start - tcp[:2])) < 0.02:
            return towards(np.append(start, LOW), tcp, 1.0)
        if tcp[2] < HOVER - 0.03:
            return towards(np.append(tcp[:2], HOVER), tcp, 1.0)
        return towards(np.append(start, HOVER), tcp, 1.0)
