"""What the launch files have in common: run folder, ROS domain, and the graph's processes as launch actions."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.actions import LogInfo, RegisterEventHandler, SetEnvironmentVariable, Shutdown
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.logging import launch_config
from launch_ros.parameter_descriptions import ParameterValue

from mechanic_rl_ros.cli.run_folder import default_folder, open_run
from mechanic_rl_ros.companions import Companion, companions, require_installed
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import PACKAGE, NodeSpec, describe
from mechanic_rl_ros.graph_settings import GraphSettings
from mechanic_rl_ros.nodes.ordered_shutdown import OrderedNode, OrderedProcess, StopOrder
from mechanic_rl_ros.report.interval import success_line
from mechanic_rl_ros.report.run_data import RunData
from mechanic_rl_ros.ros_domain import free_domain, local_discovery, take
from mechanic_rl_ros.supervise import FINISHER, lock_run

RESPAWN_DELAY_S = 1.0
STOP_S = 20.0  # until a process that ignores SIGINT gets SIGTERM


def with_run_folder(context: LaunchContext, settings: GraphSettings) -> GraphSettings:
    """The same settings with a run folder that exists, is for a run with these settings, and is this launch's alone while it lives.

    Raises:
        UserError: The folder holds something else, or is in use.
    """
    _require_known(settings.algorithm)
    folder = Path(settings.run_directory) if settings.run_directory else default_folder(time.strftime("%Y-%m-%d_%H-%M-%S"))
    same = ("task", "episodes", "seed", "real_time_factor", "embodiment", "algorithm", *(["evaluate"] if settings.evaluate else []))
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
    """Keeps other simulations out of the ROS domain of this one while this launch lives. Other participants, such as rviz2, are welcome.

    Raises:
        UserError: A run on this machine has claimed it: two simulations in one domain would drive each other's arm.
    """
    if not (settings.simulated and settings.bringup):
        return
    domain = context.environment.get("ROS_DOMAIN_ID") or "0"
    if not domain.isdigit():
        raise UserError(f"ROS_DOMAIN_ID is {domain!r}: set it to a number, or unset it")
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if not take(claim, int(domain)):
        raise UserError(f"ROS domain {domain} is in use by another run on this machine: stop that one, or `export ROS_DOMAIN_ID={free_domain()}`")
    context.extend_globals({"domain_claim": claim})


def launch_folder() -> Path:
    """Where this launch writes its logs."""
    return Path(launch_config.log_dir)


def whole_graph(context: LaunchContext, settings: GraphSettings) -> tuple[GraphSettings, list[Any]]:
    """Launch actions for a run in a folder of its own, with what it needs of other packages; and the settings with that folder.

    Raises:
        UserError: A setting is wrong, a package is not installed, or folder or ROS domain is in use. Then nothing is left behind.
    """
    describe(settings)
    needed = companions(settings, launch_folder())
    require_installed(needed)
    claim_domain(context, settings)
    settings = with_run_folder(context, settings)
    return settings, actions(context, settings, describe(settings), needed)


def actions(context: LaunchContext, settings: GraphSettings, specs: Sequence[NodeSpec], needed: Sequence[Companion]) -> list[Any]:
    """Launch actions for all processes.

    Raises:
        UserError: A package that is needed is not installed.
    """
    require_installed(needed)
    stopping = StopOrder()
    # A simulation stays on this machine unless somebody said otherwise: it must not drive a robot on the network.
    variables = local_discovery(context.environment) if settings.simulated else {}
    return [
        *(SetEnvironmentVariable(name, value) for name, value in variables.items()),
        *(companion(item, settings, stopping) for item in needed),
        *(node(spec, settings, stopping) for spec in specs),
    ]


def node(spec: NodeSpec, settings: GraphSettings, stopping: StopOrder) -> OrderedNode:
    """The launch action of one process of the graph."""

    def on_exit(event: ProcessExited, context: LaunchContext) -> list[Any]:
        if event.returncode == 1:  # it has said what the user can mend; another start would say the same
            return [*_over(f"{spec.executable} failed: its message is above", context), *stopping.go_on(context)]
        if spec.executable == FINISHER and event.returncode == 0 and not context.is_shutdown:
            return _over(f"{spec.executable} has finished", context)
        if not spec.respawn and not context.is_shutdown:
            return _over(f"{spec.executable} has ended: look at the arm before you start again", context)
        return stopping.go_on(context)

    return OrderedNode(
        stopping,
        spec.stop_order,
        prefix=f"nice -n {spec.nice}" if spec.nice > 0 else "",
        package=PACKAGE,
        executable=spec.executable,
        name=spec.executable,
        exec_name=spec.executable,
        namespace=settings.namespace or None,
        parameters=[settings.resolved_parameter_file(), _parameters(spec.parameters)],
        ros_arguments=["--log-level", settings.log_level],
        respawn=spec.respawn,
        respawn_delay=RESPAWN_DELAY_S,
        on_exit=on_exit,
        output="both",
        sigterm_timeout=str(STOP_S),
        additional_env={"MECHANIC_PARENT_DEATH_SIGNAL": "1", "PYTHONUNBUFFERED": "1"},
    )


def companion(item: Companion, settings: GraphSettings, stopping: StopOrder) -> OrderedNode | OrderedProcess:
    """The launch action of a program of another package."""

    def on_exit(event: ProcessExited, context: LaunchContext) -> list[Any]:
        ended_well = item.once and event.returncode == 0
        if item.essential and not ended_well and not context.is_shutdown:
            return _over(f"{item.program} of {item.package} has ended: its last words are above", context)
        return stopping.go_on(context)

    for path, source in item.files.items():
        path.write_text(source())
    options: dict[str, Any] = {"on_exit": on_exit, "output": "both", "sigterm_timeout": str(STOP_S)}
    mortal = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []  # should this launch be killed, nobody else would end it
    if item.program.endswith(".launch.py"):
        # A launch of its own: what is included in this one could not be stopped in order.
        arguments = [f"{name}:={str(value).lower() if isinstance(value, bool) else value}" for name, value in item.parameters.items()]
        command = [*mortal, "ros2", "launch", "--noninteractive", item.package, item.program, *arguments]
        return OrderedProcess(stopping, item.stop_order, command, name=item.program, **options)
    return OrderedNode(
        stopping,
        item.stop_order,
        prefix=" ".join(mortal),
        package=item.package,
        executable=item.program,
        name=item.name or None,
        exec_name=item.name or item.program,
        namespace=settings.namespace or None,
        parameters=[_parameters(item.parameters)] if item.parameters else None,
        arguments=list(item.arguments),
        remappings=list(item.remappings.items()),
        **options,
    )


def _over(reason: str, context: LaunchContext) -> list[Any]:
    """The end of the launch, with a word why: launch itself only names the process."""
    return [] if context.is_shutdown else [LogInfo(msg=reason), Shutdown(reason=reason)]


def success_at_the_end(settings: GraphSettings) -> RegisterEventHandler:
    """Says how many episodes were solved, when all is written."""

    def say(event: ProcessExited, context: LaunchContext) -> list[LogInfo]:
        if not context.is_shutdown or not event.process_name.startswith("monitor_node"):
            return []
        try:
            solved = RunData.load(settings.run_directory).successes
        except UserError as error:
            return [LogInfo(msg=str(error))]
        return [LogInfo(msg=success_line(int(solved.sum()), len(solved)))]

    return RegisterEventHandler(OnProcessExit(on_exit=say))


def _parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    # launch_ros reads a plain string as YAML, which would make a number of a name of digits.
    texts = {name: value() if callable(value) else value for name, value in parameters.items()}
    return {name: ParameterValue(value, value_type=str) if isinstance(value, str) else value for name, value in texts.items()}
