"""Scripted demonstrations, deliberately narrow and noisy: a policy cloned from them leaves room to practise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.algorithms.configuration import read_section
from mechanic_rl_ros.data import Episode, Observation, Source
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.rollout import record_episode
from mechanic_rl_ros.sim.environment import Environment
from mechanic_rl_ros.workers import over_seeds

DEMONSTRATION_SEED = 400_000
"""First scene seed of demonstrations."""


@dataclass(frozen=True)
class CollectionConfig:
    """How demonstrations are made.

    Attributes:
        episodes: Solved demonstrations to collect.
        region: Part of the scene in which objects are placed.
        noise: Standard deviation of the disturbance of the expert's velocity, normalised.
        memory: How much of the disturbance one step hands on to the next (an Ornstein-Uhlenbeck process), 0 to 1.
    """

    episodes: int = field(default=60, metadata={"low": 1, "high": 100_000})
    region: str = "narrow"
    noise: float = field(default=0.2, metadata={"low": 0.0, "high": 2.0})
    memory: float = field(default=0.5, metadata={"low": 0.0, "high": 0.99})

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str] | None = None) -> CollectionConfig:
        """Reads section ``collection`` of config/learner.yaml, or of the file given."""
        return read_section(cls, "collection", path)


def collect(task: str, embodiment: Embodiment, config: CollectionConfig, first_seed: int = DEMONSTRATION_SEED, workers: int = 1) -> Iterator[Episode]:
    """Yields ``config.episodes`` solved demonstrations, as they are made.

    Args:
        task: Task name.
        embodiment: The robot.
        config: How.
        first_seed: Scene seed of the first attempt; further attempts count up. An attempt that the disturbance makes fail is left out.
        workers: Processes; the result does not depend on it.

    Raises:
        UserError: Unknown task or region.
    """
    attempts, kept = 0, 0
    while kept < config.episodes:
        missing = config.episodes - kept
        seeds = range(first_seed + attempts, first_seed + attempts + missing)
        for episode in over_seeds(_Demonstrator, (task, embodiment, config), seeds, workers):
            if episode.success:
                yield episode
                kept += 1
        attempts += missing


class _Demonstrator:
    """Environment and disturbed expert of one process."""

    def __init__(self, task: str, embodiment: Embodiment, config: CollectionConfig) -> None:
        self.env, self.config = Environment(task, embodiment), config

    def __call__(self, seed: int) -> Episode:
        rng, dims = np.random.default_rng(seed), len(self.env.simulation.embodiment.action)
        disturbance = np.zeros(dims - 1)

        def choose(observation: Observation) -> NDArray[np.float32]:
            nonlocal disturbance
            fresh = rng.normal(0.0, self.config.noise, dims - 1)
            disturbance = self.config.memory * disturbance + (1.0 - self.config.memory**2) ** 0.5 * fresh
            action = np.array(self.env.expert(), np.float32)
            action[:-1] = np.clip(action[:-1] + disturbance, -1.0, 1.0)  # the gripper is not disturbed
            return action

        return record_episode(self.env, choose, seed, f"{self.env.simulation.task.name}-{seed:07d}-expert", region=self.config.region, source=Source.EXPERT)
