"""Forward kinematics and Jacobian of the Franka Research 3 with hand.

Source: ``franka_description`` 1.0.1, ``robots/fr3/kinematics.yaml`` and ``end_effectors/common/franka_hand.xacro``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError

# Per joint: origin in the previous joint's frame (m) and roll about x (rad); every joint turns about its own z.
JOINT_ORIGINS = (
    ((0.0, 0.0, 0.333), 0.0),
    ((0.0, 0.0, 0.0), -np.pi / 2),
    ((0.0, -0.316, 0.0), np.pi / 2),
    ((0.0825, 0.0, 0.0), np.pi / 2),
    ((-0.0825, 0.384, 0.0), -np.pi / 2),
    ((0.0, 0.0, 0.0), np.pi / 2),
    ((0.088, 0.0, 0.0), np.pi / 2),
)
FLANGE = 0.107  # m, fr3_link7 to fr3_link8 along z
HAND_YAW = -np.pi / 4  # rad, fr3_link8 to fr3_hand
HAND_TCP = 0.1034  # m, fr3_hand to fr3_hand_tcp along z
DOWNWARD = np.diag([1.0, -1.0, -1.0])  # hand pointing straight down, fingers closing along the base's y


class Kinematics:
    """Pose and Jacobian of ``fr3_hand_tcp`` in ``fr3_link0``.

    Attributes:
        origins: Pose (7, 4, 4) of every joint in the frame of the one before it, where it has not turned.
        tool: Pose (4, 4) of the tool centre point in the frame of the last joint.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        """Takes the embodiment whose joints these are.

        Raises:
            UserError: It does not describe an FR3 with seven joints.
        """
        if len(embodiment.joints.names) != 7 or embodiment.tcp_frame != "fr3_hand_tcp":
            raise UserError(f"embodiment {embodiment.name} is not an FR3 with seven joints and fr3_hand_tcp: use config/embodiment/fr3.yaml as a pattern")
        self.origins = np.stack([_origin(xyz, roll) for xyz, roll in JOINT_ORIGINS])
        self.tool = _yaw(HAND_YAW) @ _origin((0.0, 0.0, FLANGE + HAND_TCP), 0.0)
        self._turns = np.tile(np.eye(4), (7, 1, 1))

    def tcp(self, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pose of the tool centre point.

        Args:
            q: Joint positions (7,), rad.

        Returns:
            Position (3,) in metres and rotation matrix (3, 3), both in ``fr3_link0``.
        """
        pose = self._chain(q)[-1]
        return pose[:3, 3].copy(), pose[:3, :3].copy()

    def jacobian(self, q: ArrayLike) -> NDArray[np.float64]:
        """Geometric Jacobian (6, 7): linear velocity (m/s) over angular velocity (rad/s) of the tool centre point, in ``fr3_link0``."""
        return self.pose_and_jacobian(q)[2]

    def pose_and_jacobian(self, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,), rotation (3, 3) and Jacobian (6, 7) from one pass along the chain."""
        frames = self._chain(q)
        position, rotation = frames[-1, :3, 3], frames[-1, :3, :3]
        axes = frames[:7, :3, 2]
        arms = position - frames[:7, :3, 3]
        jacobian = np.empty((6, 7))
        jacobian[0] = axes[:, 1] * arms[:, 2] - axes[:, 2] * arms[:, 1]
        jacobian[1] = axes[:, 2] * arms[:, 0] - axes[:, 0] * arms[:, 2]
        jacobian[2] = axes[:, 0] * arms[:, 1] - axes[:, 1] * arms[:, 0]
        jacobian[3:] = axes.T
        return position, rotation, jacobian

    def frames(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Poses (N, 8, 4, 4) in ``fr3_link0`` at joint positions ``q`` (N, 7): the seven joint frames, then the tool centre point."""
        cosine, sine = np.cos(q), np.sin(q)
        turns = np.zeros((*q.shape, 4, 4))
        turns[..., 2, 2] = turns[..., 3, 3] = 1.0
        turns[..., 0, 0], turns[..., 1, 1], turns[..., 1, 0], turns[..., 0, 1] = cosine, cosine, sine, -sine
        steps = self.origins @ turns
        frames = np.empty((len(q), 8, 4, 4))
        frames[:, 0] = steps[:, 0]
        for joint in range(1, 7):
            np.matmul(frames[:, joint - 1], steps[:, joint], out=frames[:, joint])
        np.matmul(frames[:, 6], self.tool, out=frames[:, 7])
        return frames

    def _chain(self, q: ArrayLike) -> NDArray[np.float64]:
        """Poses (8, 4, 4): the seven joint frames, then the tool centre point. The same as ``frames`` for one, at half of its cost."""
        angles = np.asarray(q, dtype=np.float64)
        cosine, sine = np.cos(angles), np.sin(angles)
        turns = self._turns
        turns[:, 0, 0], turns[:, 1, 1], turns[:, 1, 0], turns[:, 0, 1] = cosine, cosine, sine, -sine
        steps = self.origins @ turns
        frames = np.empty((8, 4, 4))
        frames[0] = steps[0]
        for joint in range(1, 7):
            np.dot(frames[joint - 1], steps[joint], out=frames[joint])
        np.dot(frames[6], self.tool, out=frames[7])
        return frames


def _origin(xyz: tuple[float, float, float], roll: float) -> NDArray[np.float64]:
    cosine, sine = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    pose[:3, 3] = xyz
    return pose


def _yaw(angle: float) -> NDArray[np.float64]:
    cosine, sine = np.cos(angle), np.sin(angle)
    pose = np.eye(4)
    pose[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return pose
