"""Messages to the core's plain data and back. Everything received is checked here before it is used."""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import ActionChunk, Source
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes.base import nanoseconds, stamp
from mechanic_rl_ros.safety.chunk_player import LONGEST_CHUNK
from mechanic_rl_ros.safety.reading import JointReading
from mechanic_rl_ros.sim.trajectory import Trajectory
from mechanic_rl_ros.transfer import Chunk, Manifest


def trajectory_from_message(message: JointTrajectory, names: Sequence[str]) -> Trajectory:
    """Trajectory of the joints ``names``, whatever their order in the message.

    Raises:
        UserError: Joints are missing, or points have no positions or of the wrong number.
    """
    if sorted(message.joint_names) != sorted(names):
        raise UserError(f"it names joints {', '.join(message.joint_names) or '(none)'}: it must name {', '.join(names)}")
    order = [message.joint_names.index(name) for name in names]
    width = len(order)
    if not message.points or any(len(point.positions) != width or len(point.velocities) not in (0, width) for point in message.points):
        raise UserError(f"every point must have {width} positions, and {width} velocities or none")
    times = np.array([point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in message.points])
    positions = np.array([point.positions for point in message.points])[:, order]
    if any(len(point.velocities) == 0 for point in message.points):
        return Trajectory(times, positions, None)
    return Trajectory(times, positions, np.array([point.velocities for point in message.points])[:, order])


def trajectory_to_message(trajectory: Trajectory, names: Sequence[str]) -> JointTrajectory:
    """Message for a joint_trajectory_controller: header stamp 0 means from now on."""
    message = JointTrajectory(joint_names=list(names))
    speeds = np.zeros_like(trajectory.positions) if trajectory.velocities is None else trajectory.velocities
    for time_s, positions, velocities in zip(trajectory.times_s, trajectory.positions, speeds, strict=True):
        whole = int(time_s)
        duration = Duration(sec=whole, nanosec=round((time_s - whole) * 1e9))
        message.points.append(JointTrajectoryPoint(positions=positions.tolist(), velocities=velocities.tolist(), time_from_start=duration))
    return message


def reading_from_message(message: JointState, embodiment: Embodiment) -> JointReading:
    """Arm and finger out of a joint state, whatever else it holds and in which order.

    Raises:
        UserError: A joint of the embodiment is missing, its position is not finite, or the arrays do not match.
    """
    index = {name: position for position, name in enumerate(message.name)}
    wanted = (*embodiment.joints.names, embodiment.joints.finger)
    missing = [name for name in wanted if name not in index]
    if missing:
        raise UserError(f"joint state lacks {', '.join(missing)}: check that it comes from robot {embodiment.name}")
    count = len(message.name)
    if len(message.position) != count:
        raise UserError(f"joint state names {count} joints but has {len(message.position)} positions: mend its publisher")
    arm = [index[name] for name in embodiment.joints.names]
    finger = index[embodiment.joints.finger]

    def column(values: Any) -> NDArray[np.float64]:
        return np.array(values, dtype=np.float64) if len(values) == count else np.zeros(count)

    position, velocity, effort = np.array(message.position, dtype=np.float64), column(message.velocity), column(message.effort)
    unknown = [name for name in wanted if not np.isfinite(position[index[name]])]
    if unknown:
        raise UserError(f"joint state has no finite position of {', '.join(unknown)}: check the sensors of robot {embodiment.name}")
    return JointReading(nanoseconds(message.header.stamp), position[arm], velocity[arm], effort[arm], float(position[finger]), float(velocity[finger]))


def image_from_message(message: Image, height: int, width: int) -> NDArray[np.uint8]:
    """RGB image (height, width, 3) as ``camera_node`` publishes it.

    Raises:
        UserError: It is of another size or encoding.
    """
    if (message.height, message.width, message.encoding) != (height, width, "rgb8") or len(message.data) != height * width * 3:
        raise UserError(f"image is {message.height}x{message.width} {message.encoding}: expected {height}x{width} rgb8 from camera_node")
    return np.frombuffer(message.data, dtype=np.uint8).reshape(height, width, 3)


