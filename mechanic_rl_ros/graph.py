"""The graph of nodes, described once: the launch files and the supervisor for machines without `launch` read this."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import checkpoint_directory, config_directory

PACKAGE = "mechanic_rl_ros"
SIMULATIONS = ("mujoco", "gazebo", "none")
SEEDS_PER_RUN = 10_000
LARGEST_SEED = 39  # scene seeds 0 ... 399 999 are for practice; those above belong to demonstrations and evaluation
SPEEDS = (0.05, 20.0)  # real-time factors that the embedded simulation offers


@dataclass(frozen=True)
class NodeSpec:
    """One process of the graph.

    Attributes:
        executable: Name of the executable and of the node.
        parameters: ROS parameters beyond those of the parameter file.
        nice: Niceness: the control path runs first, the learner takes what is left.
        stop_order: Processes of a lower order are stopped first: whoever could move the arm stops before the arm's simulation does.
        respawn: Whether a process that dies is started again.
    """

    executable: str
    parameters: dict[str, Any] = field(default_factory=dict)
    nice: int = 0
    stop_order: int = 1
    respawn: bool = True


@dataclass(frozen=True)
class GraphSettings:
    """Where and on what the graph runs; everything else is in the parameter files.

    Attributes:
        task: Task name.
        run_directory: Episodes, checkpoints, logs and metrics go here.
        checkpoint: Folder of the policy to start from; the base checkpoint of the task when empty.
        simulation: ``mujoco`` (embedded), ``gazebo``, or ``none`` for a robot.
        episodes: Episodes to practise; 0: until stopped.
        seed: Seed of scenes, sampling and learner.
        real_time_factor: Simulated seconds per second of the embedded simulation.
        embodiment: Name or file of the embodiment.
        namespace: ROS namespace of every node.
        parameter_file: YAML file of node parameters.
        log_level: Of every node.
        learn: Whether the learner takes part.
        algorithm: How it learns: a section of config/learner.yaml.
    """

    task: str = "lift"
    run_directory: str = "runs/latest"
    checkpoint: str = ""
    simulation: str = "mujoco"
    episodes: int = 260
    seed: int = 0
    real_time_factor: float = 1.5
    embodiment: str = "fr3"
    namespace: str = ""
    parameter_file: str = ""
    log_level: str = "info"
    learn: bool = True
    algorithm: str = "filtered_iql"

    def resolved_checkpoint(self) -> str:
        """Folder of the policy to start from."""
        return str(Path(self.checkpoint).resolve()) if self.checkpoint else str(checkpoint_directory(self.task))

    def resolved_parameter_file(self) -> str:
        """The parameter file that every node reads."""
        return self.parameter_file or str(config_directory() / "nodes.yaml")


def describe(settings: GraphSettings) -> list[NodeSpec]:
    """All processes of the graph, in the order in which they are started.

    Raises:
        UserError: A setting is out of range, or the parameter file cannot be read.
    """
    _check(settings)
    simulated = settings.simulation != "none"
    run = str(Path(settings.run_directory).resolve())
    common = {"use_sim_time": simulated, "embodiment": settings.embodiment}
    checkpoint = settings.resolved_checkpoint()
    policy = {**common, "checkpoint": checkpoint, "seed": settings.seed}
    nodes = [
        NodeSpec("command_node", common, stop_order=0),
        NodeSpec("camera_node", common, nice=1),
        NodeSpec("policy_node", policy, nice=2),
        NodeSpec(
            "episode_node",
            {
                **common,
                "task": settings.task,
                "seed_first": settings.seed * SEEDS_PER_RUN,
                "episodes": settings.episodes,
                "learn": settings.learn,
                "directory": f"{run}/episodes",
            },
            nice=2,
        ),
        NodeSpec("recorder_node", {**common, "directory": f"{run}/episodes"}, nice=5),
        NodeSpec("monitor_node", {**common, "directory": run, "task": settings.task, "checkpoint": checkpoint, "seed": settings.seed}, nice=5),
    ]
    if settings.simulation == "mujoco":
        scene = {"use_sim_time": False, "embodiment": settings.embodiment, "task": settings.task, "real_time_factor": settings.real_time_factor}
        nodes.insert(0, NodeSpec("sim_node", scene, stop_order=2))
    if settings.learn:
        nodes.append(NodeSpec("learner_node", {**policy, "algorithm": settings.algorithm, "directory": f"{run}/learner"}, nice=19))
    return nodes


def ros_arguments(spec: NodeSpec, settings: GraphSettings) -> list[str]:
    """Command-line arguments that give ``spec`` its name, namespace and parameters, for processes started without `launch`."""
    arguments = ["--ros-args", "--log-level", settings.log_level, "--params-file", settings.resolved_parameter_file()]
    if settings.namespace:
        arguments += ["-r", f"__ns:=/{settings.namespace.strip('/')}"]
    for name, value in spec.parameters.items():
        arguments += ["-p", f"{name}:={_argument(value)}"]
    return arguments


def _argument(value: Any) -> str:
    # YAML on the command line: quotes keep a string a string, also an empty one or one of digits; a quote in it is doubled.
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)


def _check(settings: GraphSettings) -> None:
    if settings.simulation not in SIMULATIONS:
        raise UserError(f"simulation {settings.simulation!r} is unknown: use one of {', '.join(SIMULATIONS)}")
    if not 0 <= settings.seed <= LARGEST_SEED:
        raise UserError(f"seed {settings.seed} is out of range: choose one from 0 to {LARGEST_SEED}")
    if not 0 <= settings.episodes <= SEEDS_PER_RUN:
        raise UserError(f"episodes {settings.episodes} is out of range: choose a number from 0 to {SEEDS_PER_RUN}")
    if not SPEEDS[0] <= settings.real_time_factor <= SPEEDS[1]:
        raise UserError(f"real-time factor {settings.real_time_factor} is out of range: choose one from {SPEEDS[0]:g} to {SPEEDS[1]:g}")
    path = settings.resolved_parameter_file()
    try:
        with open(path) as file:
            if not _holds_parameters(yaml.safe_load(file)):
                raise UserError(f"parameter file {path} is not of the form `/**/node: ros__parameters: name: value`: compare it with config/nodes.yaml")
    except OSError as error:
        raise UserError(f"cannot read parameter file {path} ({os.strerror(error.errno or 0)}): give an existing YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"parameter file {path} is not valid YAML: {str(error).splitlines()[0]}") from error


def _holds_parameters(section: Any) -> bool:
    """Whether every path through the mappings, of namespaces and nodes, leads to a mapping called ``ros__parameters``."""
    if not isinstance(section, dict) or not section:
        return False
    return all(isinstance(value, dict) if name == "ros__parameters" else _holds_parameters(value) for name, value in section.items())
