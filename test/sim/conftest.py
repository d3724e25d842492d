import pytest

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.sim.environment import Environment
from mechanic_rl_ros.sim.simulation import Simulation


@pytest.fixture(scope="session")
def embodiment():
    return load_embodiment()


@pytest.fixture
def simulation(embodiment):
    return Simulation("lift", embodiment)


@pytest.fixture(scope="module")
def environment(embodiment):
    return Environment("lift", embodiment)
