"""Programs of other packages that a graph needs: drivers, Gazebo, RViz. Only a launch file can start them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import NODES, WORLD
from mechanic_rl_ros.graph_settings import NONE, GraphSettings
from mechanic_rl_ros.paths import config_directory
from mechanic_rl_ros.safety.joystick import load_joystick
from mechanic_rl_ros.xacro_files import robot_description
from mechanic_rl_ros.xacro_files import world as world_of
from mechanic_rl_ros.yaml_file import read_yaml, yaml_path

CONTROLLERS = ("joint_state_broadcaster", "fr3_arm_controller", "fr3_gripper_controller")
ROBOT_CONTROLLERS = "fr3_robot.yaml"
OBJECTS = {"lift": "cube", "push": "puck"}
"""Model of a task's world whose pose judges it."""

_FRANKA = "build franka_ros2 (github.com/frankarobotics/franka_ros2) in this workspace, or start the robot yourself and leave robot_ip out"


@dataclass(frozen=True)
class Companion:
    """One program of another package.

    Attributes:
        package: Its package.
        program: Its executable, or a launch file of the package (``*.launch.py``).
        name: Of the node and in the log; the program's own when empty.
        parameters: ROS parameters, of an executable; arguments, of a launch file. What is called for is made then.
        arguments: Words on the command line of an executable.
        remappings: Name in the program -> name in the graph.
        files: Files that it reads, which are made for it.
        once: It does something and ends.
        essential: Without it the launch is over.
        stop_order: See ``NodeSpec``.
        otherwise: What to do where its package is not installed, beyond installing it.
    """

    package: str
    program: str
    name: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    remappings: dict[str, str] = field(default_factory=dict)
    files: dict[Path, Callable[[], str]] = field(default_factory=dict)
    once: bool = False
    essential: bool = True
    stop_order: int = WORLD
    otherwise: str = ""


def companions(settings: GraphSettings, folder: Path) -> list[Companion]:
    """All that the graph needs of other packages.

    Args:
        settings: Of the graph.
        folder: Where files that are made for them are to be written.

    Raises:
        UserError: A file that describes a device is missing or malformed.
    """
    return [*(world(settings, folder) if settings.bringup else []), *joystick(settings), *(rviz(settings) if settings.rviz else [])]


def world(settings: GraphSettings, folder: Path) -> list[Companion]:
    """Simulation or drivers of robot and cameras."""
    return gazebo(settings, folder) if settings.simulation == "gazebo" else [*robot(settings), *cameras(settings)]


def robot(settings: GraphSettings) -> list[Companion]:
    """The robot's driver and the controllers that this project talks to."""
    if not settings.robot_ip:
        return []
    arguments = {
        "robot_type": "fr3",
        "robot_ip": settings.robot_ip,
        "load_gripper": True,
        "joint_state_rate": 100,
        "controllers_yaml": str(config_directory() / "controllers" / ROBOT_CONTROLLERS),
    }
    named = {"namespace": settings.namespace} if settings.namespace else {}
    return [
        Companion("franka_bringup", "franka.launch.py", parameters={**arguments, **named}, otherwise=_FRANKA),
        _spawner(("fr3_arm_controller",), ROBOT_CONTROLLERS, _FRANKA),
    ]


def cameras(settings: GraphSettings) -> list[Companion]:
    """One driver for each camera of the embodiment."""
    if settings.cameras == NONE:
        return []
    path = yaml_path(settings.cameras, "camera_drivers")
    driver = read_yaml(path, "camera driver", "give a name from config/camera_drivers/ or a YAML file")
    try:
        return [
            Companion(
                driver["package"],
                driver["executable"],
                name=f"camera_{key}_driver",
                parameters={**driver["parameters"], **driver["cameras"][key]},
                remappings={driver["image"]: spec.raw_topic.removesuffix("/compressed")},
                otherwise="or start the cameras yourself, with cameras:=none",
            )
            for key, spec in load_embodiment(settings.embodiment).cameras.items()
        ]
    except (KeyError, TypeError) as error:
        raise UserError(f"camera driver {path} is incomplete or malformed ({error}): compare it with config/camera_drivers/realsense2.yaml") from error


def joystick(settings: GraphSettings) -> list[Companion]:
    """What reads the operator's joystick. Without it the arm goes on: intervention_node says that nobody can take over."""
    if settings.joystick == NONE:
        return []
    driver = load_joystick(settings.joystick).driver
    # Its stamps must be of the graph's clock: command_node judges an operator's age by them.
    parameters = {"use_sim_time": settings.simulated, **driver.parameters}
    return [Companion(driver.package, driver.executable, parameters=parameters, essential=False, otherwise="or leave joystick out")]


def rviz(settings: GraphSettings) -> list[Companion]:
    """RViz, and the robot's model where no driver publishes it."""
    clock = {"use_sim_time": settings.simulated}
    arguments = ("-d", str(config_directory() / "rviz" / "finetune.rviz"))
    window = Companion("rviz2", "rviz2", parameters=clock, arguments=arguments, essential=False, stop_order=NODES, otherwise="or leave rviz:=true out")
    return [*([_model(settings)] if settings.simulation == "mujoco" else []), window]


def gazebo(settings: GraphSettings, folder: Path) -> list[Companion]:
    """Gazebo with the world of the task, the robot in it, its controllers, and bridges for what does not come by ros2_control."""
    world_file = folder / f"{settings.task}.sdf"
    window = "" if os.environ.get("DISPLAY") else "-s "
    topics = {f"/{topic}": topic for topic in (spec.raw_topic.removesuffix("/compressed") for spec in load_embodiment(settings.embodiment).cameras.values())}
    bridges = ["/clock@rosgraph_msgs/msg/Clock[gz.msgs.Clock", *(f"{topic}@sensor_msgs/msg/Image[gz.msgs.Image" for topic in topics)]
    if settings.task in OBJECTS:
        pose = f"/model/{OBJECTS[settings.task]}/pose"
        bridges.append(f"{pose}@geometry_msgs/msg/PoseStamped[gz.msgs.Pose")
        topics[pose] = "object_pose"
    return [
        Companion("ros_gz_sim", "gz_sim.launch.py", parameters={"gz_args": f"{window}-r {world_file}"}, files={world_file: partial(world_of, settings.task)}),
        _model(settings),
        Companion("ros_gz_sim", "create", arguments=("-world", settings.task, "-topic", "robot_description", "-name", "fr3"), once=True),
        Companion("ros_gz_bridge", "parameter_bridge", arguments=tuple(bridges), remappings=topics),
        _spawner(CONTROLLERS, "fr3_gazebo.yaml"),
    ]


def require_installed(needed: Sequence[Companion]) -> None:
    """Refuses to go on without a package.

    Raises:
        UserError: Names the first package that is not installed and what to do.
    """
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    for companion in needed:
        try:
            get_package_prefix(companion.package)
        except PackageNotFoundError as error:
            name = f"ros-{os.environ.get('ROS_DISTRO', '<distribution>')}-{companion.package.replace('_', '-')}"
            how = companion.otherwise if companion.otherwise == _FRANKA else f"`sudo apt install {name}` {companion.otherwise}".strip()
            raise UserError(f"package {companion.package} is not installed: {how}") from error


def _model(settings: GraphSettings) -> Companion:
    simulation = "gazebo" if settings.simulation == "gazebo" else "none"
    text = partial(robot_description, simulation, namespace=settings.namespace, embodiment=settings.embodiment)
    return Companion("robot_state_publisher", "robot_state_publisher", parameters={"use_sim_time": settings.simulated, "robot_description": text})


def _spawner(controllers: tuple[str, ...], file: str, otherwise: str = "") -> Companion:
    arguments = (*controllers, "--param-file", str(config_directory() / "controllers" / file))
    return Companion("controller_manager", "spawner", name="controller_spawner", arguments=arguments, once=True, otherwise=otherwise)
