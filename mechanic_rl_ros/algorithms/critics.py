"""What learners with Q functions have in common: twin critics of chunks, n-step targets, targets that follow slowly, and weighted cloning."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mechanic_rl_ros.algorithms.learner import Learner, LearnerConfig
from mechanic_rl_ros.policy.critic import TwinQ
from mechanic_rl_ros.replay.buffer import Rows


@dataclass(frozen=True)
class CriticConfig(LearnerConfig):
    """Settings of learners with Q functions.

    Attributes:
        polyak: Share of the new Q in its target, per update.
    """

    polyak: float = field(default=0.005, metadata={"low": 1e-5, "high": 1.0})


class CriticLearner(Learner):
    """Two Q functions of (observation, executed part of the chunk) towards n-step returns."""

    def build(self) -> None:
        """Q and its target."""
        self.q = TwinQ(self.checkpoint.config).to(self.device)
        self.start_from_checkpoint("q", self.q)
        self.target_q = copy.deepcopy(self.q).requires_grad_(False)
        self.networks.update(q=self.q, target_q=self.target_q)
        self.tune("critic", self.q.parameters())

    def start_from_checkpoint(self, name: str, network: nn.Module) -> None:
        """Takes the weights of a critic from the checkpoint, where it has critics."""
        if self.checkpoint.critics is not None:
            prefix = f"{name}."
            network.load_state_dict({key.removeprefix(prefix): tensor for key, tensor in self.checkpoint.critics.items() if key.startswith(prefix)})

    def regress(self, rows: Rows, observation: Tensor, future: Tensor, penalty: Tensor | None = None) -> None:
        """Q towards R + gamma^n future.

        Args:
            rows: The batch.
            observation: (B, observation_dim).
            future: (B,), value of the state n steps later.
            penalty: Added to the loss.
        """
        target = rows.returns + rows.discounts * future
        loss = (self.q(observation, rows.chunks) - target).square().mean(dim=1).sum()
        self.losses["critic_loss"] = self.descend("critic", loss if penalty is None else loss + penalty)

    @torch.no_grad()
    def follow(self) -> None:
        """The target takes a small step towards Q."""
        torch._foreach_lerp_(list(self.target_q.parameters()), list(self.q.parameters()), self.config.polyak)

    def clone(self, rows: Rows, observation: Tensor, weight: Tensor) -> None:
        """The actor clones rows with weights (B,); demonstrations, which come last, always count fully."""
        weight = weight.clone()
        weight[len(weight) - self.shown_rows :] = 1.0
        losses = self.policy.loss(observation, rows.chunks, self.generator)
        self.losses["actor_loss"] = self.descend("actor", (weight * losses).mean() / weight.mean().clamp_min(1e-6))
