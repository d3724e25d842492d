"""What a study practises on: a task, a base policy, and how the robot answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mechanic_rl_ros.algorithms.behaviour_cloning import BehaviourCloningConfig, clone
from mechanic_rl_ros.collection import CollectionConfig, collect
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        task: Task name.
        latency: Seconds until a chunk takes effect, as in the live graph.
        noise: Of the demonstrations' expert.
        demonstrations: How many.
        base_seed: Seed of the base policy.
    """

    task: str
    latency: float = 0.05
    noise: float = 0.2
    demonstrations: int = 60
    base_seed: int = 0


PROBLEMS = {
    "lift": Problem("lift"),
    "push": Problem("push"),
    "reach": Problem("reach"),
    # Held out: nothing is ever chosen by looking at it.
    "held-out": Problem("lift", latency=0.09, noise=0.35, demonstrations=40, base_seed=7),
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
    """Folder of the base policy of a problem, cloned from demonstrations the first time that it is asked for.

    Args:
        name: Of the problem.
        folder: Where base policies are kept.
        progress: Called with (updates done, updates, loss) while cloning.
    """
    problem, place = problem_of(name), folder / name
    if place.exists():
        return place
    collection = replace(CollectionConfig.from_yaml(), episodes=problem.demonstrations, noise=problem.noise)
    episodes = list(collect(problem.task, load_embodiment(), collection))
    clone(episodes, BehaviourCloningConfig.from_yaml(), problem.base_seed, "cpu", progress).save(place)
    return place
