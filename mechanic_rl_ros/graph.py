"""The graph of nodes, described once: the launch files and the supervisor for machines without `launch` read this.

Programs of other packages, which only a launch file can start, are in companions.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mechanic_rl_ros.graph_settings import NONE, GraphSettings

PACKAGE = "mechanic_rl_ros"
CONTROL, NODES, WORLD = 0, 1, 2
"""Stop orders: first what could move the arm, last what the arm is moved by."""

PERSON_S = 3600.0
"""Seconds that a reset may take where a person puts the scene back: scene_node has a shorter patience of its own."""


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
    stop_order: int = NODES
    respawn: bool = True


def describe(settings: GraphSettings) -> list[NodeSpec]:
    """All processes of the graph, in the order in which they are started.

    Raises:
        UserError: A setting is out of range, or the parameter file cannot be read.
    """
    settings.check()
    run = str(Path(settings.run_directory).resolve())
    common = {"use_sim_time": settings.simulated, "embodiment": settings.embodiment}
    checkpoint = settings.resolved_checkpoint()
    policy = {**common, "checkpoint": checkpoint, "seed": settings.seed}
    at_its_best = {"explore": False, "mode": "gate"} if settings.evaluate else {}
    learn = settings.learn and not settings.evaluate
    patience = {} if settings.simulation == "mujoco" else {"reset_patience": PERSON_S}
    episodes = {"seed_first": settings.first_scene, "episodes": settings.episodes, "learn": learn, "directory": f"{run}/episodes", **patience}
    nodes = [
        *(world(settings) if settings.bringup else []),
        # On a robot it is not started again: it remembers the emergency stop, and who starts it should have looked at the arm.
        NodeSpec("command_node", {**common, "backend": settings.backend}, stop_order=CONTROL, respawn=settings.simulated),
        NodeSpec("camera_node", common, nice=1),
        NodeSpec("policy_node", {**policy, **at_its_best}, nice=2),
        NodeSpec("episode_node", {**common, "task": settings.task, **episodes}, nice=2),
        NodeSpec("recorder_node", {**common, "directory": f"{run}/episodes"}, nice=5),
        monitor(settings),
    ]
    if settings.joystick != NONE:
        nodes.append(NodeSpec("intervention_node", {**common, "joystick": settings.joystick}))
    if learn:
        nodes.append(NodeSpec("learner_node", {**policy, "algorithm": settings.algorithm, "directory": f"{run}/learner"}, nice=19))
    return nodes


def world(settings: GraphSettings) -> list[NodeSpec]:
    """The node that has the scene: the embedded simulation, or where there is none, one that asks for the scene to be put back."""
    common = {"embodiment": settings.embodiment, "task": settings.task}
    if settings.simulation == "mujoco":
        return [NodeSpec("sim_node", {"use_sim_time": False, **common, "real_time_factor": settings.real_time_factor}, stop_order=WORLD)]
    judge = "pose" if settings.simulation == "gazebo" else "label"  # Gazebo tells where the object is; on a robot an operator judges
    return [NodeSpec("scene_node", {"use_sim_time": settings.simulated, **common, "judge": judge})]


def monitor(settings: GraphSettings) -> NodeSpec:
    """The node that shows and writes down what happens."""
    parameters = {
        "use_sim_time": settings.simulated,
        "embodiment": settings.embodiment,
        "directory": str(Path(settings.run_directory).resolve()),
        "task": settings.task,
        "checkpoint": settings.resolved_checkpoint(),
        "seed": settings.seed,
    }
    return NodeSpec("monitor_node", parameters, nice=5)


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
