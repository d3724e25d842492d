"""Episodes of plausible contents for tests."""

import numpy as np
import pytest

from mechanic_rl_ros.data import Episode, Outcome
from mechanic_rl_ros.embodiment import load_embodiment


def build_episode(id="e1", steps=4, seed=3, smooth=True, outcome=Outcome.SUCCESS, best_of_n=False):
    """An episode of plausible contents; ``smooth`` images compress as rendered ones do."""
    body = load_embodiment()
    random = np.random.default_rng(seed)

    def pictures(camera):
        shape = (steps + 1, camera.height, camera.width, 3)
        base = np.linspace(0, 200, shape[1] * shape[2] * 3).reshape(1, *shape[1:])
        noise = random.integers(0, 3, shape) if smooth else random.integers(0, 200, shape)
        return (base + noise).clip(0, 255).astype(np.uint8)

    return Episode(
        id=id,
        task="lift",
        seed=seed,
        outcome=outcome,
        stamps_ns=np.arange(steps + 1, dtype=np.int64) * 100_000_000 + 123_456_789_012,
        images={key: pictures(camera) for key, camera in body.cameras.items()},
        states=random.normal(size=(steps + 1, 4)).astype(np.float32),
        actions=random.uniform(-1, 1, (steps, 4)).astype(np.float32),
        rewards=np.eye(1, steps, steps - 1, dtype=np.float32)[0],
        policy_versions=np.arange(steps, dtype=np.int64),
        sources=random.integers(0, 4, steps).astype(np.uint8),
        best_of_n=best_of_n,
        embodiment=body,
    )


@pytest.fixture
def make_episode():
    return build_episode


@pytest.fixture
def episode():
    return build_episode()
