"""What a policy sees and does, described once and checked wherever two parties meet."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.yaml_file import read_yaml, yaml_path

_AGES = (0.001, 10.0)  # s: an older image or joint state says nothing about now


@dataclass(frozen=True)
class CameraSpec:
    """One camera as the policy gets it: RGB uint8 images of shape (height, width, 3).

    Attributes:
        raw_topic: Where the driver publishes ``sensor_msgs/Image``, or ``CompressedImage`` if it ends in ``/compressed``.
        topic: Where ``camera_node`` publishes the image that policy and recorder read.
        frame: Optical frame that the images must carry.
        height: Rows, pixels.
        width: Columns, pixels.
        max_age: Age in seconds up to which an image is acted on; beyond five times of it the camera counts as lost.
    """

    raw_topic: str
    topic: str
    frame: str
    height: int
    width: int
    max_age: float


@dataclass(frozen=True)
class JointSpec:
    """The arm's joints. ``home`` in rad, ``max_age`` in seconds."""

    topic: str
    names: tuple[str, ...]
    finger: str
    max_age: float
    home: tuple[float, ...]


@dataclass(frozen=True)
class Channel:
    """One dimension of the state or of the action. ``scale`` is the physical value of a normalised 1."""

    name: str
    unit: str
    frame: str
    scale: float = 1.0


@dataclass(frozen=True)
class Workspace:
    """Box that the tool centre point may not leave, metres in the base frame."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]


@dataclass(frozen=True)
class Embodiment:
    """The contract between robot, policy and data."""

    name: str
    base_frame: str
    tcp_frame: str
    policy_rate: float
    cameras: dict[str, CameraSpec]
    joints: JointSpec
    state: tuple[Channel, ...]
    action: tuple[Channel, ...]
    workspace: Workspace

    @property
    def period(self) -> float:
        """Seconds between two actions of a chunk."""
        return 1.0 / self.policy_rate

    @property
    def period_ns(self) -> int:
        """Nanoseconds between two actions of a chunk."""
        return round(1e9 / self.policy_rate)

    @classmethod
    def from_dict(cls, data: dict[str, Any], what: str = "embodiment description") -> Embodiment:
        """Builds an embodiment from plain data, as read from YAML or JSON.

        Raises:
            UserError: A field is missing, unknown, of the wrong kind or out of range.
        """
        try:
            embodiment = cls(
                name=str(data["name"]),
                base_frame=str(data["base_frame"]),
                tcp_frame=str(data["tcp_frame"]),
                policy_rate=float(data["policy_rate"]),
                cameras={key: CameraSpec(**spec) for key, spec in data["cameras"].items()},
                joints=JointSpec(**{**data["joints"], "names": tuple(data["joints"]["names"]), "home": tuple(data["joints"]["home"])}),
                state=tuple(Channel(**channel) for channel in data["state"]),
                action=tuple(Channel(**channel) for channel in data["action"]),
                workspace=Workspace(low=tuple(data["workspace"]["low"]), high=tuple(data["workspace"]["high"])),
            )
            _check(embodiment)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{what} is incomplete or malformed ({error}): compare it with config/embodiment/fr3.yaml") from error
        return embodiment

    def to_dict(self) -> dict[str, Any]:
        """Plain data that ``from_dict`` reads back, tuples as lists (so that JSON gives it back unchanged)."""
        return _plain(asdict(self))

    def differences(self, other: Embodiment) -> list[str]:
        """Lines that differ, as ``path: mine != theirs``; empty when both describe the same thing."""
        mine, theirs = _flatten(self.to_dict()), _flatten(other.to_dict())
        return [f"{key}: {mine.get(key)!r} != {theirs.get(key)!r}" for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) != theirs.get(key)]

    def require_same(self, other: Embodiment, what: str) -> None:
        """Refuses ``other`` unless it is the same embodiment.

        Raises:
            UserError: Names ``what`` and the first differing line.
        """
        lines = self.differences(other)
        if lines:
            more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
            raise UserError(f"{what} was made for another embodiment ({lines[0]}{more}): use the embodiment file that it was made with")


def embodiment_path(name: str | os.PathLike[str]) -> Path:
    """File of an embodiment: of ``config/embodiment/`` where ``name`` is no YAML file."""
    return yaml_path(name, "embodiment")


def load_embodiment(name: str | os.PathLike[str] = "fr3") -> Embodiment:
    """Reads an embodiment by its name (``fr3``) or from a YAML file.

    Raises:
        UserError: There is no such file, or it is malformed.
    """
    path = embodiment_path(name)
    data = read_yaml(path, "embodiment", "give a name from config/embodiment/ or a YAML file")
    if not isinstance(data, dict):
        raise UserError(f"embodiment {path} is not a mapping: compare it with config/embodiment/fr3.yaml")
    return Embodiment.from_dict(data)


def _check(embodiment: Embodiment) -> None:
    """Refuses what no robot can mean: better now than as a division by zero, or as an arm that nothing stops."""
    joints, workspace = embodiment.joints, embodiment.workspace
    _require("policy_rate", embodiment.policy_rate, 0.1, 1000.0)
    for key, camera in embodiment.cameras.items():
        if not may_be_camera(key):
            raise UserError(f"embodiment: {key!r} cannot be the key of a camera: give it small letters, digits and underscores, such as wrist")
        _require(f"cameras.{key}.height", camera.height, 1, 4096)
        _require(f"cameras.{key}.width", camera.width, 1, 4096)
        _require(f"cameras.{key}.max_age", camera.max_age, *_AGES)
    _require("joints.max_age", joints.max_age, *_AGES)
    for index, angle in enumerate(joints.home):
        _require(f"joints.home.{index}", angle, -100.0, 100.0)
    for name, channels in (("state", embodiment.state), ("action", embodiment.action)):
        for channel in channels:
            _require(f"scale of {name} {channel.name}", channel.scale, 1e-6, 1e6)
    for axis, low, high in zip("xyz", workspace.low, workspace.high, strict=True):
        _require(f"workspace.low {axis}", low, -100.0, high)
        _require(f"workspace.high {axis}", high, low, 100.0)
    _require("number of cameras", len(embodiment.cameras), 1, 16)
    _require("number of joints.names", len(joints.names), 1, 64)
    _require("number of joints.home", len(joints.home), len(joints.names), len(joints.names))
    _require("number of state channels", len(embodiment.state), 1, 1024)
    _require("number of action channels", len(embodiment.action), 1, 1024)


def may_be_camera(key: str) -> bool:
    """Whether a camera can have that key: networks have parts of that name."""
    taken = ("all", "keys", "items", "values", "pop", "clear", "update", "forward", "training", "train")
    return re.fullmatch(r"[a-z][a-z0-9_]*", key) is not None and key not in taken


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also what is not a number
        raise UserError(f"embodiment: {name} is {value}: choose {f'a value between {low} and {high}' if low < high else high}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)  # type: ignore[assignment]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat.update(_flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat
