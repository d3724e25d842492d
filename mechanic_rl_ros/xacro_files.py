"""The robot's description and Gazebo's worlds as text, expanded from their xacro files."""

from __future__ import annotations

import os
from pathlib import Path

from mechanic_rl_ros.embodiment import embodiment_path, load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import config_directory, description_directory


def robot_description(simulation: str = "none", *, namespace: str = "", embodiment: str | os.PathLike[str] = "fr3") -> str:
    """URDF of the FR3 with hand and cameras.

    Args:
        simulation: ``none`` for robot_state_publisher and RViz; ``gazebo`` adds ros2_control, camera sensors and the joint that fixes it to the world.
        namespace: Of the controller manager in Gazebo.
        embodiment: Name or file: camera topics, optical frames, and the pose that the arm starts in.

    Raises:
        UserError: Unknown simulation, an embodiment that cannot be read, or xacro is missing.
    """
    load_embodiment(embodiment)  # says in one line what is wrong with it
    files = {"embodiment": embodiment_path(embodiment).absolute(), "controllers": config_directory() / "controllers" / "fr3_gazebo.yaml"}
    arguments = {"simulation": simulation, "namespace": namespace.strip("/"), **{name: str(path) for name, path in files.items()}}
    return _expand(description_directory() / "urdf" / "fr3.urdf.xacro", arguments)


def world(task: str) -> str:
    """SDF world of ``task`` for Gazebo: the table and the task's objects, without the robot.

    Raises:
        UserError: Unknown task, or xacro is missing.
    """
    folder = description_directory() / "worlds"
    tasks = sorted(path.name.removesuffix(".sdf.xacro") for path in folder.glob("*.sdf.xacro") if path.name != "scene.sdf.xacro")
    if task not in tasks:
        raise UserError(f"there is no Gazebo world for task {task!r}: use one of {', '.join(tasks)}")
    return _expand(folder / f"{task}.sdf.xacro", {})


def _expand(path: Path, arguments: dict[str, str]) -> str:
    try:
        import xacro
    except ImportError as error:
        raise UserError("xacro is not installed: `apt-get install ros-$ROS_DISTRO-xacro`, or `pip install xacro`") from error
    try:
        return str(xacro.process_file(str(path), mappings=arguments).toprettyxml(indent="  "))
    except xacro.XacroException as error:
        raise UserError(f"cannot expand {path.name}: {str(error).splitlines()[0].strip()}") from error
