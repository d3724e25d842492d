"""The default: implicit Q-learning critics, and an actor that clones demonstrations and its own good behaviour.

Critics as in IQL (Kostrikov, Nair, Levine 2021): V by expectile regression towards min Q, Q towards n-step returns bootstrapped with V; nothing is
ever asked about actions that were not executed. The actor's loss of cloning counts a practised chunk fully or not at all: the episode must have
succeeded and the chunk's advantage not be poor. How the other learners do beside it: docs/learners.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from mechanic_rl_ros.algorithms.critics import CriticConfig, CriticLearner
from mechanic_rl_ros.policy.critic import TwinQ, Value
from mechanic_rl_ros.replay.rows import Rows


@dataclass(frozen=True)
class FilteredIqlConfig(CriticConfig):
    """Settings of filtered IQL.

    Attributes:
        actor_updates: Updates of the actor for one of the critics, each with rows of its own: a denoiser takes more of them than a regression.
        expectile: Of V's regression towards min Q; 1 would be its maximum.
        advantage_floor: A practised chunk counts while its advantage is above this many deviations (below 0: slightly worse than expected still counts).
    """

    SECTION: ClassVar[str] = "filtered_iql"

    actor_updates: int = field(default=4, metadata={"low": 1, "high": 1000})
    expectile: float = field(default=0.8, metadata={"low": 0.5, "high": 0.999})
    advantage_floor: float = field(default=-0.5, metadata={"low": -100.0, "high": 100.0})


class FilteredIql(CriticLearner):
    """See the module."""

    Config = FilteredIqlConfig
    clones_chunks = True

    def build(self) -> None:
        """V beside Q, and the running size of advantages."""
        super().build()
        self.value = Value(self.checkpoint.config).to(self.device)
        self.start_from_checkpoint("value", self.value)
        self.networks["value"] = self.value
        self.tune("value", self.value.parameters())
        self.numbers["advantage_variance"] = torch.ones((), device=self.device)

    def learn(self) -> None:
        """Q, V, and the actor once the critics had updates of their own."""
        rows, *further = self.samples(self.config.actor_updates if self.actor_learns else 1)
        observation = self.policy.observe(rows.frames)
        advantage = self._update_critics(rows, observation)
        if self.actor_learns:
            self._update_actor(rows, observation, advantage)
        for rows in further:
            observation = self.policy.observe(rows.frames)
            self._update_actor(rows, observation, self._believed(rows, observation) - self.value(observation).detach())

    def critics(self) -> tuple[TwinQ, Value]:
        """They choose in best-of-N."""
        return self.averaged(self.q, "critic"), self.averaged(self.value, "value")

    @torch.no_grad()
    def promise(self, frame: Tensor) -> float:
        """V of the first observation."""
        observation = self.policy.observe(frame.expand(1, self.checkpoint.config.observation_horizon, -1))
        return float(self.value(observation).clamp(0.0, 1.0).nan_to_num())

    def _update_critics(self, rows: Rows, observation: Tensor) -> Tensor:
        with torch.no_grad():
            future = self.value(self.policy.observe(rows.next_frames)).clamp(0.0, 1.0)
        believed = self._believed(rows, observation)
        self.regress(rows, observation, future)
        error = believed - self.value(observation)
        self.descend("value", (torch.where(error > 0, self.config.expectile, 1.0 - self.config.expectile) * rows.weights * error.square()).mean())
        self.follow()
        self.numbers["advantage_variance"].lerp_(error.detach().square().mean(), 1.0 / min(self.updates + 1, 100))
        return error.detach()

    @torch.no_grad()
    def _believed(self, rows: Rows, observation: Tensor) -> Tensor:
        return self.target_q(observation, rows.chunks).amin(0)

    def _update_actor(self, rows: Rows, observation: Tensor, advantage: Tensor) -> None:
        weight = rows.solved * (advantage > self.config.advantage_floor * self.numbers["advantage_variance"].sqrt())
        self.clone(rows, observation, weight)
