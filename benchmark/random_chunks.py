"""An arm in MuJoCo that is given random action chunks for an hour: does anything break a limit, or touch the table?

    python benchmark/random_chunks.py [--minutes 60] [--seed 0]

Chunks are random in direction, size, length and time: extreme, tiny, constant, jumping, late, of the future, malformed, not
finite; the joint states fail at times, and an operator takes over at times. What the arm's trajectory controller desires is
looked at every millisecond of simulated time, as a robot does. Exit status 1 if anything was broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import mujoco
import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import ActionChunk
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.clearance import Clearance
from mechanic_rl_ros.safety.commander import Commander
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.sim.simulation import Simulation
from mechanic_rl_ros.sim.trajectory import TrajectoryController

TICK_NS, MS = 10_000_000, 1_000_000
EMBODIMENT = load_embodiment()
ROUNDING = 1e-6


class Trial:
    """Commander and simulation, in which what the commander sends is followed twice: by the simulation, and for the record."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.simulation = Simulation("lift", EMBODIMENT)
        self.bounds = limits.SafetyLimits.load()
        self.commander = Commander(EMBODIMENT, TICK_NS * 1e-9, self.bounds)
        self.desired = TrajectoryController(EMBODIMENT.joints.home)
        self.clearance, self.kinematics = Clearance(EMBODIMENT, self.bounds), Kinematics(EMBODIMENT)
        self.broken: Counter[str] = Counter()
        self.limited: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.most: dict[str, float] = {}
        self.blind_until_ns, self.last = 0, np.zeros((2, 7))
        self.stopped = False
        self.commander.start()

    def run(self, seconds: float) -> None:
        """``seconds`` of simulated time."""
        for tick in range(round(seconds / (TICK_NS * 1e-9))):
            now_ns = self.simulation.time_ns
            if tick % 10 == 0:
                self.disturb(now_ns)
            if now_ns >= self.blind_until_ns:
                self.commander.set_joints(self.simulation.joint_state())
            command = self.commander.tick(now_ns)
            self.limited.update(command.limited)
            self.held[command.holding or "moving"] += 1
            if command.trajectory is not None:
                self.desired.set_trajectory(command.trajectory, now_ns)
                self.simulation.set_trajectory(command.trajectory)
            if command.finger is not None:
                self.simulation.set_finger(command.finger)
            self.simulation.advance(TICK_NS * 1e-9)
            self.look(now_ns)

    def disturb(self, now_ns: int) -> None:
        """A chunk, and now and then something worse."""
        rng = self.rng
        actions = rng.choice([0.1, 1.0, 1.0, 3.0]) * rng.uniform(-1.0, 1.0, (rng.integers(1, 17), len(EMBODIMENT.action)))
        if rng.random() < 0.5:
            actions = np.tile(np.sign(actions[:1]), (8, 1))
        if rng.random() < 0.02:
            actions[rng.integers(len(actions))] = rng.choice([np.nan, np.inf, -np.inf, 1e30])
        late_ns = int(rng.choice([0, 0, 0, 40, 150, 2000, -500, -5000])) * MS
        if rng.random() < 0.7:
            self.commander.set_chunk(ActionChunk(now_ns - late_ns, EMBODIMENT.period_ns, actions.astype(np.float32)))
        if rng.random() < 0.005:
            self.blind_until_ns = now_ns + int(rng.integers(50, 1000)) * MS
        if rng.random() < 0.02:
            self.commander.set_override(rng.uniform(-1.5, 1.5, len(EMBODIMENT.action)), now_ns)
        elif rng.random() < 0.1:
            self.commander.set_override(None, now_ns)
        if self.stopped and rng.random() < 0.3:
            self.commander.start()
            self.stopped = False
        elif rng.random() < 0.005:
            self.commander.stop("stopped")
            self.stopped = True

    def look(self, now_ns: int) -> None:
        """Ten milliseconds of what the arm was told, and what it touches now."""
        states = [self.desired.state(now_ns + ms * MS) for ms in range(TICK_NS // MS)]
        q, v = (np.array([state[index] for state in states]) for index in (0, 1))
        velocities = np.vstack([self.last, v])
        a = np.diff(velocities, axis=0) / 1e-3
        self.last = v[-2:]
        low, high = limits.velocity_bounds(q)
        self.keep("joint position", np.maximum(limits.POSITION_LOWER - q, q - limits.POSITION_UPPER), 0.0)
        self.keep("joint velocity above its bound", np.maximum(low - v, v - high), 0.0)
        self.keep("joint acceleration, rad/s^2", np.abs(a), limits.ACCELERATION)
        self.keep("joint jerk, rad/s^3", np.abs(np.diff(a, axis=0)) / 1e-3, limits.JERK)
        self.keep("tool speed, m/s", np.linalg.norm(self.kinematics.jacobian(q[-1])[:3] @ v[-1], keepdims=True), self.bounds.tcp_speed)
        for name, margins in self.clearance.margins(q[-1:]).items():
            self.keep(f"beyond {name}, m", -margins, 0.0)
        for contact in self.simulation.data.contact[: self.simulation.data.ncon]:
            names = {mujoco.mj_id2name(self.simulation.model, mujoco.mjtObj.mjOBJ_GEOM, geom) or "" for geom in contact.geom}
            if "table" in names and not names <= {"table", "cube"}:
                self.broken[f"contact of table and {(names - {'table'}).pop()}"] += 1

    def keep(self, name: str, values: NDArray[np.float64], bound: float) -> None:
        """Notes the largest value, and whether it is beyond its bound."""
        largest = float(values.max())
        self.most[name] = max(self.most.get(name, -np.inf), largest)
        self.broken[name] += largest > bound + ROUNDING


def main() -> None:
    """Runs it and prints what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="of simulated time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    trial, started = Trial(options.seed), time.process_time()
    trial.run(60.0 * options.minutes)
    print(f"{options.minutes:g} simulated minutes of random chunks, seed {options.seed}, {time.process_time() - started:.0f} processor seconds.\n")
    print("| | largest | times broken |\n|---|---|---|")
    for name in dict.fromkeys([*trial.most, *trial.broken]):
        print(f"| {name} | {f'{trial.most[name]:.5g}' if name in trial.most else ''} | {trial.broken[name]} |")
    ticks = sum(trial.held.values())
    print("\nLimits that acted: " + ", ".join(f"{name} {count / ticks:.1%}" for name, count in trial.limited.most_common()))
    print("The arm: " + ", ".join(f"{name} {count / ticks:.1%}" for name, count in trial.held.most_common()))
    sys.exit(1 if trial.broken.total() else 0)


if __name__ == "__main__":
    main()
