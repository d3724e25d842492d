"""Time of one period of the command node's core, compiled and readable, in one run.

python benchmark/commander.py > benchmark/results/commander.md
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np

from mechanic_rl_ros.data import ActionChunk
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.safety import action_space, commander
from mechanic_rl_ros.safety.commander import Commander
from mechanic_rl_ros.safety.motion import Motion
from mechanic_rl_ros.safety.reading import JointReading
from mechanic_rl_ros.safety.servo import Servo

PERIOD_NS = 10_000_000
EMBODIMENT = load_embodiment()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--periods", type=int, default=400, help="of a round")
    options = parser.parse_args()
    compiled: list[float] = []
    readable: list[float] = []
    for number in range(options.rounds):
        compiled.append(microseconds(Commander(EMBODIMENT), options.periods, number))
        with patch.object(commander, "make_motion", Motion), patch.object(action_space, "make_servo", Servo):
            readable.append(microseconds(Commander(EMBODIMENT), options.periods, number))
    print(f"Measured {time.strftime('%Y-%m-%d')} on 1 core of {platform.machine()}, {options.rounds} rounds of {options.periods} periods each way, in turn.\n")
    print("| one period of the command node's core | min | median | max |\n|---|---|---|---|")
    ratios = [slow / fast for fast, slow in zip(compiled, readable, strict=True)]
    for name, numbers, form in (("compiled, us", compiled, ".0f"), ("readable, us", readable, ".0f"), ("times faster", ratios, ".1f")):
        print(f"| {name} | {min(numbers):{form}} | {statistics.median(numbers):{form}} | {max(numbers):{form}} |")


def microseconds(arm: Commander, periods: int, seed: int) -> float:
    """Of one tick, the joint state before it included, while a chunk of random tool velocities plays and an ideal arm follows."""
    rng, q, now = np.random.default_rng(seed), np.array(EMBODIMENT.joints.home), 0
    follow: Callable[[int], np.ndarray] = lambda _: q  # noqa: E731 - until the first trajectory
    arm.start()
    spent = 0.0
    for period in range(periods + 60):
        if period % 40 == 0:
            arm.set_chunk(ActionChunk(now, 100_000_000, rng.uniform(-1.0, 1.0, (8, len(EMBODIMENT.action))).astype(np.float32)))
        reading = JointReading(now, follow(now), np.zeros(7), np.zeros(7), 0.04, 0.0)
        started = time.perf_counter()
        arm.set_joints(reading)
        arm.tick(now)
        spent += (time.perf_counter() - started) * (period >= 60)  # the arm gets ready first
        controller = arm._motion.controller
        if controller is not None:
            follow = lambda at, controller=controller: controller.sample(at)[0]  # noqa: E731
        now += PERIOD_NS
    return 1e6 * spent / periods


if __name__ == "__main__":
    main()
