"""What a learner makes of the episodes that a run has recorded, without practising: whether it is learning or practice that a run lacked.

python benchmark/relearn.py runs/A --updates 40
python benchmark/relearn.py runs/A --first 130 --then runs/B    # the first 130 episodes of A, what follows from B

Begins with the task's shipped policy; prints success of what was learned, plain and best-of-8, on scenes from 500000 on, which judge nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from mechanic_rl_ros.algorithms.registry import DEFAULT, learner_of
from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.evaluation import evaluate
from mechanic_rl_ros.paths import checkpoint_directory
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.replay.store import EpisodeStore

FIRST_SCENE, LATENCY = 500_000, 0.05


def main() -> None:
    """Learns and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of `mechanic-rl finetune`")
    parser.add_argument("--first", type=int, help="only so many episodes of it; all when left out")
    parser.add_argument("--then", type=Path, help="run folder whose episodes from there on follow")
    parser.add_argument("--updates", type=int, help="for every episode; the learner's default when left out")
    parser.add_argument("--actor-updates", type=int, help="for one of the critics; the learner's default when left out")
    parser.add_argument("--seed", type=int, default=0, help="of the learner")
    parser.add_argument("--scenes", type=int, default=150)
    options = parser.parse_args()
    torch.set_num_threads(1)
    episodes = _episodes(options.run)[: options.first]
    if options.then:
        episodes += _episodes(options.then)[len(episodes) :]
    kind = learner_of(DEFAULT)
    given = {"updates_per_episode": options.updates, "actor_updates": options.actor_updates}
    config = replace(kind.Config.from_yaml(), **{name: count for name, count in given.items() if count is not None})
    learner = kind.create(config, kind.prepare(config, Checkpoint.load(checkpoint_directory(episodes[0].task)), options.seed), options.seed)
    for episode in episodes:
        learner.add_episode(episode)
        while learner.updates_due():
            learner.update()
    checkpoint, scenes = learner.to_checkpoint(), range(FIRST_SCENE, FIRST_SCENE + options.scenes)
    plain, best = (evaluate(checkpoint, checkpoint.task, scenes, best_of_n=chosen, latency=LATENCY).success for chosen in (False, True))
    print(f"{len(episodes)} episodes, {sum(episode.success for episode in episodes)} solved: plain {plain:.3f}, best-of-8 {best:.3f}")


def _episodes(run: Path) -> list[Episode]:
    return list(EpisodeStore(run / "learner" / "episodes", load_embodiment()).load())


if __name__ == "__main__":
    main()
