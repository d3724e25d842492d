"""Where the tool is going: the path that the rest of an action chunk leads along, from where the arm is now."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import ActionChunk
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety.kinematics import Kinematics


class PlannedPath:
    """Integrates the actions of one embodiment. Joint limits, acceleration and the arm's delay are left out: it is what the policy means, not a forecast."""

    def __init__(self, embodiment: Embodiment) -> None:
        """Reads the action channels: velocities or displacements of the tool, or velocities or positions of the joints."""
        names = [channel.name for channel in embodiment.action]
        period = embodiment.period
        self._scales = np.array([channel.scale for channel in embodiment.action])
        self._kinematics = Kinematics(embodiment)
        self._home = np.array(embodiment.joints.home)
        self._low, self._high = np.array(embodiment.workspace.low), np.array(embodiment.workspace.high)
        # Displacement of one period for an action, by axis of the base frame, and by joint.
        self._tool = _matrix(
            names, {f"tcp_{kind}_{axis}": (row, size) for kind, size in (("velocity", period), ("delta", 1.0)) for row, axis in enumerate("xyz")}
        )
        self._turn = _matrix(names, {f"joint{row + 1}_velocity": (row, period) for row in range(7)})
        self._angles = _matrix(names, {f"joint{row + 1}_position": (row, 1.0) for row in range(7)})
        self._gripper = names.index("gripper") if "gripper" in names else None

    def __call__(self, chunk: ActionChunk, now_ns: int, q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The path from now on.

        Args:
            chunk: What is played.
            now_ns: Now. Actions of the past are left out; of the one that is due now, the rest of its period counts.
            q: Joint positions now (7,), rad.

        Returns:
            Points (N + 1, 3), m in the base frame, the first where the tool is, and whether the hand is to be closed at
            each (N + 1,). Nothing is left of a chunk that is over: (1, 3).
        """
        start, _ = self._kinematics.tcp(q)
        first = max(0, (now_ns - chunk.stamp_ns) // chunk.period_ns)
        actions = self._scales * chunk.actions[first:].astype(np.float64)
        if not len(actions) or not np.isfinite(actions).all():
            return start[None], np.zeros(1, bool)
        share = np.ones(len(actions))
        share[0] -= max(0, now_ns - chunk.stamp_ns - first * chunk.period_ns) / chunk.period_ns
        points = self._by_tool(start, actions, share) if self._tool.any() else self._by_joints(start, actions, share, q)
        closed = actions[:, self._gripper] > 0.0 if self._gripper is not None else np.zeros(len(actions), bool)
        return points, np.concatenate([closed[:1], closed])

    def _by_tool(self, start: NDArray[np.float64], actions: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
        points = [start]
        for step in share[:, None] * (actions @ self._tool[:3].T):
            here = points[-1]
            # As the servo does: no further towards a wall than to it, nor further out.
            points.append(np.clip(here + step, np.minimum(self._low, here), np.maximum(self._high, here)))
        return np.stack(points)

    def _by_joints(self, start: NDArray[np.float64], actions: NDArray[np.float64], share: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
        ways = self._home + actions @ self._angles.T if self._angles.any() else q + np.cumsum(share[:, None] * (actions @ self._turn.T), axis=0)
        return np.stack([start, *(self._kinematics.tcp(way)[0] for way in ways)])


def _matrix(names: list[str], entries: dict[str, tuple[int, float]]) -> NDArray[np.float64]:
    """(7, A): what the channel of each name adds to which row."""
    matrix = np.zeros((7, len(names)))
    for column, name in enumerate(names):
        if name in entries:
            row, size = entries[name]
            matrix[row, column] = size
    return matrix
