"""AWAC: the actor clones what was done, weighted exponentially by its advantage (Nair et al., AWAC, 2020).

Q is that of the acting policy itself: the next chunk in its target is drawn from the policy. Advantages are taken over a baseline from other chunks
of the policy, and their unit is their own running deviation, so that the temperature does not depend on the rewards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from mechanic_rl_ros.algorithms.critics import CriticConfig, CriticLearner
from mechanic_rl_ros.replay.rows import Rows

LARGEST_EXPONENT = 3.0  # of a weight: no row counts more than 20 times an average one


@dataclass(frozen=True)
class AwacConfig(CriticConfig):
    """Settings of AWAC.

    Attributes:
        actor_updates: Updates of the actor for one of Q, each with rows of its own.
        temperature: Deviations of the advantage by which a chunk must be better to weigh e times as much.
    """

    SECTION: ClassVar[str] = "awac"

    actor_updates: int = field(default=4, metadata={"low": 1, "high": 1000})
    temperature: float = field(default=1.0, metadata={"low": 0.01, "high": 100.0})


class Awac(CriticLearner):
    """See the module."""

    Config = AwacConfig
    clones_chunks = True

    def build(self) -> None:
        """Q, and the running size of advantages."""
        super().build()
        self.numbers["advantage_variance"] = torch.ones((), device=self.device)

    def learn(self) -> None:
        """Q by the policy's own next chunk; the actor once Q had updates of its own."""
        rows, *further = self.samples(self.config.actor_updates if self.actor_learns else 1)
        observation = self.policy.observe(rows.frames)
        self.regress(rows, observation, self._worth(self.policy.observe(rows.next_frames)).clamp(0.0, 1.0))
        self.follow()
        advantage = self._advantage(rows, observation)
        self.numbers["advantage_variance"].lerp_(advantage.square().mean(), 1.0 / min(self.updates + 1, 100))
        if self.actor_learns:
            self._update_actor(rows, observation, advantage)
        for rows in further:
            observation = self.policy.observe(rows.frames)
            self._update_actor(rows, observation, self._advantage(rows, observation))

    def _update_actor(self, rows: Rows, observation: Tensor, advantage: Tensor) -> None:
        deviations = advantage / self.numbers["advantage_variance"].sqrt().clamp_min(1e-6)
        self.clone(rows, observation, (deviations / self.config.temperature).clamp_max(LARGEST_EXPONENT).exp())

    @torch.no_grad()
    def _advantage(self, rows: Rows, observation: Tensor) -> Tensor:
        return self.q(observation, rows.chunks).amin(0) - self._worth(observation)

    @torch.no_grad()
    def _worth(self, observation: Tensor) -> Tensor:
        # (B,): min target Q of one chunk that the policy draws.
        chunks = self.policy.sample(observation, len(observation), self.generator)
        return self.target_q(observation, chunks).amin(0)
