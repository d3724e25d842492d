"""What learners with Q functions have in common: twin critics of chunks, n-step targets, and training on demonstrations before the first robot minute."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mechanic_rl_ros.algorithms.learner import Learner
from mechanic_rl_ros.algorithms.learner_config import LearnerConfig
from mechanic_rl_ros.policy.critic import TwinQ
from mechanic_rl_ros.replay.rows import Rows

OTHERS = 4  # chunks of each kind that a demonstrated one is compared with


@dataclass(frozen=True)
class CriticConfig(LearnerConfig):
    """Settings of learners with Q functions.

    Attributes:
        polyak: Share of the new Q in its target, per update.
        pretraining_updates: Updates of the critics on demonstrations before the first episode; 0: none.
        conservatism: Weight of CQL's penalty in those.
        calibrated: Whether no chunk of the policy is pushed below what demonstrations earn (Cal-QL), or without bound (CQL).
    """

    polyak: float = field(default=0.005, metadata={"low": 1e-5, "high": 1.0})
    pretraining_updates: int = field(default=0, metadata={"low": 0, "high": 1_000_000})
    conservatism: float = field(default=1.0, metadata={"low": 0.0, "high": 1000.0})
    calibrated: bool = True


class CriticLearner(Learner):
    """Two Q functions of (observation, executed part of the chunk) towards n-step returns."""

    def build(self) -> None:
        """Q and its target."""
        self.q = TwinQ(self.checkpoint.config).to(self.device)
        self.start_from_checkpoint("q", self.q)
        self.target_q = copy.deepcopy(self.q).requires_grad_(False)
        self.networks.update(q=self.q, target_q=self.target_q)
        self.numbers["age"] = torch.zeros((), dtype=torch.int64)  # updates behind the critics as they are: they lose some when the learner goes back
        self.tune("critic", self.q.parameters())

    @property
    def pretraining(self) -> bool:
        """Whether the critics learn from demonstrations alone."""
        return int(self.numbers["age"]) < self.config.pretraining_updates

    @property
    def actor_learns(self) -> bool:
        """Whether there is something to learn, and the critics have had their updates alone."""
        return self.has_lessons and self._missing() <= 0

    @property
    def shown_rows(self) -> int:
        """Rows of a batch that come from demonstrations."""
        return self.config.batch_size if self.pretraining else super().shown_rows

    def updates_due(self) -> int:
        """Pretraining costs no episode, nor does what the critics have lost when the learner went back."""
        if self.pretraining:
            return self.config.pretraining_updates - int(self.numbers["age"])
        return max(super().updates_due(), self._missing() if super().paid_updates() else 0)

    def update(self) -> dict[str, float]:
        """The critics are an update older after it."""
        losses = super().update()
        self.numbers["age"] += 1
        return losses

    def paid_updates(self) -> int:
        """Those that episodes pay for come after."""
        return super().paid_updates() + self.config.pretraining_updates

    def start_from_checkpoint(self, name: str, network: nn.Module) -> None:
        """Takes the weights of a critic from the checkpoint, where it has critics."""
        if self.checkpoint.critics is not None:
            prefix = f"{name}."
            network.load_state_dict({key.removeprefix(prefix): tensor for key, tensor in self.checkpoint.critics.items() if key.startswith(prefix)})

    def regress(self, rows: Rows, observation: Tensor, future: Tensor) -> None:
        """Q towards R + gamma^n future; conservatively while there is nothing but demonstrations.

        Args:
            rows: The batch.
            observation: (B, observation_dim).
            future: (B,), value of the state n steps later.
        """
        target = rows.returns + rows.discounts * future
        believed = self.q(observation, rows.chunks)
        errors = believed - target
        loss = (rows.weights * errors.square()).mean(dim=1).sum()
        if self.pretraining:
            loss = loss + self.config.conservatism * self._optimism(rows, observation, believed)
        elif self.config.priority:
            practised = len(target) - self.shown_rows
            self.practice.update_priorities(rows.positions[:practised], errors.detach().abs().amax(0)[:practised])
        self.losses["critic_loss"] = self.descend("critic", loss)

    def _missing(self) -> int:
        # Updates that the critics need until the actor may listen to them.
        return self.config.pretraining_updates + self.config.critic_updates - int(self.numbers["age"])

    @torch.no_grad()
    def follow(self) -> None:
        """The target takes a small step towards Q."""
        torch._foreach_lerp_(list(self.target_q.parameters()), list(self.q.parameters()), self.config.polyak)

    def _optimism(self, rows: Rows, observation: Tensor, shown: Tensor) -> Tensor:
        """By how much Q prefers other chunks to the demonstrated ones (Kumar et al., CQL, 2020, equation 4), random and the policy's own.

        Of the policy's own, none counts as less than what the demonstration earns from here (Nakamoto et al., Cal-QL, 2023, equation 5.1).
        """
        many = observation.repeat(OTHERS, 1)
        with torch.no_grad():
            own = self.policy.sample(many, len(many), self.generator)
            random = 2.0 * torch.rand(own.shape, generator=self.generator, device=own.device) - 1.0
        values = self.q(many, own).unflatten(1, (OTHERS, -1))
        if self.config.calibrated:
            earned = rows.solved * self.config.gamma ** (rows.remaining - 1)  # demonstrations are rewarded at their end
            values = torch.maximum(values, earned.expand_as(values))
        others = torch.cat([values, self.q(many, random).unflatten(1, (OTHERS, -1))], dim=1)
        return (others.logsumexp(dim=1) - shown).mean(dim=1).sum()
