"""A one-dimensional stand-in for the robot, whose images show where the target is, so that learning can be tested in seconds."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mechanic_rl_ros.data import Episode, Observation
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.rollout import record_episode

torch.set_num_threads(1)


class LineWorld:
    """The hand slides along x; a bright column of the front image shows the target. Solved within 2 cm of it."""

    def __init__(self, max_steps: int = 12) -> None:
        self.simulation = SimpleNamespace(embodiment=load_embodiment(), task=SimpleNamespace(name="line"))
        self.max_steps = max_steps

    def reset(self, seed: int, region: str = "all") -> Observation:
        self.target = float(np.random.default_rng(seed).uniform(0.04, 0.2)) * (-1.0) ** seed
        self.x, self.steps = 0.0, 0
        return self._observe()

    def step(self, action):
        self.x, self.steps = self.x + 0.03 * float(action[0]), self.steps + 1
        success = abs(self.x - self.target) < 0.02
        over = self.steps >= self.max_steps and not success
        return SimpleNamespace(observation=self._observe(), reward=float(success), terminated=success, truncated=over, success=success)

    def expert(self) -> np.ndarray:
        return np.array([np.clip((self.target - self.x) / 0.03, -1, 1), 0.0, 0.0, -1.0], np.float32)

    def _observe(self) -> Observation:
        images = {key: np.zeros((camera.height, camera.width, 3), np.uint8) for key, camera in self.simulation.embodiment.cameras.items()}
        column = round(24 + self.target * 100)
        images["front"][20:28, column - 2 : column + 3] = 255
        return Observation(100_000_000 * self.steps, images, np.array([self.x, 0.0, 0.0, 0.04], np.float32))


@pytest.fixture
def world() -> LineWorld:
    return LineWorld()


@pytest.fixture
def practise(world):
    """Makes an episode of a policy that does as the expert does, or wanders off the other way and never arrives."""

    def make(seed: int, expert: bool = True, best_of_n: bool = False) -> Episode:
        rng = np.random.default_rng(seed)

        def choose(observation):
            return world.expert() if expert else np.append(-np.sign(world.target) * rng.uniform(0.5, 1.0), [0.0, 0.0, -1.0]).astype(np.float32)

        return record_episode(world, choose, seed, f"line-{seed}-{expert}", best_of_n=best_of_n)

    return make


@pytest.fixture
def checkpoint(practise) -> Checkpoint:
    """Random weights, two demonstrations."""
    torch.manual_seed(0)
    embodiment = load_embodiment()
    config = PolicyConfig.for_embodiment(embodiment)
    lengths = torch.tensor([6, 9])
    frames, actions = torch.randn(15, config.frame_dim).half(), torch.rand(15, config.action_dim).half()
    return Checkpoint("line", embodiment, config, Policy(config).state_dict(), None, {"frames": frames, "actions": actions, "lengths": lengths})
