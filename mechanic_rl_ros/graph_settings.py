"""Where and on what the graph runs; everything else is in the parameter files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import checkpoint_directory, config_directory
from mechanic_rl_ros.scene_seeds import EVALUATION_SEED, LARGEST_SEED, SEEDS_PER_RUN
from mechanic_rl_ros.yaml_file import read_yaml

SIMULATIONS = ("mujoco", "gazebo", "none")
ROBOTS = ("franka", "crisp")
SPEEDS = (0.05, 20.0)  # real-time factors that the embedded simulation offers
NONE = "none"


@dataclass(frozen=True)
class GraphSettings:
    """What launch files and command line say about a graph.

    Attributes:
        task: Task name.
        run_directory: Episodes, checkpoints, logs and metrics go here.
        checkpoint: Folder of the policy to start from; the base checkpoint of the task when empty.
        simulation: ``mujoco`` (embedded), ``gazebo``, or ``none`` for a robot.
        robot: What drives the arm where nothing is simulated: ``franka`` (franka_ros2) or ``crisp`` (crisp_controllers).
        robot_ip: Address of the robot; empty: its driver runs already.
        bringup: Whether simulation or drivers and the scene's node are started, too; False: another launch has done it.
        episodes: Episodes to practise; 0: until stopped.
        seed: Seed of scenes, sampling and learner.
        real_time_factor: Simulated seconds per second of the embedded simulation.
        embodiment: Name or file of the embodiment.
        cameras: Driver of the robot's cameras, a file of config/cameras/; ``none``: they run already.
        joystick: Device of an operator, a file of config/joystick/; ``none``: there is none.
        rviz: Whether RViz is started.
        namespace: ROS namespace of every node.
        parameter_file: YAML file of node parameters.
        log_level: Of every node.
        learn: Whether the learner takes part.
        algorithm: How it learns: a section of config/learner.yaml.
        evaluate: Acts as well as it can instead of practising, in scenes that no practice uses.
    """

    task: str = "lift"
    run_directory: str = "runs/latest"
    checkpoint: str = ""
    simulation: str = "mujoco"
    robot: str = "franka"
    robot_ip: str = ""
    bringup: bool = True
    episodes: int = 260
    seed: int = 0
    real_time_factor: float = 1.5
    embodiment: str = "fr3"
    cameras: str = NONE
    joystick: str = NONE
    rviz: bool = False
    namespace: str = ""
    parameter_file: str = ""
    log_level: str = "info"
    learn: bool = True
    algorithm: str = "filtered_iql"
    evaluate: bool = False

    @property
    def simulated(self) -> bool:
        """Whether time is simulated."""
        return self.simulation != NONE

    @property
    def backend(self) -> str:
        """What moves the arm."""
        return self.simulation if self.simulated else self.robot

    @property
    def first_scene(self) -> int:
        """Scene seed of the first episode."""
        return self.seed * SEEDS_PER_RUN + (EVALUATION_SEED if self.evaluate else 0)

    def resolved_checkpoint(self) -> str:
        """Folder of the policy to start from."""
        return str(Path(self.checkpoint).resolve()) if self.checkpoint else str(checkpoint_directory(self.task))

    def resolved_parameter_file(self) -> str:
        """The parameter file that every node reads."""
        return self.parameter_file or str(config_directory() / "nodes.yaml")

    def check(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            UserError: A setting is out of range or does not go with another one, or the parameter file cannot be read.
        """
        _one_of("simulation", self.simulation, SIMULATIONS)
        _one_of("robot", self.robot, ROBOTS)
        _within("seed", self.seed, 0, LARGEST_SEED)
        _within("episodes", self.episodes, 0, SEEDS_PER_RUN)
        _within("real-time factor", self.real_time_factor, *SPEEDS)
        if self.simulated and (self.robot_ip or self.cameras != NONE):
            raise UserError(
                f"simulation {self.simulation} has neither a robot's address nor camera drivers: leave robot_ip and cameras out, or use simulation none"
            )
        if self.robot_ip and self.robot != "franka":
            raise UserError(f"robot_ip is for robot franka: start the drivers of {self.robot} yourself, and leave robot_ip out")
        _check_parameter_file(self.resolved_parameter_file())


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name} {value!r} is unknown: use one of {', '.join(known)}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also what is not a number
        raise UserError(f"{name} {value} is out of range: choose one from {low:g} to {high:g}")


def _check_parameter_file(path: str) -> None:
    if not _holds_parameters(read_yaml(path, "parameter file", "give an existing YAML file")):
        raise UserError(f"parameter file {path} is not of the form `/**/node: ros__parameters: name: value`: compare it with config/nodes.yaml")


def _holds_parameters(section: Any) -> bool:
    """Whether every path through the mappings, of namespaces and nodes, leads to a mapping called ``ros__parameters``."""
    if not isinstance(section, dict) or not section:
        return False
    return all(isinstance(value, dict) if name == "ros__parameters" else _holds_parameters(value) for name, value in section.items())
