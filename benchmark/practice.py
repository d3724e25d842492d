"""The whole practice loop without ROS, faster than real time: practise, learn, evaluate. Used to choose settings, on development scenes only.

python benchmark/practice.py checkpoints/lift runs/practice --seeds 0 1 2 --episodes 240 --evaluate 200
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mechanic_rl_ros.algorithms.filtered_iql import FilteredIqlConfig
from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.evaluation import Evaluation, evaluate
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.practice import Practised, practise

DEVELOPMENT_SEED = 500_000


class Log:
    """metrics.jsonl."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w")

    def write(self, kind: str, **values: Any) -> None:
        """Appends one line."""
        self.file.write(json.dumps({"kind": kind, **values, "wall": time.time()}) + "\n")
        self.file.flush()


def watcher(log: Log) -> Callable[[Practised], None]:
    """Logs every episode of a practice."""
    recent: deque[bool] = deque(maxlen=20)

    def watch(practised: Practised) -> None:
        recent.append(practised.episode.success)
        _log_episode(log, practised.number, practised.episode, sum(recent) / len(recent))
        log.write("learner", **practised.learner.status(), seconds=practised.seconds)

    return watch


def main() -> None:
    """Practises with every seed and prints success before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--config", type=Path, default=None, help="learner configuration, config/learner.yaml unless given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="practice seeds")
    parser.add_argument("--episodes", type=int, default=240, help="practice episodes")
    parser.add_argument("--evaluate", type=int, default=200, help="episodes of each evaluation")
    parser.add_argument("--first-seed", type=int, default=DEVELOPMENT_SEED, help="first scene seed of the evaluations")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds until a chunk takes effect while practising, as in the live graph")
    parser.add_argument("--workers", type=int, default=1, help="processes of each evaluation")
    parser.add_argument("--skip-base", action="store_true", help="do not evaluate the base checkpoint")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    base, config = Checkpoint.load(arguments.checkpoint), FilteredIqlConfig.from_yaml(arguments.config)
    scenes = range(arguments.first_seed, arguments.first_seed + arguments.evaluate)

    def judge(name: str, checkpoint: Checkpoint, best_of_n: bool | None, log: Log) -> None:
        result = evaluate(checkpoint, base.task, scenes, best_of_n, arguments.workers)
        log.write("evaluation", name=name, **_figures(result))
        print(f"{name}: {result.success:.3f} [{result.interval[0]:.3f}, {result.interval[1]:.3f}]{' best-of-N' if result.best_of_n else ''}", flush=True)

    if not arguments.skip_base:
        judge("base", base, False, Log(arguments.output / "base" / "metrics.jsonl"))
    for seed in arguments.seeds:
        folder = arguments.output / f"seed{seed}"
        log = Log(folder / "metrics.jsonl")
        log.write("run", task=base.task, seed=seed, checkpoint=str(arguments.checkpoint), started=time.time())
        learner = practise(base, config, seed, arguments.episodes, arguments.latency, watcher(log))
        status = {key: round(value, 3) if isinstance(value, float) else value for key, value in learner.status().items()}
        print(f"seed {seed}: {status}", flush=True)
        tuned = learner.to_checkpoint()
        tuned.save(folder / "checkpoint")
        for name, best_of_n in (("tuned, plain", False), ("tuned, best-of-N", True)):
            judge(name, tuned, best_of_n, log)


def _log_episode(log: Log, number: int, episode: Episode, success: float) -> None:
    log.write(
        "episode",
        number=number,
        outcome=episode.outcome.value,
        steps=episode.steps,
        best_of_n=episode.best_of_n,
        policy_version=int(episode.policy_versions[0]),
        success_20=success,
        stamp=float(episode.stamps_ns[0]) * 1e-9,
        **{"return": float(episode.rewards.sum())},
    )


def _figures(result: Evaluation) -> dict[str, Any]:
    low, high = result.interval
    return {"successes": result.successes, "episodes": len(result.outcomes), "low": low, "high": high, "seed_first": result.seeds[0]}


if __name__ == "__main__":
    main()
