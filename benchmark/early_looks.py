"""Success of the actor on its way, on problems for development: soon after its first updates, when a step that is too long does most harm, and at the end.

python benchmark/early_looks.py --cell relative --seed 20
python benchmark/early_looks.py --cell adamw_3e-04_1e-03 --seed 20
python benchmark/early_looks.py --task push --updates 40 --looks 66,80,120,240

Plain on the way; plain and best-of-8, whatever the gate says, at the last look, on twice as many scenes. The base policy is cloned the first time (a minute)
and kept in --folder. Scenes are those from 500000 on, which judge nothing.
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

TASKS = ("lift", "push", "reach")
LOOKS = (66, 75, 90, 110, 130)
FIRST_SCENE = 500_000


def main() -> None:
    """Practises and prints."""
    cells = {cell.name: cell for cell in (TUNER, *(Cell(name) for name in CONTROLS + ABLATIONS), *grid())}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default=TASKS[0], choices=TASKS)
    parser.add_argument("--cell", default=TUNER.name, choices=cells, metavar="NAME", help="relative, schedule-free, adamw_3e-04_1e-03 and so on")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--updates", type=int, help="for every episode; the learner's default when left out")
    parser.add_argument("--actor-updates", type=int, help="for one of the critics; the learner's default when left out")
    parser.add_argument("--looks", type=lambda text: tuple(map(int, text.split(","))), default=LOOKS, help="episodes, separated by commas")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("runs/early_looks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    name = f"development-{options.task}"
    problem = PROBLEMS[name] = Problem(options.task, latency=0.08, noise=0.3, demonstrations=40, base_seed=11)
    kind = learner_of(DEFAULT)
    given = {"updates_per_episode": options.updates, "actor_updates": options.actor_updates}
    config = replace(kind.Config.from_yaml(), guard=False, **{name: count for name, count in given.items() if count is not None})
    base = kind.prepare(config, Checkpoint.load(base_policy(name, options.folder)), options.seed)
    last = max(options.looks)

    def solved(checkpoint: Checkpoint, count: int, best_of_n: bool = False) -> str:
        scenes = range(FIRST_SCENE, FIRST_SCENE + count)
        return f"{evaluate(checkpoint, problem.task, scenes, best_of_n=best_of_n, latency=problem.latency).success:.3f}"

    def watch(practised: Practised) -> None:
        if practised.number in options.looks:
            checkpoint = practised.learner.to_checkpoint()
            print(f"after {practised.number:3d} episodes  {solved(checkpoint, (1 + (practised.number == last)) * options.scenes)}", flush=True)

    print(f"base policy         {solved(base, 2 * options.scenes)}", flush=True)
    learner = practise(base, config, options.seed, last, problem.latency, watch, factory(cells[options.cell]))
    chose = "best-of-8" if learner.gate.prefers_best_of_n else "plain"
    print(f"best-of-8           {solved(learner.to_checkpoint(), 2 * options.scenes, best_of_n=True)}; the gate chose {chose}", flush=True)


if __name__ == "__main__":
    main()
