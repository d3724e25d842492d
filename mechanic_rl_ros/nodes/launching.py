"""What the launch files have in common: the graph's description as launch arguments and launch actions."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable, Shutdown
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from mechanic_rl_ros.cli.run_folder import default_folder, open_run
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import PACKAGE, SIMULATIONS, GraphSettings, NodeSpec
from mechanic_rl_ros.ros_domain import free_domain, local_discovery, take
from mechanic_rl_ros.supervise import lock_run

DESCRIPTIONS = {
    "simulation": "mujoco: the embedded one; gazebo: one that you started; none: a robot",
    "task": "task to practise",
    "checkpoint": "folder of the policy to start from; the base checkpoint of the task when empty",
    "run_directory": "folder of the run, which goes on if it was stopped; runs/TIME when empty",
    "episodes": "episodes to practise; 0: until stopped",
    "seed": "seed of scenes, sampling and learner",
    "real_time_factor": "simulated seconds per second of the embedded simulation",
    "embodiment": "what the policy sees and does: name of a file in config/embodiment/, or a YAML file",
    "namespace": "ROS namespace of every node",
    "parameter_file": "YAML file of node parameters; config/nodes.yaml when empty",
    "log_level": "of every node: debug, info, warn, error or fatal",
    "learn": "whether the learner takes part",
    "algorithm": "how it learns: a section of config/learner.yaml, such as filtered_iql, dagger or dppo",
}
RESPAWN_DELAY_S = 1.0
STOP_S = 20.0  # until a node that ignores SIGINT gets SIGTERM
_DEFAULTS: dict[str, Any] = asdict(GraphSettings(run_directory=""))


def declare(names: Iterable[str]) -> list[DeclareLaunchArgument]:
    """Launch arguments for these fields of GraphSettings."""
    return [DeclareLaunchArgument(name, default_value=_text(_DEFAULTS[name]), description=DESCRIPTIONS[name], choices=_choices(name)) for name in names]


def settings_from(context: LaunchContext, names: Iterable[str]) -> GraphSettings:
    """The settings that the launch arguments say.

    Raises:
        UserError: A value is not of the type of its field.
    """
    values = {name: _value(name, LaunchConfiguration(name).perform(context)) for name in names}
    return GraphSettings(**values)


def with_run_folder(context: LaunchContext, settings: GraphSettings) -> GraphSettings:
    """The same settings with a run folder that exists, is for a run with these settings, and is this launch's alone while it lives.

    Raises:
        UserError: The folder holds something else, or is in use.
    """
    _require_known(settings.algorithm)
    folder = Path(settings.run_directory) if settings.run_directory else default_folder(time.strftime("%Y-%m-%d_%H-%M-%S"))
    same = ("task", "episodes", "seed", "real_time_factor", "embodiment", "algorithm")
    options = {"checkpoint": settings.resolved_checkpoint(), **{name: getattr(settings, name) for name in same}}
    folder = open_run(folder, options, settings.resolved_parameter_file())
    context.extend_globals({"run_lock": lock_run(folder)})
    return replace(settings, run_directory=str(folder), checkpoint=_start(settings, folder))


def _require_known(algorithm: str) -> None:
    if algorithm != GraphSettings.algorithm:
        from mechanic_rl_ros.algorithms.registry import learner_of

        learner_of(algorithm)


def _start(settings: GraphSettings, folder: Path) -> str:
    if settings.algorithm == GraphSettings.algorithm:
        return settings.resolved_checkpoint()  # it starts from any policy as it is, and torch need not be loaded here
    from mechanic_rl_ros.algorithms.prepare import start_of_practice

    return str(start_of_practice(settings.algorithm, Path(settings.resolved_checkpoint()), folder, settings.seed))


def claim_domain(context: LaunchContext, settings: GraphSettings) -> None:
    """Keeps other simulations out of the ROS domain of an embedded one while this launch lives. Other participants, such as rviz2, are welcome.

    Raises:
        UserError: A run on this machine has claimed it: two simulations in one domain would drive each other's arm.
    """
    if settings.simulation != "mujoco":
        return
    domain = context.environment.get("ROS_DOMAIN_ID") or "0"
    if not domain.isdigit():
        raise UserError(f"ROS_DOMAIN_ID is {domain!r}: set it to a number, or unset it")
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if not take(claim, int(domain)):
        raise UserError(f"ROS domain {domain} is in use by another run on this machine: stop that one, or `export ROS_DOMAIN_ID={free_domain()}`")
    context.extend_globals({"domain_claim": claim})


def environment(context: LaunchContext, settings: GraphSettings) -> list[SetEnvironmentVariable]:
    """Keeps a simulation on this machine unless somebody said otherwise: it must not drive a robot on the network."""
    variables = local_discovery(context.environment) if settings.simulation == "mujoco" else {}
    return [SetEnvironmentVariable(name, value) for name, value in variables.items()]


def node(spec: NodeSpec, settings: GraphSettings, finishes: bool = False) -> Node:
    """The launch action of one process of the graph.

    Args:
        spec: Of the process.
        settings: Of the graph.
        finishes: Whether everything is over when this process has ended by itself.
    """

    def on_exit(event: ProcessExited, context: LaunchContext) -> list[Shutdown]:
        if event.returncode == 1:  # it has said what the user can mend; another start would say the same
            return [Shutdown(reason=f"{spec.executable} failed: its message is above")]
        return [Shutdown(reason=f"{spec.executable} has finished")] if finishes and event.returncode == 0 else []

    return Node(
        package=PACKAGE,
        executable=spec.executable,
        name=spec.executable,
        exec_name=spec.executable,
        namespace=settings.namespace or None,
        parameters=[settings.resolved_parameter_file(), {name: _parameter(value) for name, value in spec.parameters.items()}],
        ros_arguments=["--log-level", settings.log_level],
        prefix=f"nice -n {spec.nice}" if spec.nice > 0 else None,
        respawn=spec.respawn,
        respawn_delay=RESPAWN_DELAY_S,
        on_exit=on_exit,
        output="both",
        sigterm_timeout=str(STOP_S),
        additional_env={"MECHANIC_PARENT_DEATH_SIGNAL": "1", "PYTHONUNBUFFERED": "1"},
    )


def _parameter(value: Any) -> Any:
    # launch_ros reads a plain string as YAML, which would make a number of a name of digits.
    return ParameterValue(value, value_type=str) if isinstance(value, str) else value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _choices(name: str) -> list[str] | None:
    return list(SIMULATIONS) if name == "simulation" else ["true", "false"] if isinstance(_DEFAULTS[name], bool) else None


def _value(name: str, text: str) -> Any:
    default = _DEFAULTS[name]
    if isinstance(default, bool):
        return text == "true"
    try:
        return type(default)(text)
    except ValueError as error:
        raise UserError(f"{name}:={text} is not a number: give one, for example {name}:={default}") from error
