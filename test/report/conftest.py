"""A run folder with plausible records."""

import math
import random

import pytest

from mechanic_rl_ros.metrics import FILE, MetricsWriter
from mechanic_rl_ros.report.interval import wilson_interval


def write_run(folder, episodes=80, evaluated=True):
    generator = random.Random(0)
    wall, outcomes = 1e9, []
    with MetricsWriter(folder / FILE) as writer:
        writer.write("run", task="lift", seed=0, checkpoint="checkpoints/lift", started=wall)
        for number in range(1, episodes + 1):
            wall += 4
            outcomes.append(generator.random() < 0.4 + 0.5 * number / episodes)
            writer.write(
                "episode",
                number=number,
                outcome="success" if outcomes[-1] else "aborted" if number % 10 == 0 else "timeout",
                steps=30,
                best_of_n=number % 2 == 1,
                policy_version=number,
                success_20=sum(outcomes[-20:]) / len(outcomes[-20:]),
                stamp=6.0 * number,
                wall=wall,
                **{"return": float(outcomes[-1])},
            )
            writer.write("sim", real_time_factor=1.97, wall=wall)
            writer.write("policy", version=number, inference_ms=12.0, swap_ms=100.0, refused=0, wall=wall)
            writer.write("command", **command(wall))
            writer.write("learner", **learner(number, wall))
            writer.write("scales", **scales(number, wall))
        for name, successes in (("base", 91), ("tuned", 148)) if evaluated else ():
            low, high = wilson_interval(successes, 200)
            writer.write("evaluation", name=name, successes=successes, episodes=200, low=low, high=high, seed_first=1_000_000, wall=wall)
    return folder


def command(wall):
    timing = {"period_ms": 20.0, "period_mean_error": 0.002, "period_deviation": 0.03, "period_p99_ms": 22.1, "latency_p50_ms": 40.0, "latency_p99_ms": 80.0}
    counts = {"period_count": 200, "latencies_ms": [40.0, 80.0], "reactions_ms": [4.0, 8.0]}
    return {**timing, **counts, "late_actions": 0, "holding": "", "limited": {"workspace": 2}, "wall": wall}


def learner(number, wall):
    scales = {
        "actor_scale": 3e-4 * (1 - math.exp(-number / 20)),
        "critic_scale": 1e-3,
        "value_scale": 0.0,
        "skipped_gradients": 0,
        "withheld": 0,
        "rollbacks": 0,
    }
    losses = {"actor_loss": 0.1, "critic_loss": math.nan, "update_ms": 20.0, "plain_success": 0.5, "best_success": None}
    return {"version": number, "updates": number * 10, "episodes": number, "rows": 40 * number, **scales, **losses, "prefers_best_of_n": False, "wall": wall}


def scales(number, wall):
    updates = range(10 * number - 9, 10 * number + 1)
    return {"updates": 10 * number, "scales": {"actor": [3e-4 * (1 - math.exp(-k / 200)) for k in updates], "critic": [1e-3] * 10}, "wall": wall}


@pytest.fixture
def run_folder(tmp_path):
    return write_run(tmp_path)


@pytest.fixture
def make_run():
    return write_run
