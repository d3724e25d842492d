"""What all learners let somebody choose."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import ClassVar, Self

from mechanic_rl_ros.algorithms.configuration import read_section


@dataclass(frozen=True)
class LearnerConfig:
    """What is chosen once for every task. There is no learning rate: the tuner finds the step size.

    Attributes:
        warmup_episodes: Episodes with the base policy before the first update.
        critic_updates: Updates before the actor's first one: critics alone.
        updates_per_episode: Updates that every further episode pays for.
        batch_size: Rows of one update.
        demonstration_share: Part of a batch that comes from the demonstrations.
        gamma: Discount of one step.
        replay_frames: Capacity of the replay. A million take 300 MB of the disk with the embedded encoder: 28 hours at 10 Hz.
        priority: Exponent with which practised rows are drawn by the error of their Q (Schaul et al. 2016); 0: all alike, as for learners without Q.
        guard: Whether new weights are checked before they act, and a drop of success is undone; see ``Guard``.
    """

    SECTION: ClassVar[str]

    warmup_episodes: int = field(default=60, metadata={"low": 1, "high": 100_000})
    critic_updates: int = field(default=800, metadata={"low": 0, "high": 1_000_000})
    updates_per_episode: int = field(default=10, metadata={"low": 1, "high": 10_000})
    batch_size: int = field(default=128, metadata={"low": 4, "high": 65_536})
    demonstration_share: float = field(default=0.25, metadata={"low": 0.0, "high": 0.9})
    gamma: float = field(default=0.97, metadata={"low": 0.0, "high": 1.0})
    replay_frames: int = field(default=1_000_000, metadata={"low": 200, "high": 10_000_000})
    priority: float = field(default=0.0, metadata={"low": 0.0, "high": 1.0})
    guard: bool = True

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """Reads the section of this learner from config/learner.yaml, or from the file given."""
        return read_section(cls, cls.SECTION, path)