def image_to_message(image: NDArray[np.uint8], frame: str, stamp_message: Any) -> Image:
    """Message of an RGB image (height, width, 3)."""
    message = Image(height=image.shape[0], width=image.shape[1], encoding="rgb8", step=3 * image.shape[1])
    message.header.stamp = stamp_message
    message.header.frame_id = frame
    message.data = array.array("B", image.tobytes())  # anything but array.array is orders of magnitude slower
    return message


def chunk_from_message(message: msg.ActionChunk, embodiment: Embodiment) -> ActionChunk:
    """Action chunk of this embodiment.

    Raises:
        UserError: Shape or period do not fit.
    """
    horizon, width = int(message.horizon), int(message.action_dim)
    if width != len(embodiment.action) or not 1 <= horizon <= LONGEST_CHUNK or len(message.actions) != horizon * width:
        raise UserError(
            f"action chunk of {len(message.actions)} values claims {horizon} actions of {width}: embodiment {embodiment.name} has {len(embodiment.action)}"
        )
    period_ns = round(message.period * 1e9) if np.isfinite(message.period) else 0
    if period_ns != embodiment.period_ns:
        raise UserError(f"action chunk has a period of {message.period} s: embodiment {embodiment.name} has {embodiment.period} s")
    actions = np.array(message.actions, dtype=np.float32).reshape(horizon, width)
    return ActionChunk(nanoseconds(message.header.stamp), period_ns, actions, int(message.policy_version), message.best_of_n, message.episode_id, Source.POLICY)


def chunk_to_message(chunk: ActionChunk, frame: str, inference_s: float) -> msg.ActionChunk:
    """Message of an action chunk."""
    message = msg.ActionChunk(episode_id=chunk.episode_id, period=chunk.period_ns * 1e-9, horizon=len(chunk.actions), action_dim=chunk.actions.shape[1])
    message.header.stamp = stamp(chunk.stamp_ns)
    message.header.frame_id = frame
    message.actions = array.array("f", np.ascontiguousarray(chunk.actions, dtype=np.float32).tobytes())
    message.trace = array.array("f", np.ascontiguousarray(chunk.trace, dtype=np.float32).tobytes())
    message.policy_version, message.best_of_n, message.inference_time = chunk.policy_version, bool(chunk.best_of_n), inference_s
    return message


def manifest_from_message(message: msg.Manifest) -> Manifest:
    """Manifest as received; ``Inbox`` judges it."""
    m = message
    return Manifest(m.kind, m.id, int(m.version), int(m.size), m.sha256, int(m.chunk_size), int(m.chunk_count), m.signature, m.source)


def manifest_to_message(manifest: Manifest, stamp_message: Any) -> msg.Manifest:
    """Message of a manifest."""
    message = msg.Manifest(kind=manifest.kind, id=manifest.id, version=manifest.version, size=manifest.size, sha256=manifest.sha256)
    message.chunk_size, message.chunk_count, message.signature, message.source = manifest.chunk_size, manifest.chunk_count, manifest.signature, manifest.source
    message.header.stamp = stamp_message
    return message


def part_from_message(message: msg.Chunk) -> Chunk:
    """Chunk of a payload as received; ``Inbox`` judges it."""
    return Chunk(message.kind, message.id, int(message.version), message.source, int(message.index), int(message.crc32), bytes(message.data))


def part_to_message(chunk: Chunk) -> msg.Chunk:
    """Message of a chunk of a payload."""
    message = msg.Chunk(kind=chunk.kind, id=chunk.id, version=chunk.version, source=chunk.source, index=chunk.index, crc32=chunk.crc32)
    message.data = array.array("B", chunk.data)
    return message


def request_to_message(manifest: Manifest, indices: Sequence[int]) -> msg.ChunkRequest:
    """Message that asks for chunks of what ``manifest`` announces."""
    return msg.ChunkRequest(kind=manifest.kind, id=manifest.id, version=manifest.version, source=manifest.source, indices=list(indices))
