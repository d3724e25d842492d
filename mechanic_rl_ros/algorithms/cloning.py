"""Learners that only clone: demonstrations and solved practice, or what a person shows when taking over."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from mechanic_rl_ros.algorithms.learner import Learner
from mechanic_rl_ros.algorithms.learner_config import LearnerConfig
from mechanic_rl_ros.policy.checkpoint import PRACTICE_NOISE, Checkpoint


@dataclass(frozen=True)
class CloningConfig(LearnerConfig):
    """Settings of cloning solved practice: there are no critics to wait for, and an episode pays for as many updates of the actor as with them."""

    SECTION: ClassVar[str] = "cloning"

    critic_updates: int = field(default=0, metadata={"low": 0, "high": 1_000_000})
    updates_per_episode: int = field(default=40, metadata={"low": 1, "high": 10_000})


class Cloning(Learner):
    """Behaviour cloning of demonstrations and of every practised chunk of a solved episode."""

    Config: ClassVar[type[LearnerConfig]] = CloningConfig
    needs_reward = False
    clones_chunks = True

    def build(self) -> None:
        """The actor is all there is."""

    def learn(self) -> None:
        """Failed practice weighs nothing."""
        if not self.actor_learns:
            return
        rows = self.sample()
        self.clone(rows, self.policy.observe(rows.frames), rows.solved)


@dataclass(frozen=True)
class DaggerConfig(CloningConfig):
    """Settings of DAgger.

    Attributes:
        noise: Deviation of the disturbance of the policy's actions, normalised; the gripper is not disturbed.
    """

    SECTION: ClassVar[str] = "dagger"

    warmup_episodes: int = field(default=10, metadata={"low": 1, "high": 100_000})
    noise: float = field(default=0.1, metadata={"low": 0.0, "high": 1.0})


class Dagger(Cloning):
    """DAgger with takeovers (Ross et al. 2011; Kelly et al., HG-DAgger, 2019): clones demonstrations, to which every takeover has been added.

    What the policy did itself is never cloned, so nothing is learned from an episode in which nobody took over. While it practises, a smooth noise on the
    policy's actions leads to more of the places from which only a person knows the way back (Laskey et al., DART, 2017); what the person does is clean.
    """

    Config = DaggerConfig
    needs_takeovers = True

    @classmethod
    def prepare(cls, config: Any, checkpoint: Checkpoint, seed: int = 0, device: torch.device | str = "cpu") -> Checkpoint:
        """The same policy, whose actions are disturbed while it practises; see ``Learner``."""
        cls.require_start(config, checkpoint)
        return replace(checkpoint, metadata={**checkpoint.metadata, PRACTICE_NOISE: config.noise})

    @property
    def shown_rows(self) -> int:
        """All of them."""
        return self.config.batch_size

    @property
    def has_lessons(self) -> bool:
        """Whether somebody has taken over."""
        return self.was_shown_more

    def notice(self) -> str:
        """Says so when nobody takes over."""
        if len(self.episode_ids) < self.config.warmup_episodes or self.has_lessons:
            return ""
        return f"nobody took over in {len(self.episode_ids)} episodes: DAgger learns from takeovers only"
