"""Deterministic policy gradients for a deterministic head: TD3 (Fujimoto et al., 2018), of which DDPG (Lillicrap et al., 2016) is the plain case."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from mechanic_rl_ros.algorithms.critics import CriticConfig, CriticLearner
from mechanic_rl_ros.algorithms.demonstrations import require_clonable, with_cloned_head
from mechanic_rl_ros.algorithms.learner_config import LearnerConfig
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.part_config import DeterministicConfig


@dataclass(frozen=True)
class Td3Config(CriticConfig):
    """Settings of TD3.

    Attributes:
        critics: Q functions of which the smallest is believed: 1 or 2.
        smoothing: Deviation of the noise on the next chunk in a target.
        smoothing_bound: Where that noise is cut off.
        actor_every: Updates of Q for one of the actor.
        head_updates: Updates of cloning that the deterministic head starts from.
    """

    SECTION: ClassVar[str] = "td3"

    critics: int = field(default=2, metadata={"low": 1, "high": 2})
    smoothing: float = field(default=0.2, metadata={"low": 0.0, "high": 1.0})
    smoothing_bound: float = field(default=0.5, metadata={"low": 0.0, "high": 2.0})
    actor_every: int = field(default=2, metadata={"low": 1, "high": 100})
    head_updates: int = field(default=2000, metadata={"low": 1, "high": 1_000_000})


@dataclass(frozen=True)
class DdpgConfig(Td3Config):
    """Settings of DDPG: one critic, no smoothing, an actor that learns in every update."""

    SECTION: ClassVar[str] = "ddpg"

    critics: int = field(default=1, metadata={"low": 1, "high": 2})
    smoothing: float = field(default=0.0, metadata={"low": 0.0, "high": 1.0})
    actor_every: int = field(default=1, metadata={"low": 1, "high": 100})


class Td3(CriticLearner):
    """See the module."""

    Config: ClassVar[type[LearnerConfig]] = Td3Config
    wanders = True

    @classmethod
    def require_start(cls, config: Any, checkpoint: Checkpoint) -> None:
        """As ``Learner``; and there must be a head of its kind, or demonstrations to clone one from."""
        require_clonable(checkpoint, DeterministicConfig())
        super().require_start(config, checkpoint)

    @classmethod
    def prepare(cls, config: Any, checkpoint: Checkpoint, seed: int = 0, device: torch.device | str = "cpu") -> Checkpoint:
        """A policy with a deterministic head, cloned from the demonstrations where it has another one; see ``Learner``."""
        cls.require_start(config, checkpoint)
        return with_cloned_head(checkpoint, DeterministicConfig(), config.head_updates, seed, device)

    def build(self) -> None:
        """Q, and an actor that follows the actor."""
        super().build()
        self.target_head = copy.deepcopy(self.policy.head).requires_grad_(False)
        self.networks["target_head"] = self.target_head

    def learn(self) -> None:
        """Q by the following actor's chunk; every so often the actor, once Q had updates of its own."""
        rows = self.sample()
        observation = self.policy.observe(rows.frames)
        with torch.no_grad():
            following = self.policy.observe(rows.next_frames)
            future = self._believed(self.target_q(following, self._smoothed(self.target_head(following))))
        self.regress(rows, observation, future.clamp(0.0, 1.0))
        self.follow()
        if self.actor_learns and self.updates % self.config.actor_every == 0:
            self.losses["actor_loss"] = self.descend("actor", -(rows.weights * self.q(observation, self.policy.head(observation))[0]).mean())
            with torch.no_grad():
                torch._foreach_lerp_(list(self.target_head.parameters()), list(self.policy.head.parameters()), self.config.polyak)

    def _believed(self, values: Tensor) -> Tensor:
        return values[: self.config.critics].amin(0)

    def _smoothed(self, chunks: Tensor) -> Tensor:
        if not self.config.smoothing:
            return chunks
        noise = self.config.smoothing * torch.randn(chunks.shape, generator=self.generator, device=chunks.device)
        return (chunks + noise.clamp(-self.config.smoothing_bound, self.config.smoothing_bound)).clamp(-1.0, 1.0)


class Ddpg(Td3):
    """DDPG."""

    Config = DdpgConfig
