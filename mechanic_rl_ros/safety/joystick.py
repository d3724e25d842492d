"""What a joystick's axes and buttons mean, described in a YAML file of config/joystick/."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.yaml_file import read_yaml, yaml_path

MOTIONS = ("x", "y", "z", "turn_x", "turn_y", "turn_z")
BUTTONS = ("close_gripper", "open_gripper", "toggle_gripper", "success", "failure", "scene_ready", "emergency_stop")
_CHANNEL = re.compile(r"tcp_(velocity|delta|spin|turn)_([xyz])")
_MOST = 256  # axes or buttons that a device may have
_LONGEST_REST_S = 10.0


@dataclass(frozen=True)
class Driver:
    """The ROS 2 program that reads the device."""

    package: str
    executable: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Axis:
    """One axis of the device: which, and the action (normalised) at its end; a negative scale turns the sign."""

    axis: int
    scale: float = 1.0


@dataclass(frozen=True)
class Joystick:
    """One kind of device.

    Attributes:
        driver: Program that reads it.
        topic: Where that publishes ``sensor_msgs/Joy``.
        axes: Motion of the tool (see MOTIONS) -> axis.
        dead_zone: Part of an axis's way around its middle that means nothing.
        buttons: What happens (see BUTTONS) -> number of the button that does it.
        dead_man: Button that must be held to have the arm; None: who moves the device has the arm.
        rest: Seconds without motion after which a device without dead-man button gives the arm back.
        sparse_buttons: A button that a message does not list is not pressed.
    """

    driver: Driver
    topic: str
    axes: dict[str, Axis]
    dead_zone: float
    buttons: dict[str, int]
    dead_man: int | None
    rest: float
    sparse_buttons: bool

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Joystick:
        """Builds one from plain data, as read from YAML.

        Raises:
            KeyError, TypeError, ValueError: A field is missing, unknown, of the wrong kind or out of range.
        """
        data = dict(data)
        takeover, buttons = dict(data.pop("takeover")), dict(data.pop("buttons"))
        joystick = cls(
            driver=Driver(**data.pop("driver")),
            topic=str(data.pop("topic")),
            axes={motion: Axis(**axis) for motion, axis in data.pop("axes").items()},
            dead_zone=float(data.pop("dead_zone")),
            buttons=buttons,
            dead_man=takeover.pop("button", None),
            rest=float(takeover.pop("rest", 0.0)),
            sparse_buttons=bool(data.pop("sparse_buttons", False)),
        )
        if data or takeover:
            raise ValueError(f"unknown {', '.join([*data, *takeover])}")
        joystick._check()
        return joystick

    def _check(self) -> None:
        _require_known("axes", self.axes, MOTIONS)
        _require_known("buttons", self.buttons, BUTTONS)
        numbers = [*self.buttons.values(), *([] if self.dead_man is None else [self.dead_man])]
        if not all(isinstance(number, int) and 0 <= number < _MOST for number in [*numbers, *(axis.axis for axis in self.axes.values())]):
            raise ValueError(f"axes and buttons are numbers from 0 to {_MOST - 1}")
        if len(set(numbers)) < len(numbers):
            raise ValueError("one button has two meanings")
        if not all(0.0 < abs(axis.scale) <= 1.0 for axis in self.axes.values()):
            raise ValueError("a scale is from -1 to 1 and not 0")
        if not 0.0 < self.dead_zone < 1.0:
            raise ValueError("dead_zone is between 0 and 1")
        if self.dead_man is None and not 0.0 < self.rest <= _LONGEST_REST_S:
            raise ValueError(f"takeover needs a button, or a rest between 0 and {_LONGEST_REST_S:g} s")

    def matrix(self, embodiment: Embodiment) -> NDArray[np.float64]:
        """What each axis does to each action channel, (A, number of axes needed): normalised action at the end of the axis's way.

        Raises:
            UserError: It moves none of the embodiment's channels.
        """
        matrix = np.zeros((len(embodiment.action), 1 + max(axis.axis for axis in self.axes.values())))
        for row, channel in enumerate(embodiment.action):
            if (match := _CHANNEL.fullmatch(channel.name)) and (axis := self.axes.get(("turn_" if match[1] in ("spin", "turn") else "") + match[2])):
                matrix[row, axis.axis] = axis.scale
        if not matrix.any():
            raise UserError(
                f"no axis of the joystick moves an action channel of embodiment {embodiment.name}: an operator needs channels of the tool (tcp_...)"
            )
        return matrix


def load_joystick(name: str | os.PathLike[str]) -> Joystick:
    """Reads a joystick by its name (``gamepad``, ``spacemouse``) or from a YAML file.

    Raises:
        UserError: There is no such file, or it is malformed.
    """
    path = yaml_path(name, "joystick")
    data = read_yaml(path, "joystick", "give gamepad, spacemouse or a YAML file")
    try:
        return Joystick.from_dict(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"joystick {path} is incomplete or malformed ({error}): compare it with config/joystick/gamepad.yaml") from error


def way(values: NDArray[np.float64], dead_zone: float) -> NDArray[np.float64]:
    """Axes in [-1, 1] with the dead zone taken out, so that motion begins at 0 at its edge."""
    values = np.clip(values, -1.0, 1.0)
    return np.copysign(np.maximum(np.abs(values) - dead_zone, 0.0) / (1.0 - dead_zone), values)


def _require_known(what: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"{what} name {', '.join(unknown)}: use {', '.join(known)}")
    if what == "axes" and not given:
        raise ValueError("there are no axes")
