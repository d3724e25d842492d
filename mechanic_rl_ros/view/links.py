"""Frames of the arm's links, as robot_state_publisher would tell them.

Source: ``franka_description`` 1.0.1, ``robots/fr3/kinematics.yaml`` and ``end_effectors/common/franka_hand.xacro``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety.kinematics import FLANGE, HAND_TCP, HAND_YAW, JOINT_ORIGINS

FINGER_ORIGIN = 0.0584  # m, fr3_hand to the fingers along z


@dataclass(frozen=True)
class Link:
    """One frame: ``pose`` (4, 4) of ``child`` in ``parent``, m."""

    parent: str
    child: str
    pose: NDArray[np.float64]


def link_frames(embodiment: Embodiment, q: NDArray[np.float64], finger: float) -> list[Link]:
    """Every link of arm and hand, parents first.

    Args:
        embodiment: Names joints and base frame.
        q: Joint positions (7,), rad.
        finger: Per-finger position, m.
    """
    prefix = embodiment.base_frame.removesuffix("link0")
    links, parent = [], embodiment.base_frame
    for number, ((origin, roll), angle) in enumerate(zip(JOINT_ORIGINS, q, strict=True), start=1):
        links.append(Link(parent, f"{prefix}link{number}", _pose(origin, roll, angle)))
        parent = links[-1].child
    flange, hand = f"{prefix}link8", f"{prefix}hand"
    return [
        *links,
        Link(parent, flange, _pose((0.0, 0.0, FLANGE))),
        Link(flange, hand, _pose((0.0, 0.0, 0.0), yaw=HAND_YAW)),
        Link(hand, embodiment.tcp_frame, _pose((0.0, 0.0, HAND_TCP))),
        Link(hand, f"{prefix}leftfinger", _pose((0.0, finger, FINGER_ORIGIN))),
        Link(hand, f"{prefix}rightfinger", _pose((0.0, -finger, FINGER_ORIGIN), yaw=np.pi)),
    ]


def in_base(links: list[Link]) -> dict[str, NDArray[np.float64]]:
    """Poses (4, 4) of all frames in the base frame, by name, of links whose parents come first."""
    poses = {links[0].parent: np.eye(4)}
    for link in links:
        poses[link.child] = poses[link.parent] @ link.pose
    return poses


def quaternion(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit quaternion (4,), x y z w, of a rotation matrix (3, 3), by its largest component (Shepperd 1978)."""
    trace = np.trace(rotation)
    squares = np.array([*(1.0 + 2.0 * np.diag(rotation) - trace), 1.0 + trace])
    largest = int(np.argmax(squares))
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    result = np.append(skew, squares[3])
    if largest < 3:
        result[:3] = (rotation + rotation.T)[largest]
        result[largest] = squares[largest]
        result[3] = skew[largest]
    return result / np.linalg.norm(result)


def _pose(origin: tuple[float, float, float], roll: float = 0.0, yaw: float = 0.0) -> NDArray[np.float64]:
    cr, sr, cy, sy = np.cos(roll), np.sin(roll), np.cos(yaw), np.sin(yaw)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]]) @ np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    pose[:3, 3] = origin
    return pose
