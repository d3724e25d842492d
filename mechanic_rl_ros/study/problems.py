"""What a study practises on: a task, a base policy, and how the robot answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mechanic_rl_ros.algorithms.behaviour_cloning import BehaviourCloningConfig, clone
from mechanic_rl_ros.collection import CollectionConfig, collect
from mechanic_rl_ros.embodiment import Embodiment, load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import checkpoint_directory
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
        width: Of denoiser and critics, as a multiple of the default.
        base: Problem whose base policy it takes; its own when empty.
        shipped: Whether that is the one that comes with the package.
        gradient: What every gradient is multiplied with before the optimizer sees it: as if the loss had another unit.
    """

    task: str
    latency: float = 0.05
    noise: float = 0.2
    demonstrations: int = 60
    base_seed: int = 0
    batch: int = 128
    width: float = 1.0
    base: str = ""
    shipped: bool = False
    gradient: float = 1.0

    def architecture(self, embodiment: Embodiment) -> PolicyConfig:
        """Of the base policy and the critics."""
        default = PolicyConfig.for_embodiment(embodiment)
        denoiser = MlpDenoiserConfig(width=round(self.width * MlpDenoiserConfig().width), condition=round(self.width * MlpDenoiserConfig().condition))
        return replace(default, head=denoiser, critic_width=round(self.width * default.critic_width))


PROBLEMS = {
    "lift": Problem("lift", shipped=True),
    "push": Problem("push"),
    "reach": Problem("reach"),
    # Held out: nothing is ever chosen by looking at it.
    "held-out": Problem("lift", latency=0.09, noise=0.35, demonstrations=40, base_seed=7),
    # The same in other conditions, which a tuner should not notice.
    "lift-gradient-1e-3": Problem("lift", gradient=1e-3, base="lift"),
    "lift-gradient-1e3": Problem("lift", gradient=1e3, base="lift"),
    "lift-batch-64": Problem("lift", batch=64, base="lift"),
    "lift-batch-512": Problem("lift", batch=512, base="lift"),
    "lift-width-0.5": Problem("lift", width=0.5),
    "lift-width-4": Problem("lift", width=4.0),
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
    if problem.base:
        return base_policy(problem.base, folder, progress)
    place = checkpoint_directory(problem.task) if problem.shipped else folder / name
    if place.exists():
        return place
    collection = replace(CollectionConfig.from_yaml(), episodes=problem.demonstrations, noise=problem.noise)
    embodiment = load_embodiment()
    episodes = list(collect(problem.task, embodiment, collection))
    clone(episodes, BehaviourCloningConfig.from_yaml(), problem.base_seed, "cpu", progress, problem.architecture(embodiment)).save(place)
    return place
