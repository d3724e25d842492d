"""Success of the plain actor soon after its first updates, when a step that is too long does most harm; on a problem for development.

python benchmark/early_looks.py --cell relative --seed 20
python benchmark/early_looks.py --cell adamw_3e-04_1e-03 --seed 20

The base policy is cloned the first time (a minute) and kept in --folder. Scenes are those from 500000 on, which judge nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from mechanic_rl_ros.algorithms.registry import DEFAULT, learner_of
from mechanic_rl_ros.evaluation import evaluate
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.practice import Practised, practise
from mechanic_rl_ros.study.problems import PROBLEMS, Problem, base_policy
from mechanic_rl_ros.study.table import TUNER
from mechanic_rl_ros.study.tuners import ABLATIONS, CONTROLS, Cell, factory, grid

NAME, PROBLEM = "development", Problem("lift", latency=0.08, noise=0.3, demonstrations=40, base_seed=11)
LOOKS = (66, 75, 90, 110, 130)


def main() -> None:
    """Practises and prints."""
    cells = {cell.name: cell for cell in (TUNER, *(Cell(name) for name in CONTROLS + ABLATIONS), *grid())}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", default=TUNER.name, choices=cells, metavar="NAME", help="relative, schedule-free, adamw_3e-04_1e-03 and so on")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--looks", type=lambda text: tuple(map(int, text.split(","))), default=LOOKS, help="episodes, separated by commas")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("runs/early_looks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    PROBLEMS[NAME] = PROBLEM
    kind, scenes = learner_of(DEFAULT), range(500_000, 500_000 + options.scenes)
    config = replace(kind.Config.from_yaml(), guard=False)
    base = kind.prepare(config, Checkpoint.load(base_policy(NAME, options.folder)), options.seed)

    def solved(checkpoint: Checkpoint) -> str:
        return f"{evaluate(checkpoint, PROBLEM.task, scenes, best_of_n=False, latency=PROBLEM.latency).success:.2f}"

    def watch(practised: Practised) -> None:
        if practised.number in options.looks:
            print(f"after {practised.number:3d} episodes  {solved(practised.learner.to_checkpoint())}", flush=True)

    print(f"base policy         {solved(base)}", flush=True)
    practise(base, config, options.seed, max(options.looks), PROBLEM.latency, watch, factory(cells[options.cell]))


if __name__ == "__main__":
    main()
