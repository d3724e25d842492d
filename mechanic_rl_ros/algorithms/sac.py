"""Soft actor-critic for a Gaussian head (Haarnoja et al., 2018), with demonstrations in every batch (Ball et al., RLPD, 2023).

The next value is taken without the entropy of the next chunk, as RLPD does for sparse rewards: the entropy of a whole chunk would drown them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mechanic_rl_ros.algorithms.critics import CriticConfig, CriticLearner
from mechanic_rl_ros.algorithms.demonstrations import answers_with_what_is_executed, with_cloned_head
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import GaussianConfig
from mechanic_rl_ros.policy.gaussian import GaussianHead


@dataclass(frozen=True)
class SacConfig(CriticConfig):
    """Settings of SAC.

    Attributes:
        target_entropy: Of the policy, nats per number of a chunk; the weight of the entropy finds itself.
        first_temperature: That weight at the start.
        head_updates: Updates of cloning that the Gaussian head starts from.
    """

    SECTION: ClassVar[str] = "sac"

    target_entropy: float = field(default=-1.0, metadata={"low": -10.0, "high": 1.0})
    first_temperature: float = field(default=0.01, metadata={"low": 1e-6, "high": 10.0})
    head_updates: int = field(default=2000, metadata={"low": 1, "high": 1_000_000})


class Sac(CriticLearner):
    """See the module."""

    Config = SacConfig
    farthest = math.inf

    @classmethod
    def prepare(cls, config: Any, checkpoint: Checkpoint, seed: int = 0, device: torch.device | str = "cpu") -> Checkpoint:
        """A policy with a Gaussian head, cloned from the demonstrations where it has another one.

        Raises:
            UserError: There is nothing to clone it from.
        """
        if answers_with_what_is_executed(checkpoint.config, GaussianConfig):
            return checkpoint
        return with_cloned_head(checkpoint, GaussianConfig(), config.head_updates, seed, device)

    def build(self) -> None:
        """Q, and the weight of the entropy as its logarithm."""
        super().build()
        self.temperature = Temperature(self.config.first_temperature).to(self.device)
        self.networks["temperature"] = self.temperature
        self.tune("temperature", self.temperature.parameters())

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
            self._update_actor(head, observation)

    def _update_actor(self, head: GaussianHead, observation: Tensor) -> None:
        chunks, log_probability = head.draw(observation, self.generator)
        weight = self.temperature.log_weight.detach().exp()
        self.losses["actor_loss"] = self.descend("actor", (weight * log_probability - self.q(observation, chunks).amin(0)).mean())
        missing = self.config.target_entropy * chunks[0].numel() + log_probability.detach().mean()
        self.descend("temperature", -self.temperature.log_weight * missing)

    def _head(self) -> GaussianHead:
        assert isinstance(self.policy.head, GaussianHead)
        return self.policy.head


class Temperature(nn.Module):
    """The weight of the entropy, as a logarithm that is learned."""

    def __init__(self, first: float) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.tensor(first).log())
