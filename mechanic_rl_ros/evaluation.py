"""How often a checkpoint solves a task, with a 95 % interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mechanic_rl_ros.latency import LatencyMode
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.report.interval import wilson_interval as wilson
from mechanic_rl_ros.rollout import solves
from mechanic_rl_ros.scene_seeds import EVALUATION_SEED
from mechanic_rl_ros.sim.environment import Environment
from mechanic_rl_ros.workers import over_seeds

__all__ = ["EVALUATION_SEED", "Evaluation", "evaluate", "wilson"]

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        outcomes: Whether each seed was solved, in the order of the seeds.
        seeds: Scene seeds.
        best_of_n: Whether the critics chose.
    """

    outcomes: tuple[bool, ...]
    seeds: tuple[int, ...]
    best_of_n: bool

    @property
    def successes(self) -> int:
        """Episodes that were solved."""
        return sum(self.outcomes)

    @property
    def success(self) -> float:
        """Share of episodes that were solved."""
        return self.successes / max(1, len(self.outcomes))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of ``success``."""
        return wilson(self.successes, len(self.outcomes))


def evaluate(
    checkpoint: Checkpoint,
    task: str,
    seeds: Sequence[int],
    best_of_n: bool | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    region: str = "all",
    latency: float = 0.0,
    latency_mode: LatencyMode = LatencyMode.OVERLAPPING,
) -> Evaluation:
    """Runs one episode per seed.

    Args:
        checkpoint: The policy.
        task: Task name.
        seeds: Scene seeds; they seed the policy's sampling noise, too.
        best_of_n: Whether the critics choose; None for what the gate decided while practising.
        workers: Processes; the result does not depend on it.
        progress: Called after each episode with (episodes done, episodes, successes).
        region: Part of the scene in which objects are placed.
        latency: See ``run_episode``.
        latency_mode: See ``run_episode``.

    Returns:
        The outcomes.

    Raises:
        UserError: Unknown task or region, or what ``run_episode`` raises.
    """
    choose = bool(checkpoint.metadata.get("prefers_best_of_n", False)) if best_of_n is None else best_of_n
    choose = choose and checkpoint.critics is not None
    outcomes: list[bool] = []
    for solved in over_seeds(_Trial, (checkpoint, task, choose, region, latency, latency_mode), seeds, workers):
        outcomes.append(solved)
        if progress is not None:
            progress(len(outcomes), len(seeds), sum(outcomes))
    return Evaluation(tuple(outcomes), tuple(seeds), choose)


class _Trial:
    """Environment and policy of one process."""

    def __init__(self, checkpoint: Checkpoint, task: str, best_of_n: bool, region: str, latency: float, latency_mode: LatencyMode) -> None:
        self.env = Environment(task, checkpoint.embodiment)
        self.actor, self.best_of_n, self.region = Actor(checkpoint), best_of_n, region
        self.latency, self.latency_mode = latency, latency_mode

    def __call__(self, seed: int) -> bool:
        return solves(self.env, self.actor, seed, self.best_of_n, self.region, self.latency, self.latency_mode)
