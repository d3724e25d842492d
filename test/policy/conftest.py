"""A small checkpoint with random weights, and observations to feed it."""

import numpy as np
import pytest
import torch

from mechanic_rl_ros.data import Observation
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.critic import TwinQ, Value
from mechanic_rl_ros.policy.policy import Policy

torch.set_num_threads(1)


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    embodiment = load_embodiment()
    config = PolicyConfig.for_embodiment(embodiment)
    critics = torch.nn.ModuleDict({"q": TwinQ(config), "value": Value(config)}).state_dict()
    frames = torch.randn(9, config.frame_dim).half()
    demonstrations = {"frames": frames, "actions": torch.zeros(9, config.action_dim).half(), "lengths": torch.tensor([4, 5])}
    return Checkpoint("lift", embodiment, config, Policy(config).state_dict(), critics, demonstrations, 7, {"prefers_best_of_n": True})


@pytest.fixture
def observe():
    embodiment = load_embodiment()

    def make(seed: int) -> Observation:
        rng = np.random.default_rng(seed)
        images = {key: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8) for key, camera in embodiment.cameras.items()}
        return Observation(seed, images, rng.normal(size=len(embodiment.state)).astype(np.float32))

    return make
