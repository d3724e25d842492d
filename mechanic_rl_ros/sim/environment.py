"""The closed loop without ROS: simulation, commander and observations with no latency, faster than real time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechanic_rl_ros.data import ActionChunk, Observation
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.observe import Observer
from mechanic_rl_ros.safety.command import Command
from mechanic_rl_ros.safety.commander import Commander
from mechanic_rl_ros.sim.simulation import Simulation

COMMAND_S = 0.01  # s between two commands, as in the live graph
LONGEST_START = 100  # commands until the arm must be ready


@dataclass(frozen=True)
class StepResult:
    """What one step led to.

    Attributes:
        observation: What is seen after it.
        reward: 1 when the task was solved in it, else 0.
        terminated: The task is solved.
        truncated: The episode is over without success: a time-out, not a terminal state.
        success: Same as ``terminated``, for readers that look for success.
    """

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    success: bool


class Environment:
    """Episodes of one task. The same simulation, commander and observer as in the live graph."""

    def __init__(self, task: str, embodiment: Embodiment, renderer: str = "rays", max_steps: int = 60) -> None:
        """Builds the scene.

        Args:
            task: Name of a task.
            embodiment: The robot.
            renderer: ``rays`` or ``mujoco``.
            max_steps: Steps until an episode is truncated.

        Raises:
            UserError: Unknown task or renderer.
        """
        self.simulation = Simulation(task, embodiment, renderer=renderer)
        self._embodiment = embodiment
        self._observer = Observer(embodiment)
        self._commander = Commander(embodiment, COMMAND_S)
        self._max_steps = max_steps
        self._steps = max_steps  # no episode yet
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int, region: str = "all") -> Observation:
        """Starts an episode in the scene of ``seed``; ``region`` is ``all`` or ``narrow``."""
        self.simulation.reset(seed, region)
        self._rng = np.random.default_rng([seed, 1])
        self._steps = 0
        self._commander = Commander(self._embodiment, COMMAND_S)
        self._commander.start()
        for _ in range(LONGEST_START):
            if not self._tick().holding.startswith("resynchronising"):
                return self.observe()
        raise UserError("the simulated arm did not get ready: check `home` in the embodiment file")

    def step(self, action: ArrayLike) -> StepResult:
        """Executes ``action`` (A,), normalised to [-1, 1], for one policy period.

        Raises:
            UserError: Wrong shape, or the episode is over.
        """
        success, over = self.move(action)
        return StepResult(self.observe(), float(success), success, over and not success, success)

    def move(self, action: ArrayLike) -> tuple[bool, bool]:
        """As ``step``, for who does not look at what came of it: whether the task is solved, and whether the episode is over.

        Raises:
            UserError: Wrong shape, or the episode is over.
        """
        actions = np.asarray(action, dtype=np.float32)[None]
        if actions.shape != (1, len(self._embodiment.action)):
            raise UserError(f"action has shape {actions.shape[1:]}: give ({len(self._embodiment.action)},)")
        if self._steps >= self._max_steps:
            raise UserError("the episode is over: call reset first")
        self._commander.set_chunk(ActionChunk(self.simulation.time_ns, self._embodiment.period_ns, actions))
        for _ in range(round(self._embodiment.period / COMMAND_S)):
            self._tick()
        success = self.simulation.task_state().success
        self._steps = self._max_steps if success else self._steps + 1
        return success, self._steps >= self._max_steps

    def observe(self) -> Observation:
        """What is seen now."""
        images = {camera: self.simulation.render(camera) for camera in self._embodiment.cameras}
        return self._observer.observation(self.simulation.time_ns, images, self.simulation.joint_state())

    def expert(self, noise: float = 0.0) -> NDArray[np.float32]:
        """Action (4,) of the scripted expert for now, with Gaussian noise of deviation ``noise`` (normalised) on its velocity."""
        action = self.simulation.expert()
        action[:3] = np.clip(action[:3] + noise * self._rng.standard_normal(3), -1.0, 1.0)
        return action.astype(np.float32)

    def close(self) -> None:
        """Gives back what the renderer holds."""
        self.simulation.close()

    def _tick(self) -> Command:
        simulation = self.simulation
        self._commander.set_joints(simulation.joint_state())
        command = self._commander.tick(simulation.time_ns)
        if command.trajectory is not None:
            simulation.set_trajectory(command.trajectory)
        if command.finger is not None:
            simulation.set_finger(command.finger)
        simulation.advance(COMMAND_S)
        return command
