"""Whatever arrives in whatever order, the robot's own limits hold, and without a fresh joint state nothing starts to move."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mechanic_rl_ros.data import ActionChunk, Source
from mechanic_rl_ros.embodiment import Channel, load_embodiment
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.clearance import Clearance
from mechanic_rl_ros.safety.commander import Commander
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.safety.reading import JointReading
from mechanic_rl_ros.sim.trajectory import TrajectoryController

MS = 1_000_000
EMBODIMENT = load_embodiment()
BIN = {"name": "bin", "low": [0.55, -0.3, 0.0], "high": [0.7, 0.1, 0.2]}
SHELF = {"name": "shelf", "low": [0.2, 0.25, 0.3], "high": [0.7, 0.5, 0.9]}
CROWDED = SafetyLimits.from_dict({"table_height": 0.0, "keep_out": [BIN, SHELF]})
MAX_AGE_NS = round(EMBODIMENT.joints.max_age * 1e9)
numbers = st.sampled_from([0.0, 0.3, -0.3, 1.0, -1.0, 5.0, -1e30, 1e30, float("nan"), float("inf"), float("-inf")])
sane = st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])
stamps = st.sampled_from([0, 0, 0, -20, -80, -140, -500, -(10**6), 40, 500, 10**7, 10**12])  # ms after the commander's clock

actions = st.one_of(st.lists(sane, min_size=4, max_size=4), st.lists(numbers, min_size=4, max_size=4), st.lists(numbers, min_size=3, max_size=3))
chunks = st.tuples(st.just("chunk"), actions, stamps, st.sampled_from([100 * MS, 100 * MS, 20 * MS, 1, 0, -5]), st.integers(0, 12))
broken = st.tuples(st.just("broken"), st.lists(numbers, min_size=4, max_size=4))
overrides = st.tuples(st.just("override"), st.one_of(st.none(), actions), stamps)
joints = st.tuples(st.just("joints"), st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.3, -2.0, float("nan"), 1e300]), stamps)
runs = st.tuples(st.just("run"), st.integers(1, 50))
blind = st.tuples(st.just("blind"), st.integers(1, 50))
clocks = st.tuples(st.just("clock"), st.sampled_from([-10_000, -40, -1, 1, 15, 60, 150, 10_000, 10**9]))
pauses = st.tuples(st.just("pause"), st.integers(2, 30))  # one standing tick is forgiven: two timer calls may fall on the same instant
others = st.sampled_from(
    [("start",), ("start",), ("stop",), ("moved", 0.4), ("moved", -1.0), ("home",), ("emergency",), ("reset",), ("obstacle", "reflex"), ("obstacle", "")]
)
events = st.lists(st.one_of(runs, runs, chunks, chunks, broken, overrides, joints, clocks, pauses, blind, others), min_size=5, max_size=30)
poses = st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7).map(
    lambda s: limits.POSITION_LOWER + np.array(s) * (limits.POSITION_UPPER - limits.POSITION_LOWER)
)


def moved_by(scale, *names):
    return replace(EMBODIMENT, action=(*(Channel(name, "", "", scale) for name in names), EMBODIMENT.action[-1]))


CELLS = {
    "tool velocities": (EMBODIMENT, SafetyLimits.load()),
    "tool velocities in a crowded cell": (EMBODIMENT, CROWDED),
    "displacements and turns of the tool": (moved_by(0.05, "tcp_delta_x", "tcp_delta_y", "tcp_delta_z", "tcp_turn_x", "tcp_turn_z"), CROWDED),
    "slow tool, joint positions": (
        moved_by(0.5, *(f"joint{n}_position" for n in range(1, 8))),
        SafetyLimits.from_dict({"table_height": 0.0, "tcp_speed": 0.1}),
    ),
    "joint velocities": (moved_by(2.0, *(f"joint{n}_velocity" for n in range(1, 8))), CROWDED),
}


class World:
    """A robot on its own steady clock, and a commander on a clock that may jump."""

    def __init__(self, pose, embodiment, bounds):
        self.commander = Commander(embodiment, bounds=bounds)
        self.clearance, self.kinematics, self.tcp_speed = Clearance(embodiment, bounds), Kinematics(embodiment), bounds.tcp_speed
        self.dim = len(embodiment.action)
        self.robot = TrajectoryController(pose)
        self.robot_ns = 0
        self.now_ns = 50_000_000_000
        self.velocities = []  # of the robot, every millisecond since it was last put somewhere by hand

    def play(self, events):
        self.commander.start()
        for name, *values in [("run", 40), ("chunk", [1.0, -1.0, 1.0, 1.0], 0, 100 * MS, 8), *events, ("run", 40)]:
            getattr(self, name)(*values)

    def run(self, ticks):
        for _ in range(ticks):
            self.joints(0.0, 0)
            self._tick(10 * MS, 10 * MS)

    def blind(self, ticks):
        for _ in range(ticks):
            self._tick(10 * MS, 10 * MS)

    def pause(self, ticks):
        for _ in range(ticks):
            self._tick(0, 10 * MS)

    def clock(self, milliseconds):
        """The commander's clock jumps; small steps are real time that passes between two ticks."""
        real = 1 <= milliseconds <= 100
        self._tick(milliseconds * MS, milliseconds * MS if real else 0)

    def joints(self, offset, stamp_ms):
        q, v = self.robot.sample(self.robot_ns)
        self.commander.set_joints(JointReading(self.now_ns + stamp_ms * MS, q + offset, v, np.zeros(7), 0.0, 0.0))

    def _fit(self, action):
        """As many numbers as the embodiment has channels, unless it is an action of the wrong width."""
        return np.resize(np.array(action, np.float32), self.dim if len(action) == 4 else 3)

    def chunk(self, action, stamp_ms, period_ns, steps):
        actions = np.tile(self._fit(action), (steps, 1))
        self.commander.set_chunk(ActionChunk(self.now_ns + stamp_ms * MS, period_ns, actions))

    def broken(self, action):
        """A chunk in good time with an action that may be anything, played for a while after a start."""
        self.commander.set_override(None, self.now_ns)
        self.start()
        self.run(40)
        self.chunk(action, 0, 100 * MS, 8)
        self.run(20)

    def override(self, action, stamp_ms):
        self.commander.set_override(None if action is None else self._fit(action), self.now_ns + stamp_ms * MS)

    def start(self):
        self.commander.start()

    def stop(self):
        self.commander.stop("test")

    def home(self):
        self.commander.go_home()

    def emergency(self):
        self.commander.emergency_stop()

    def reset(self):
        self.commander.reset_emergency_stop()

    def obstacle(self, reason):
        self.commander.set_obstacle(reason)

    def moved(self, offset):
        """A reset: the commander is stopped, someone else moves the arm, and the commander is started again."""
        self.commander.stop("reset")
        self.run(1)
        while self.robot.sample(self.robot_ns)[1].any():
            self.run(1)
        q, _ = self.robot.sample(self.robot_ns)
        self.robot.hold(np.clip(q + offset, limits.POSITION_LOWER + 0.05, limits.POSITION_UPPER - 0.05))
        self.velocities.clear()
        self.commander.start(not_before_ns=self.now_ns, placed=True)

    def _tick(self, clock_ns, real_ns):
        reading = self.commander._reading
        if self.commander._motion.controller is None and reading is not None:
            self.robot.hold(np.clip(reading.positions, limits.POSITION_LOWER, limits.POSITION_UPPER))  # the first reading is believed: it is where the arm is
        speed = np.abs(self.robot.sample(self.robot_ns)[1]).max()
        command = self.commander.tick(self.now_ns)
        fresh = reading is not None and -50 * MS <= self.now_ns - reading.stamp_ns <= MAX_AGE_NS
        if command.trajectory is not None:
            self.robot.set_trajectory(command.trajectory, self.robot_ns)
            self._check_limits(command.trajectory)
            if not command.holding.startswith("resynchronising"):  # then the arm goes to where it is measured to be, wherever that is
                self._check_clearance(command.trajectory)
                self._check_tool_speed(command.trajectory)
            if not fresh:
                assert command.source is Source.HOLD
                assert self._top_speed(command.trajectory) <= speed + 0.5 * limits.ACCELERATION * 0.01, "acceleration ends within 10 ms"
                assert command.trajectory.times_s[-1] <= 0.15
        if command.holding:
            assert command.source is Source.HOLD
            assert not command.action.any()
        assert np.isfinite(command.action).all()
        assert (np.abs(command.action) <= 1.0).all()
        self.now_ns += clock_ns
        self._pass(real_ns)

    def _pass(self, real_ns):
        """The robot goes on; every millisecond it looks at its own acceleration and jerk, as its controller does."""
        for _ in range(real_ns // MS):
            self.velocities.append(self.robot.sample(self.robot_ns)[1])
            self.robot_ns += MS
        accelerations = np.diff(self.velocities[-130:], axis=0) / 1e-3
        if len(accelerations) > 1:
            assert np.abs(accelerations).max() <= limits.ACCELERATION
            assert np.abs(np.diff(accelerations, axis=0)).max() / 1e-3 <= limits.JERK

    def _samples(self, trajectory):
        times = self.robot_ns + (np.linspace(0.0, trajectory.times_s[-1], 40) * 1e9).astype(np.int64)
        q, v = zip(*(self.robot.sample(int(time)) for time in times), strict=True)
        return np.array(q), np.array(v)

    def _top_speed(self, trajectory):
        return np.abs(self._samples(trajectory)[1]).max()

    def _check_limits(self, trajectory):
        q, v = self._samples(trajectory)
        assert (q >= limits.POSITION_LOWER - 1e-9).all()
        assert (q <= limits.POSITION_UPPER + 1e-9).all()
        low, high = limits.velocity_bounds(q)
        assert (v >= low - 1e-6).all(), (v - low).min()
        assert (v <= high + 1e-6).all(), (high - v).min()

    def _check_clearance(self, trajectory):
        """Nobody comes closer than allowed to walls, table or boxes; who is too close already comes no closer."""
        for name, margins in self.clearance.margins(self._samples(trajectory)[0]).items():
            assert margins.min() >= min(margins[0], 0.0) - 5e-4, name

    def _check_tool_speed(self, trajectory):
        q, v = self._samples(trajectory)
        speeds = [np.linalg.norm(self.kinematics.jacobian(at)[:3] @ speed) for at, speed in zip(q, v, strict=True)]
        assert max(speeds) <= max(self.tcp_speed, speeds[0]) + 0.002


@pytest.mark.parametrize("cell", CELLS)
@given(st.one_of(st.just(np.array(EMBODIMENT.joints.home)), poses), events)
@example(np.array([-0.2572, -0.4459, 0.9065, -1.9582, 0.7016, 1.041, 1.5079]), [("broken", [0.0, 0.0, -0.3, 0.0])])  # through the middle of a box
@settings(max_examples=100, deadline=None)
def test_no_sequence_of_inputs_makes_the_arm_break_its_limits_or_move_blindly(cell, pose, events):
    World(pose, *CELLS[cell]).play(events)
