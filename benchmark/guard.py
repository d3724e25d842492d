"""Figures behind the guard of a learner: how far versions are apart in healthy and in ruined practice, and how often success seems to drop.

python benchmark/guard.py success
python benchmark/guard.py distance checkpoints/lift --seeds 0 1
python benchmark/guard.py distance checkpoints/lift --seeds 0 1 --rate 1e-2 --episodes 120
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mechanic_rl_ros.algorithms.registry import DEFAULT, LEARNERS, learner_of
from mechanic_rl_ros.algorithms.success_record import Finding, SuccessRecord
from mechanic_rl_ros.algorithms.weight_check import answers, distance, executed, saturation
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.practice import Practised, practise
from mechanic_rl_ros.replay.rows import Rows
from mechanic_rl_ros.study.tuners import Cell, factory

LOOK = 20  # episodes after which the observations are drawn
OBSERVATIONS, SAMPLES = 64, 4


class Versions:
    """What every version of a practice would do on the same observations, from the same noise."""

    def __init__(self) -> None:
        self.frames = self.done = torch.zeros(0)
        self.actions: list[Tensor] = []
        self.versions: list[int] = []
        self.successes: list[bool] = []

    def watch(self, practised: Practised) -> None:
        """Looks at a version once."""
        learner = practised.learner
        self.successes.append(practised.episode.success)
        if practised.number == LOOK:
            generator = torch.Generator().manual_seed(5)
            half = OBSERVATIONS // 2
            rows = Rows.join(learner.practice.sample(half, generator), learner.demonstrations.sample(half, generator))
            self.frames = rows.frames.repeat_interleave(SAMPLES, 0)
            self.done = executed(learner.policy, rows.chunks)
        if len(self.frames) and learner.version not in self.versions:
            policy = learner.acting_policy()
            self.actions.append(executed(policy, answers(policy, self.frames, seed=7)))
            self.versions.append(learner.version)

    def tell(self, name: str) -> None:
        """Prints a row of the table."""
        usual = max(saturation(self.actions[0]), saturation(self.done))
        apart = [[distance(old, new, self.done) for old in self.actions[:index]] for index, new in enumerate(self.actions)][1:]
        steps = [row[-1] for row in apart]
        figures = [max(steps), float(np.median(steps)), max(row[0] for row in apart), min(row[0] for row in apart[1:]), max(max(row) for row in apart)]
        share = max(saturation(actions) for actions in self.actions)
        print(f"| {name} | {len(steps)} | {' | '.join(f'{figure:.2f}' for figure in figures)} | {share:.2f}, usual {usual:.2f} |", end=" ")
        print(f"{np.mean(self.successes[: self._first()]):.2f} | {np.mean(self.successes[-40:]):.2f} |", flush=True)

    def _first(self) -> int:
        return len(self.successes) - len(self.actions) + 1


def measure_distances(arguments: argparse.Namespace) -> None:
    """One practice for each seed, without a guard."""
    base, config = Checkpoint.load(arguments.checkpoint), replace(learner_of(arguments.algorithm).Config.from_yaml(), guard=False)
    tuner = factory(Cell("adamw", arguments.rate, arguments.rate)) if arguments.rate else None
    print(
        "| practice | versions | farthest from the one before | median | farthest from the base | nearest from the second on | any two | most saturated |",
        end=" ",
    )
    print("success before | last 40 |\n|---|---|---|---|---|---|---|---|---|---|")
    for seed in arguments.seeds:
        versions = Versions()
        practise(base, config, seed, arguments.episodes, 0.05, versions.watch, tuner)
        versions.tell(f"{arguments.algorithm}, {f'AdamW at {arguments.rate:g}' if arguments.rate else 'default tuner'}, seed {seed}")


def first_drop(rates: list[float], rng: np.random.Generator) -> int | None:
    """Number of the episode at which a record says that success has dropped; every second episode is best-of-N."""
    record = SuccessRecord()
    for number, rate in enumerate(rates, 1):
        if record.add(bool(rng.random() < rate), number % 2 == 0) is Finding.DROP:
            return number
    return None


def simulate_success(arguments: argparse.Namespace) -> None:
    """False alarms at constant success, and how long a drop stays unnoticed."""
    rng = np.random.default_rng(0)
    print(f"any rollback in 500 episodes, {arguments.runs} runs each:")
    for rate in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        print(f"| constant {rate:.2f} | {100 * np.mean([first_drop([rate] * 500, rng) is not None for _ in range(arguments.runs)]):.1f} % |", flush=True)
    rising = [*[0.4] * 60, *np.linspace(0.4, 0.9, 200), *[0.9] * 240]
    print(f"| rising from 0.4 to 0.9 | {100 * np.mean([first_drop(rising, rng) is not None for _ in range(arguments.runs)]):.1f} % |")
    print("episodes after the drop until it is noticed: median, 90 %, 99 %, noticed within 200")
    for before, after in ((0.8, 0.3), (0.9, 0.0), (0.9, 0.5), (0.8, 0.5), (0.4, 0.0)):
        found = [first_drop([before] * 200 + [after] * 200, rng) for _ in range(arguments.runs)]
        late = np.array([number - 200 if number else np.inf for number in found if number is None or number > 200])
        quantiles = " | ".join(f"{value:.0f}" for value in np.quantile(late, [0.5, 0.9, 0.99], method="higher"))
        print(f"| {before} to {after} | {quantiles} | {100 * np.isfinite(late).mean():.1f} % |", flush=True)


def main() -> None:
    """Runs one of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    success = kinds.add_parser("success", help="simulated records")
    success.add_argument("--runs", type=int, default=1000)
    success.set_defaults(measure=simulate_success)
    far = kinds.add_parser("distance", help="distances between versions of a practice")
    far.add_argument("checkpoint", type=Path)
    far.add_argument("--algorithm", choices=sorted(LEARNERS), default=DEFAULT)
    far.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    far.add_argument("--episodes", type=int, default=240)
    far.add_argument("--rate", type=float, default=0.0, help="learning rate of AdamW instead of the tuner")
    far.set_defaults(measure=measure_distances)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.measure(arguments)


if __name__ == "__main__":
    main()
