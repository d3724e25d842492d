"""What learners with an actor of known entropy have in common: it climbs a critic and stays as undecided as is wanted (Haarnoja et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mechanic_rl_ros.algorithms.critics import CriticConfig, CriticLearner
from mechanic_rl_ros.replay.rows import Rows


@dataclass(frozen=True)
class SoftActorConfig(CriticConfig):
    """Settings of learners with a soft actor.

    Attributes:
        target_entropy: Of what the actor draws, nats per number; the weight of the entropy finds itself, as slowly as ``polyak`` says.
        first_temperature: That weight at the start.
    """

    target_entropy: float = field(default=-1.0, metadata={"low": -10.0, "high": 0.69})
    first_temperature: float = field(default=0.01, metadata={"low": 1e-6, "high": 10.0})


class SoftActorLearner(CriticLearner):
    """Q as of every learner with critics, and the weight of the entropy as its logarithm.

    That weight is a multiplier and has no tuner: it has to be slower than the actor that answers to it, or it swings from nothing to where the entropy
    drowns every reward. It follows as slowly as the target Q does: by ``polyak`` for every nat per number that the entropy is off, one nat at most.
    """

    wanders = True

    def build(self) -> None:
        """Q, and the weight."""
        super().build()
        self.numbers["log_temperature"] = torch.tensor(self.config.first_temperature, device=self.device).log()

    def climb(self, rows: Rows, drawn: Tensor, log_probability: Tensor, worth: Tensor) -> None:
        """One update of actor and weight.

        Args:
            rows: What the actor drew for, with importance weights.
            drawn: (B, ...), what the actor drew, with gradients.
            log_probability: (B,), with gradients.
            worth: (B,), what the critic says of it, with gradients.
        """
        temperature = self.numbers["log_temperature"]
        self.losses["actor_loss"] = self.descend("actor", (rows.weights * (temperature.exp() * log_probability - worth)).mean())
        likely = (rows.weights * log_probability.detach()).mean() / rows.weights.mean() / drawn[0].numel()
        temperature.add_(self.config.polyak * (self.config.target_entropy + likely).clamp(-1.0, 1.0))
