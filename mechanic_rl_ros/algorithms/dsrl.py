"""SAC on the latent noise of a frozen policy (Wagenmaker et al., DSRL, 2025), in its form that learns from any data (their algorithm 1, "NA").

The denoiser stays as it is; what practises is an actor that chooses the noise which it starts from. Q of chunks learns from everything that was
executed. Q of noise is distilled from it, by asking what a frozen policy makes of a noise, so that no recorded noise is needed. A DDIM sampler makes
the same chunk of the same noise, which both rely on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from mechanic_rl_ros.algorithms.soft_actor import SoftActorConfig, SoftActorLearner
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.critic import TwinQ
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.steered import SteeredDenoiser


@dataclass(frozen=True)
class DsrlConfig(SoftActorConfig):
    """Settings of DSRL.

    Attributes:
        width: Hidden width of the actor.
    """

    SECTION: ClassVar[str] = "dsrl"

    target_entropy: float = field(default=0.0, metadata={"low": -10.0, "high": 0.69})
    width: int = field(default=256, metadata={"low": 8, "high": 4096})


class Dsrl(SoftActorLearner):
    """See the module."""

    Config = DsrlConfig

    @classmethod
    def require_start(cls, config: Any, checkpoint: Checkpoint) -> None:
        """As ``Learner``; and the policy must denoise, and make one chunk of one noise."""
        super().require_start(config, checkpoint)
        if not checkpoint.config.steering and (not checkpoint.config.denoises or checkpoint.config.schedule.sampler != "ddim"):
            raise UserError("dsrl needs a policy that denoises with DDIM: start from one, or choose another algorithm")

    @classmethod
    def prepare(cls, config: Any, checkpoint: Checkpoint, seed: int = 0, device: torch.device | str = "cpu") -> Checkpoint:
        """The same denoiser with an actor for its noise, which at first is nearly the usual noise; see ``Learner``."""
        cls.require_start(config, checkpoint)
        if checkpoint.config.steering:
            return checkpoint
        config = replace(checkpoint.config, steering=config.width)
        torch.manual_seed(seed)
        policy = Policy(config)
        state = policy.state_dict()  # with a fresh actor
        state.update({f"head.denoiser.{name[5:]}" if name.startswith("head.") else name: tensor for name, tensor in checkpoint.policy.items()})
        policy.load_state_dict(state)
        return replace(checkpoint, config=config, policy=policy.state_dict(), critics=None)

    def build(self) -> None:
        """Q of noise beside Q of chunks; the denoiser learns nothing."""
        super().build()
        head = self._head()
        head.denoiser.requires_grad_(False)
        whole = replace(self.checkpoint.config, past_actions=0, action_horizon=self.checkpoint.config.prediction_horizon)
        self.noise_q = TwinQ(whole).to(self.device)
        self.networks["noise_q"] = self.noise_q
        self.tune("value", self.noise_q.parameters())

    def learn(self) -> None:
        """Q of chunks by what the steered policy does next, Q of noise by Q of chunks; the actor once they had updates of their own."""
        rows, head = self.sample(), self._head()
        observation = self.policy.observe(rows.frames)
        with torch.no_grad():
            following = self.policy.observe(rows.next_frames)
            future = self.target_q(following, self._chunks(following, head.draw(following, self.generator)[0])).amin(0)
        self.regress(rows, observation, future.clamp(0.0, 1.0))
        self.follow()
        with torch.no_grad():
            noise = head.bounded(torch.randn((len(observation), *head.denoiser.chunk), generator=self.generator, device=self.device))
            worth = self.target_q(observation, self._chunks(observation, noise))
        self.descend("value", (self.noise_q(observation, noise) - worth).square().mean(dim=1).sum())
        if self.actor_learns:
            noise, log_probability = head.draw(observation, self.generator)
            self.climb(rows, noise, log_probability, self.noise_q(observation, noise).amin(0))

    def _chunks(self, observation: Tensor, noise: Tensor) -> Tensor:
        return self.policy.denormalise(self._head().denoiser.decode(observation, noise))

    def _head(self) -> SteeredDenoiser:
        assert isinstance(self.policy.head, SteeredDenoiser)
        return self.policy.head
