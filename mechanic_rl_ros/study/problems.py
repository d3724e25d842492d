"""What a study practises on: a task, a base policy, and how the robot answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mechanic_rl_ros.algorithms.behaviour_cloning import BehaviourCloningConfig, clone
from mechanic_rl_ros.algorithms.demonstrations import with_new_head
from mechanic_rl_ros.collection import CollectionConfig, collect
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import checkpoint_directory
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.part_config import MlpDenoiserConfig


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        task: Task name.
        latency: Seconds until a chunk takes effect, as in the live graph.
        noise: Of the demonstrations' expert.
        demonstrations: How many.
        base_seed: Seed of the base policy.
        batch: Rows of one update.
        width: Of denoiser and critics, as a multiple of the default, on the encoders of ``base``; None: as ``base`` has them.
        base: Problem whose base policy it takes; its own when empty.
        shipped: Whether that is the one that comes with the package.
        gradient: What every gradient is multiplied with before the optimizer sees it: as if the loss had another unit.
        like: Problem that it is in other conditions, which a tuner should not notice; empty where it is one of its own.
    """

    task: str
    latency: float = 0.05
    noise: float = 0.2
    demonstrations: int = 60
    base_seed: int = 0
    batch: int = 128
    width: float | None = None
    base: str = ""
    shipped: bool = False
    gradient: float = 1.0
    like: str = ""


PROBLEMS = {
    "lift": Problem("lift", shipped=True),
    "push": Problem("push", shipped=True),
    "reach": Problem("reach", shipped=True),
    # Held out: nobody had seen what any optimizer does on it when the tuner and everything else was chosen.
    "held-out": Problem("reach", latency=0.11, noise=0.25, demonstrations=50, base_seed=23),
    # Was held out, until it was noticed that benchmark/early_looks.py develops on it.
    "push-late": Problem("push", latency=0.08, noise=0.3, demonstrations=40, base_seed=11),
    # Was held out before, until one choice was confirmed by what it showed (benchmark/results/study.md).
    "lift-late": Problem("lift", latency=0.09, noise=0.35, demonstrations=40, base_seed=7),
    # In other conditions. Of another width there is no policy yet: it is cloned on the encoders of the shipped one, as one of the same width is.
    "lift-gradient-1e-3": Problem("lift", gradient=1e-3, base="lift", like="lift"),
    "lift-gradient-1e3": Problem("lift", gradient=1e3, base="lift", like="lift"),
    "lift-batch-64": Problem("lift", batch=64, base="lift", like="lift"),
    "lift-batch-512": Problem("lift", batch=512, base="lift", like="lift"),
    "lift-width-1": Problem("lift", width=1.0, base="lift"),
    "lift-width-0.5": Problem("lift", width=0.5, base="lift", like="lift-width-1"),
    "lift-width-4": Problem("lift", width=4.0, base="lift", like="lift-width-1"),
}


def problem_of(name: str) -> Problem:
    """The problem called ``name``.

    Raises:
        UserError: There is none.
    """
    if name not in PROBLEMS:
        raise UserError(f"unknown problem {name!r}: use one of {', '.join(PROBLEMS)}")
    return PROBLEMS[name]


def base_policy(name: str, folder: Path, progress: Callable[[int, int, float], None] | None = None) -> Path:
    """Folder of the base policy of a problem, unless it comes with the package cloned from demonstrations the first time that it is asked for.

    Args:
        name: Of the problem.
        folder: Where base policies are kept.
        progress: Called with (updates done, updates, loss) while cloning.
    """
    problem = problem_of(name)
    if problem.base and problem.width is None:
        return base_policy(problem.base, folder, progress)
    place = checkpoint_directory(problem.task) if problem.shipped else folder / name
    if place.exists():
        return place
    if problem.width is not None:
        base = Checkpoint.load(base_policy(problem.base, folder, progress))
        updates = BehaviourCloningConfig.from_yaml().denoiser_updates
        with_new_head(base, _of_width(base.config, problem.width), updates, problem.base_seed).save(place)
        return place
    collection = replace(CollectionConfig.from_yaml(), episodes=problem.demonstrations, noise=problem.noise)
    embodiment = load_embodiment()
    episodes = list(collect(problem.task, embodiment, collection))
    clone(episodes, BehaviourCloningConfig.from_yaml(), problem.base_seed, "cpu", progress).save(place)
    return place


def _of_width(config: PolicyConfig, width: float) -> PolicyConfig:
    head = config.head
    assert isinstance(head, MlpDenoiserConfig)
    wide = replace(head, width=round(width * head.width), condition=round(width * head.condition))
    return replace(config, head=wide, critic_width=round(width * config.critic_width))
