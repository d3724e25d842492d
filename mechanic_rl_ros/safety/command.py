"""What the commander says to do now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import Source
from mechanic_rl_ros.sim.trajectory import Trajectory


@dataclass(frozen=True)
class Command:
    """What to send now.

    Attributes:
        trajectory: For the trajectory controller, times from now on; None: send nothing, what was sent before ends at rest.
        finger: Per-finger position, m; None: leave the hand alone.
        action: float32 (A,), the action of this interval clipped to [-1, 1]; zeros while holding.
        source: Who chose it; ``Source.HOLD`` while holding.
        policy_version: Of the chunk that is played.
        best_of_n: Of the chunk that is played.
        chunk_stamp_ns: Of the chunk that is played, or of the operator's command.
        holding: Why the arm holds or stops, "" while it follows an action.
        late_actions: Actions dropped so far because their interval had passed.
        limited: Names of the limits that changed the command: workspace, table, keep_out, joint_position, joint_velocity, acceleration, jerk, tcp_speed,
            action (clipped to [-1, 1]), grip_width.
    """

    trajectory: Trajectory | None
    finger: float | None
    action: NDArray[np.float32]
    source: Source
    policy_version: int
    best_of_n: bool
    chunk_stamp_ns: int
    holding: str
    late_actions: int
    limited: tuple[str, ...]
