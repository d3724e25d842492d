"""An arm that follows what the commander sends, without physics."""

import numpy as np
import pytest

from mechanic_rl_ros.data import ActionChunk
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.safety.commander import Commander
from mechanic_rl_ros.safety.reading import JointReading
from mechanic_rl_ros.sim.trajectory import TrajectoryController

MS = 1_000_000
PERIOD_NS = 10 * MS


class Arm:
    """A commander and the trajectory controller that obeys it, on one clock."""

    def __init__(self):
        self.embodiment = load_embodiment()
        self.commander = Commander(self.embodiment)
        self.controller = TrajectoryController(self.embodiment.joints.home)
        self.now_ns = 1_000_000_000

    def reading(self, stamp_ns=None, offset=0.0):
        q, v = self.controller.sample(self.now_ns)
        return JointReading(self.now_ns if stamp_ns is None else stamp_ns, q + offset, v, np.zeros(7), 0.04, 0.0)

    def chunk(self, action=(0.5, 0.0, 0.0, -1.0), steps=8, stamp_ns=None, **kwargs):
        stamp_ns = self.now_ns if stamp_ns is None else stamp_ns
        return ActionChunk(stamp_ns, self.embodiment.period_ns, np.tile(np.array(action, dtype=np.float32), (steps, 1)), **kwargs)

    def tick(self, joints=True):
        if joints:
            self.commander.set_joints(self.reading())
        command = self.commander.tick(self.now_ns)
        if command.trajectory is not None:
            self.controller.set_trajectory(command.trajectory, self.now_ns)
        self.now_ns += PERIOD_NS
        return command

    def ticks(self, seconds, joints=True):
        return [self.tick(joints) for _ in range(round(seconds * 1e9 / PERIOD_NS))]

    def start(self):
        """Starts the commander and waits until it follows actions."""
        self.commander.start()
        assert [command.holding for command in self.ticks(0.4)][-1] == "no action for now"

    def at_rest(self):
        return not self.controller.sample(self.now_ns)[1].any()

    def speed(self):
        return float(np.abs(self.controller.sample(self.now_ns)[1]).max())


@pytest.fixture
def arm():
    return Arm()
