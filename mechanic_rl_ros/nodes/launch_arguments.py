"""Launch arguments: the fields of GraphSettings, with descriptions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from launch.actions import DeclareLaunchArgument
from launch.launch_context import LaunchContext
from launch.substitutions import LaunchConfiguration

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph_settings import ROBOTS, SIMULATIONS, GraphSettings

DESCRIPTIONS = {
    "simulation": "mujoco: the embedded one; gazebo: Gazebo Sim with gz_ros2_control; none: a robot",
    "task": "task to practise: lift, push or reach",
    "checkpoint": "folder of the policy to start from; the base checkpoint of the task when empty",
    "run_directory": "folder of the run, which goes on if it was stopped; runs/TIME when empty",
    "episodes": "episodes to complete; 0: until stopped",
    "seed": "seed of scenes, sampling and learner",
    "learn": "whether the learner takes part",
    "algorithm": "how it learns: a section of config/learner.yaml, such as filtered_iql, dagger or dppo",
    "robot": "what drives the arm where simulation is none: franka (franka_ros2) or crisp (crisp_controllers)",
    "robot_ip": "address of the robot: its driver (franka_bringup) and controllers are started; when empty, they run already",
    "cameras": "driver of the robot's cameras: a file of config/camera_drivers/ (realsense2, v4l2), or a YAML file like it; none: they run already",
    "joystick": "operator's device: gamepad, spacemouse, or a YAML file like those of config/joystick/; none: nobody can take over",
    "rviz": "whether RViz is started",
    "bringup": "false: simulation.launch.py or robot.launch.py runs already, so neither simulation, drivers nor scene_node are started",
    "real_time_factor": "simulated seconds per second of the embedded simulation",
    "embodiment": "what the policy sees and does: name of a file in config/embodiment/, or a YAML file",
    "namespace": "ROS namespace of every node",
    "parameter_file": "YAML file of node parameters; config/nodes.yaml when empty",
    "log_level": "of every node: debug, info, warn, error or fatal",
}
PRACTICE = tuple(DESCRIPTIONS)
EVALUATION = tuple(name for name in DESCRIPTIONS if name not in ("learn", "algorithm"))
SIMULATION = ("simulation", "task", "rviz", "real_time_factor", "embodiment", "namespace", "parameter_file", "log_level")
ROBOT = ("task", "robot", "robot_ip", "cameras", "rviz", "embodiment", "namespace", "parameter_file", "log_level")
MONITOR = ("simulation", "task", "run_directory", "rviz", "embodiment", "namespace", "parameter_file", "log_level")

_DEFAULTS: dict[str, Any] = asdict(GraphSettings(run_directory=""))
_CHOICES = {"simulation": SIMULATIONS, "robot": ROBOTS}


def declare(names: Iterable[str], **changed: tuple[Any, str]) -> list[DeclareLaunchArgument]:
    """Launch arguments for these fields of GraphSettings; ``changed``: default and description where another launch file has others."""
    return [
        DeclareLaunchArgument(
            name,
            default_value=_text(changed[name][0] if name in changed else _DEFAULTS[name]),
            description=changed[name][1] if name in changed else DESCRIPTIONS[name],
            choices=_choices(name),
        )
        for name in names
    ]


def settings_from(context: LaunchContext, names: Iterable[str], **fixed: Any) -> GraphSettings:
    """The settings that the launch arguments say.

    Raises:
        UserError: A value is not of the type of its field.
    """
    values = {name: _value(name, LaunchConfiguration(name).perform(context)) for name in names}
    return GraphSettings(**{"run_directory": "", **values, **fixed})


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _choices(name: str) -> list[str] | None:
    return ["true", "false"] if isinstance(_DEFAULTS[name], bool) else list(_CHOICES[name]) if name in _CHOICES else None


def _value(name: str, text: str) -> Any:
    default = _DEFAULTS[name]
    if isinstance(default, bool):
        return text == "true"
    try:
        return type(default)(text)
    except ValueError as error:
        raise UserError(f"{name}:={text} is not a number: give one, for example {name}:={default}") from error
