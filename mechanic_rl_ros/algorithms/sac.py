"""Soft actor-critic for a Gaussian head (Haarnoja et al., 2018), with demonstrations in every batch (Ball et al., RLPD, 2023).

The next value is taken without the entropy of the next chunk, as RLPD does for sparse rewards: the entropy of a whole chunk would drown them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from mechanic_rl_ros.algorithms.demonstrations import require_clonable, with_cloned_head
from mechanic_rl_ros.algorithms.soft_actor import SoftActorConfig, SoftActorLearner
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.gaussian import GaussianHead
from mechanic_rl_ros.policy.part_config import GaussianConfig


@dataclass(frozen=True)
class SacConfig(SoftActorConfig):
    """Settings of SAC.

    Attributes:
        head_updates: Updates of cloning that the Gaussian head starts from.
    """

    SECTION: ClassVar[str] = "sac"

    head_updates: int = field(default=2000, metadata={"low": 1, "high": 1_000_000})


class Sac(SoftActorLearner):
    """See the module."""

    Config = SacConfig

    @classmethod
    def require_start(cls, config: Any, checkpoint: Checkpoint) -> None:
        """As ``Learner``; and there must be a head of its kind, or demonstrations to clone one from."""
        require_clonable(checkpoint, GaussianConfig())
        super().require_start(config, checkpoint)

    @classmethod
    def prepare(cls, config: Any, checkpoint: Checkpoint, seed: int = 0, device: torch.device | str = "cpu") -> Checkpoint:
        """A policy with a Gaussian head, cloned from the demonstrations where it has another one; see ``Learner``."""
        cls.require_start(config, checkpoint)
        return with_cloned_head(checkpoint, GaussianConfig(), config.head_updates, seed, device)

    def learn(self) -> None:
        """Q by the policy's next chunk; actor and temperature once Q had updates of its own."""
        rows, head = self.sample(), self._head()
        observation = self.policy.observe(rows.frames)
        with torch.no_grad():
            following = self.policy.observe(rows.next_frames)
            future = self.target_q(following, head.draw(following, self.generator)[0]).amin(0).clamp(0.0, 1.0)
        self.regress(rows, observation, future)
        self.follow()
        if self.actor_learns:
            chunks, log_probability = head.draw(observation, self.generator)
            self.climb(rows, chunks, log_probability, self.q(observation, chunks).amin(0))

    def _head(self) -> GaussianHead:
        assert isinstance(self.policy.head, GaussianHead)
        return self.policy.head
