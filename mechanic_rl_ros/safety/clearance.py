"""How far arm, hand and tool are from what they must not touch: the walls of the workspace, the table, keep-out boxes.

Arm and hand are covered with spheres on the axes of the collision capsules of ``franka_description`` 1.0.1
(``robots/fr3``, see description/fr3.xml). The links below the elbow stand on the table and reach nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety.kinematics import HAND_TCP, Kinematics
from mechanic_rl_ros.safety.limits import SafetyLimits

# Index of the joint frame (7: the tool centre point), centre in that frame (m), radius (m).
SPHERES = (
    *((3, (0.0, 0.0, z), 0.06) for z in (-0.06, 0.0, 0.06)),
    *((4, (0.0, 0.0, z), 0.06) for z in (-0.31, -0.26, -0.21)),
    *((4, (0.0, 0.08, z), 0.025) for z in (-0.20, -0.165, -0.13, -0.095, -0.06)),
    *((5, (0.0, 0.0, z), 0.05) for z in (-0.07, -0.03, 0.01)),
    *((6, (0.0, 0.0, z), 0.04) for z in (-0.06, 0.01, 0.08)),
    (6, (0.06, 0.0, 0.082), 0.035),
    *((7, (0.0, y, 0.04 - HAND_TCP), 0.04) for y in (-0.05, 0.0, 0.05)),
    *((7, (0.0, y, z), 0.0105) for y in (-0.045, -0.0225, 0.0, 0.0225, 0.045) for z in (-0.02, -0.001)),  # fingers, open as wide as they go
)


class Clearance:
    """Distances for many configurations at once."""

    def __init__(self, embodiment: Embodiment, bounds: SafetyLimits) -> None:
        """Takes kinematics and workspace of ``embodiment``, table and keep-out boxes of ``bounds``."""
        self._kinematics = Kinematics(embodiment)
        self._low, self._high = np.array(embodiment.workspace.low), np.array(embodiment.workspace.high)
        self._table, self._clearance = bounds.table_height, bounds.clearance
        self._boxes_low = np.array([box.low for box in bounds.keep_out]).reshape(-1, 3)
        self._boxes_high = np.array([box.high for box in bounds.keep_out]).reshape(-1, 3)
        self._frames = np.array([frame for frame, _, _ in SPHERES])
        self._centres = np.array([(*centre, 1.0) for _, centre, _ in SPHERES])
        self._radii = np.array([radius for _, _, radius in SPHERES])

    def margins(self, q: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Distances left at joint positions ``q`` (N, 7), rad: name -> (N,), m; negative where something is too close or beyond."""
        frames = self._kinematics.frames(q)
        tcp = frames[:, 7, :3, 3]
        found = {"workspace": np.minimum(tcp - self._low, self._high - tcp).min(axis=1)}
        centres = np.einsum("nsij,sj->nsi", frames[:, self._frames, :3], self._centres)
        if self._table is not None:
            found["table"] = (centres[..., 2] - self._radii).min(axis=1) - self._table - self._clearance
        if len(self._boxes_low):
            found["keep_out"] = (_outside(centres, self._boxes_low, self._boxes_high) - self._radii[:, None]).min(axis=(1, 2)) - self._clearance
        return found


def _outside(points: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed distance (N, S, B) of points (N, S, 3) from boxes (B, 3); negative inside."""
    beyond = np.maximum(low - points[:, :, None], points[:, :, None] - high)
    return np.linalg.norm(np.maximum(beyond, 0.0), axis=-1) + np.minimum(beyond.max(axis=-1), 0.0)
