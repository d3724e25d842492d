"""Limits of the Franka Research 3, and the narrower ones that somebody chose.

Sources: ``franka_description`` 1.0.1, ``robots/fr3/joint_limits.yaml`` (position, velocity, torque), libfranka,
``include/franka/rate_limiting.h`` (acceleration, jerk, position-dependent velocity, Cartesian velocity), and the Franka
Hand's data sheet (width and force).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.yaml_file import read_yaml, yaml_path

POSITION_LOWER = np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159])  # rad
POSITION_UPPER = np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159])  # rad
VELOCITY = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])  # rad/s
VELOCITY_OFFSET = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])  # rad/s
DECELERATION = np.array([6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0])  # rad/s^2, of the position-dependent velocity bound
ACCELERATION = 10.0  # rad/s^2, every joint
JERK = 5000.0  # rad/s^3, every joint
TCP_SPEED = 3.0  # m/s
TORQUE = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])  # Nm
FINGER_OPEN = 0.04  # m, each finger
GRIP_FORCE = 70.0  # N, continuous


@dataclass(frozen=True)
class KeepOut:
    """Box that neither arm nor hand may enter: corners, m in the base frame."""

    name: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]


@dataclass(frozen=True)
class SafetyLimits:
    """What the command node keeps to, beside the workspace of the embodiment; config/limits/fr3.yaml says what each is.

    Attributes:
        position_margin: rad kept to every joint position limit.
        joint_speed: rad/s, (7,).
        joint_acceleration: rad/s^2 while moving.
        tcp_speed: m/s of the tool centre point.
        clearance: m that arm and hand keep to the table and to keep-out boxes.
        grip_width: m between the fingers.
        grip_force: N.
        table_height: m in the base frame, below which neither arm nor hand may come; None where there is no table.
        keep_out: Boxes that neither arm nor hand may enter.
    """

    position_margin: float = 0.05
    joint_speed: tuple[float, ...] = (1.2,) * 7
    joint_acceleration: float = 9.5
    tcp_speed: float = 0.6
    clearance: float = 0.003
    grip_width: float = 2.0 * FINGER_OPEN
    grip_force: float = 40.0
    table_height: float | None = None
    keep_out: tuple[KeepOut, ...] = ()

    @classmethod
    def load(cls, name: str | os.PathLike[str] = "fr3") -> SafetyLimits:
        """Reads limits by their name (``fr3``) or from a YAML file.

        Raises:
            UserError: There is no such file, it is malformed, or it widens a limit.
        """
        path = yaml_path(name, "limits")
        data = read_yaml(path, "limits", "give a name from config/limits/ or a YAML file")
        try:
            return cls.from_dict(data)
        except UserError as error:
            raise UserError(f"limits {path}: {error}") from error

    @classmethod
    def from_dict(cls, data: Any) -> SafetyLimits:
        """Builds limits from plain data; what is left out keeps its default, but for the table, of which somebody must have thought.

        Raises:
            UserError: A name is unknown, a value is no number, or it is wider than allowed.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(data, dict) or any(name not in names for name in data):
            unknown = next((name for name in data if name not in names), data) if isinstance(data, dict) else data
            raise UserError(f"{unknown!r} is no limit: use {', '.join(names)}")
        if "table_height" not in data:
            raise UserError("table_height is missing: give the height of the table in the base frame (m), or null where there is none")
        boxes = data.get("keep_out") or []
        if not isinstance(boxes, list):
            raise UserError(f"keep_out is {boxes!r}: give a list of boxes")
        values = {name: _numbers(name, value) for name, value in data.items() if name != "keep_out" and not (name == "table_height" and value is None)}
        for name, value in values.items():
            _require_within(name, value)
        return cls(**values, keep_out=tuple(map(_keep_out, boxes)))


# Lowest and highest value that a file may say. The upper speeds and accelerations are those that the stop is made for, see limiter.py.
_RANGES: dict[str, tuple[float, float]] = {
    "position_margin": (0.02, 1.0),
    "joint_speed": (0.01, 1.2),
    "joint_acceleration": (0.1, 9.5),
    "tcp_speed": (0.01, TCP_SPEED),
    "clearance": (0.0, 0.5),
    "grip_width": (0.0, 2.0 * FINGER_OPEN),
    "grip_force": (0.0, GRIP_FORCE),
    "table_height": (-5.0, 5.0),
}


def _numbers(name: str, value: Any) -> Any:
    wide = name == "joint_speed"
    numbers = value if wide and isinstance(value, list) else [value]
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers) or (wide and len(numbers) != 7):
        raise UserError(f"{name} is {value!r}: give {'seven numbers' if wide else 'a number'}")
    return tuple(map(float, numbers)) if wide else float(value)


def _keep_out(box: Any) -> KeepOut:
    try:
        low, high = np.array(box["low"], dtype=np.float64), np.array(box["high"], dtype=np.float64)
        if low.shape == high.shape == (3,) and np.isfinite([low, high]).all() and (low < high).all():
            return KeepOut(str(box["name"]), tuple(low.tolist()), tuple(high.tolist()))
    except (KeyError, TypeError, ValueError):
        pass
    raise UserError(f"keep_out has {box!r}: give name, low and high, with low below high in x, y and z")


def _require_within(name: str, value: Any) -> None:
    low, high = _RANGES[name]
    for number in np.atleast_1d(value):
        if not low <= number <= high:  # also what is not a number
            raise UserError(f"{name} is {number:g}: the limits of the robot and of its stop allow {low:g} to {high:g}")


def velocity_bounds(
    q: NDArray[np.float64],
    margin: float = 0.0,
    deceleration: NDArray[np.float64] = DECELERATION,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Velocity that the FR3 allows at joint positions ``q``: min(dq_max, max(0, -offset + sqrt(2 decel distance))).

    Args:
        q: Positions (..., 7), rad.
        margin: Moves both position limits inwards, rad.
        deceleration: Deceleration (7,) of the bound, rad/s^2.

    Returns:
        Lower (at most 0) and upper (at least 0) bound, (..., 7) each, rad/s.
    """
    above = np.maximum(POSITION_UPPER - margin - q, 0.0)
    below = np.maximum(q - POSITION_LOWER - margin, 0.0)
    # Of few numbers np.clip takes twice as long, here and wherever the arm is looked after in every period.
    upper = np.minimum(np.maximum(np.sqrt(2.0 * deceleration * above) - VELOCITY_OFFSET, 0.0), VELOCITY)
    lower = -np.minimum(np.maximum(np.sqrt(2.0 * deceleration * below) - VELOCITY_OFFSET, 0.0), VELOCITY)
    return lower, upper


def braking_distance(speed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance (7,), rad, to a position limit from which on ``velocity_bounds`` allows ``speed`` (7,), rad/s, of at most dq_max; a little more for rounding."""
    return (speed + VELOCITY_OFFSET) ** 2 / (2.0 * DECELERATION) + 1e-6
