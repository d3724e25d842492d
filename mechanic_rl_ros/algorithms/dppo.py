"""PPO on the denoising chain (Ren et al., Diffusion Policy Policy Optimization, 2024), of which REINFORCE with a baseline is the plain case.

Every denoising step of every executed chunk is an action whose probability is known, because the robot practises with a little noise after every
step (``policy/chain.py``); the chain travels with the chunk into the recorded episode. All steps of a chunk share the chunk's advantage, from
generalised advantage estimation over a learned V. Data are used for one iteration and then forgotten.

How long the actor's steps are follows from how far its data may be trusted (Schulman et al., TRPO, 2015): an iteration that leaves that region begins
anew from the policy that acted, with half the unit of the tuner, and one that used little of the region doubles the unit of the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mechanic_rl_ros.algorithms.guard import chosen_by
from mechanic_rl_ros.algorithms.learner import Learner
from mechanic_rl_ros.algorithms.learner_config import LearnerConfig
from mechanic_rl_ros.algorithms.snapshot import Snapshot
from mechanic_rl_ros.data import Episode, Outcome
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.chain import log_probability, trace_size, unpack_chain
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.critic import Value
from mechanic_rl_ros.policy.denoiser import Denoiser
from mechanic_rl_ros.tuner import RelativeMechanic

ROOM = 8.0
"""An iteration that stays so many times below the largest divergence could have gone twice as far, which is four times the divergence."""

SMALLEST_UNIT = 1e-6
"""Share of the tuner's unit below which nothing is gained by halving it: the probabilities themselves are not more precise."""


@dataclass(frozen=True)
class DppoConfig(LearnerConfig):
    """Settings of DPPO. ``updates_per_episode`` and ``demonstration_share`` play no part.

    Attributes:
        iteration_episodes: Episodes of one iteration.
        epochs: Passes over them.
        value_iterations: Iterations in which V learns alone.
        exploration: Deviation of the noise after every denoising step, normalised.
        trace_decay: Of generalised advantage estimation, lambda.
        clip: Change of a probability ratio beyond which it earns nothing more; 0: any change counts.
        largest_divergence: Of the policy from the one that acted, per number of a chunk (nats), to which its data say something.
    """

    SECTION: ClassVar[str] = "dppo"

    warmup_episodes: int = field(default=1, metadata={"low": 1, "high": 100_000})
    critic_updates: int = field(default=0, metadata={"low": 0, "high": 1_000_000})
    iteration_episodes: int = field(default=20, metadata={"low": 1, "high": 10_000})
    epochs: int = field(default=10, metadata={"low": 1, "high": 1000})
    value_iterations: int = field(default=1, metadata={"low": 0, "high": 1000})
    exploration: float = field(default=0.1, metadata={"low": 0.001, "high": 1.0})
    trace_decay: float = field(default=0.95, metadata={"low": 0.0, "high": 1.0})
    clip: float = field(default=0.01, metadata={"low": 0.0, "high": 10.0})
    largest_divergence: float = field(default=0.02, metadata={"low": 1e-6, "high": 1e6})


@dataclass(frozen=True)
class ReinforceConfig(DppoConfig):
    """Settings of REINFORCE: one pass over the data, nothing clipped."""

    SECTION: ClassVar[str] = "reinforce"

    epochs: int = field(default=1, metadata={"low": 1, "high": 1000})
    clip: float = field(default=0.0, metadata={"low": 0.0, "high": 10.0})


class Dppo(Learner):
    """See the module."""

    Config: ClassVar[type[LearnerConfig]] = DppoConfig
    needs_demonstrations = False

    @classmethod
    def require_start(cls, config: Any, checkpoint: Checkpoint) -> None:
        """As ``Learner``; and the policy must denoise."""
        super().require_start(config, checkpoint)
        if not isinstance(checkpoint.build_policy().head, Denoiser):
            raise UserError(f"{cls.Config.SECTION} needs a policy that denoises: start from one, or choose another algorithm")

    @classmethod
    def prepare(cls, config: Any, checkpoint: Checkpoint, seed: int = 0, device: torch.device | str = "cpu") -> Checkpoint:
        """The same policy, which explores while it practises; see ``Learner``."""
        cls.require_start(config, checkpoint)
        architecture = replace(checkpoint.config, schedule=replace(checkpoint.config.schedule, exploration=config.exploration))
        return replace(checkpoint, config=architecture, critics=None)

    def build(self) -> None:
        """V, and room for the data of an iteration."""
        self.value = Value(self.checkpoint.config).to(self.device)
        self.networks["value"] = self.value
        self.tune("value", self.value.parameters())
        self.flights: list[dict[str, Tensor]] = []  # one per episode
        self.iteration: dict[str, Tensor] = {}
        self.numbers["iterations"] = torch.zeros((), device=self.device)
        self.numbers["unit"] = torch.tensor(1.0)  # of the actor's tuner, as a share of its own

    def require_fit(self, episode: Episode) -> None:
        """Refuses the chains of another policy.

        Raises:
            UserError: They have another size.
        """
        size = trace_size(self.checkpoint.config)
        if _teaches(episode) and episode.traces.shape[1] != size:
            raise UserError(f"episode {episode.id} has traces of {episode.traces.shape[1]} numbers, this policy makes {size}: it is of another policy")

    def take(self, episode: Episode, frames: Tensor) -> None:
        """Keeps the chains of an episode, with what each chunk earned until the next one."""
        if not _teaches(episode):
            return
        begins = np.flatnonzero(~np.isnan(episode.traces[:, 0]))
        ends = np.append(begins[1:], episode.steps)
        horizon = self.checkpoint.config.observation_horizon
        window = np.maximum(np.append(begins, episode.steps)[:, None] - np.arange(horizon - 1, -1, -1), 0)
        earned = [sum(self.config.gamma ** (step - a) * episode.rewards[step] for step in range(a, b)) for a, b in zip(begins, ends, strict=True)]
        discounts = self.config.gamma ** (ends - begins).astype(np.float64)
        if episode.outcome in (Outcome.SUCCESS, Outcome.FAILURE):
            discounts[-1] = 0.0  # nothing follows; time-outs are bootstrapped through
        flight = {"frames": frames[torch.from_numpy(window)], "traces": torch.from_numpy(episode.traces[begins])}
        flight |= {"rewards": torch.tensor(np.array(earned, np.float32)), "discounts": torch.tensor(discounts.astype(np.float32))}
        self.flights.append({name: tensor.to(self.device) for name, tensor in flight.items()})

    def updates_due(self) -> int:
        """What is left of the iteration under way, or all of the next one when its episodes are there."""
        if self.iteration:
            return int(max(self.iteration["left"], self.iteration["actor_left"]))
        if len(self.flights) < self.config.iteration_episodes or len(self.episode_ids) < self.config.warmup_episodes:
            return 0
        return self._length(sum(len(flight["rewards"]) for flight in self.flights))

    def learn(self) -> None:
        """One batch of V, and of the actor once V had iterations of its own."""
        if not self.iteration:
            self._begin()
        now = self.iteration
        rows = self._next_rows(now)
        observation = self.policy.observe(now["frames"][rows])
        if now["left"] > 0:
            now["left"] -= 1
            self.losses["critic_loss"] = self.descend("value", (self.value(observation) - now["returns"][rows]).square().mean())
        if now["actor_left"] > 0:
            now["actor_left"] -= 1
            self._update_actor(observation, now["traces"][rows], now["advantages"][rows])
        if self.updates_due() == 0:
            self.iteration = {}
            self.numbers["iterations"] += 1

    def notice(self) -> str:
        """Says so when episodes come without chains."""
        if len(self.episode_ids) >= self.config.iteration_episodes and not (self.flights or self.iteration or self.updates):
            return "the episodes hold no denoising chains: start policy and learner from the same prepared checkpoint"
        return super().notice()

    def memory(self) -> dict[str, Tensor]:
        """The data of this iteration and of the next."""
        kept = {f"flight/{index}/{name}": tensor for index, flight in enumerate(self.flights) for name, tensor in flight.items()}
        return kept | {f"iteration/{name}": tensor for name, tensor in self.iteration.items()}

    def set_memory(self, tensors: dict[str, Tensor]) -> None:
        """Takes them back."""
        flights: dict[int, dict[str, Tensor]] = {}
        self.iteration = {}
        for key, tensor in tensors.items():
            part, _, rest = key.partition("/")
            if part == "iteration":
                self.iteration[rest] = tensor.to(self.device)
            else:
                index, name = rest.split("/")
                flights.setdefault(int(index), {})[name] = tensor.to(self.device)
        self.flights = [flights[index] for index in sorted(flights)]

    def go_back(self, snapshot: Snapshot) -> None:
        """Goes back, and forgets what the policy did that is no more."""
        super().go_back(snapshot)
        self.flights, self.iteration = [], {}

    def _next_rows(self, now: dict[str, Tensor]) -> Tensor:
        # Batch after batch of a random order, and then of another one: each epoch passes over all rows.
        if not len(now["order"]):
            now["order"] = torch.randperm(len(now["advantages"]), generator=self.generator, device=self.device)
        rows, now["order"] = now["order"].split([min(self.config.batch_size, len(now["order"])), max(len(now["order"]) - self.config.batch_size, 0)])
        return rows

    def _length(self, chunks: int) -> int:
        return self.config.epochs * -(-chunks // self.config.batch_size)

    @torch.no_grad()
    def _begin(self) -> None:
        # Advantages by V as it is now; the same data teach V and the actor.
        value = self.averaged(self.value, "value")
        parts: dict[str, list[Tensor]] = {"frames": [], "traces": [], "advantages": [], "returns": []}
        for flight in self.flights:
            values = value(self.policy.observe(flight["frames"])).clamp(0.0, 1.0)
            advantages = self._advantages(flight["rewards"], flight["discounts"], values)
            own = {"frames": flight["frames"][:-1], "traces": flight["traces"], "advantages": advantages, "returns": advantages + values[:-1]}
            for name, tensor in own.items():
                parts[name].append(tensor)
        self.iteration = {name: torch.cat(tensors) for name, tensors in parts.items()}
        advantages = self.iteration["advantages"]
        self.iteration["advantages"] = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-6)
        self.iteration["order"] = torch.zeros(0, dtype=torch.int64, device=self.device)
        length = self._length(len(advantages))
        self.iteration |= {"length": torch.tensor(length), "left": torch.tensor(length), "actor_left": torch.tensor(0)}
        self.flights = []
        if float(self.numbers["iterations"]) >= self.config.value_iterations and self.has_lessons:
            self.iteration |= {f"start/{name}": tensor.clone() for name, tensor in self.acting_policy().head.state_dict().items()}
            self._begin_actor()

    def _begin_actor(self) -> None:
        """The actor goes on from what acted, which is what its data are about."""
        self.policy.head.load_state_dict({name.removeprefix("start/"): tensor for name, tensor in self.iteration.items() if name.startswith("start/")})
        self.tune("actor", [parameter for parameter in self.policy.parameters() if parameter.requires_grad])
        if isinstance(tuner := self.tuners["actor"], RelativeMechanic):
            group = tuner.param_groups[0]
            group["unit"] *= float(self.numbers["unit"])  # what the divergence allows is known
            group["pretrained"] = False  # a unit that grew anew in every iteration would never be whole
        self.iteration["actor_left"] = self.iteration["length"].clone()
        self.iteration["gone"] = torch.tensor(0.0)  # largest divergence so far

    def _advantages(self, rewards: Tensor, discounts: Tensor, values: Tensor) -> Tensor:
        # Schulman et al. 2016, equation 16, over chunks of several steps.
        errors = rewards + discounts * values[1:] - values[:-1]
        advantages, following = torch.zeros_like(rewards), torch.zeros((), device=rewards.device)
        for index in range(len(rewards) - 1, -1, -1):
            following = errors[index] + discounts[index] * self.config.trace_decay * following
            advantages[index] = following
        return advantages

    def _update_actor(self, observation: Tensor, traces: Tensor, advantages: Tensor) -> None:
        chain = unpack_chain(traces, self.checkpoint.config)
        head = self.policy.head
        assert isinstance(head, Denoiser)
        change = log_probability(head, observation, chain.samples) - chain.log_probability  # (B, S)
        if not self._within_reach(float((change.exp() - 1.0 - change).mean().detach())):
            return
        ratio = change.exp()
        bounded = ratio.clamp(1.0 - self.config.clip, 1.0 + self.config.clip) if self.config.clip else ratio
        gain = torch.minimum(ratio * advantages[:, None], bounded * advantages[:, None])
        self.losses["actor_loss"] = self.descend("actor", -gain.mean())

    def _within_reach(self, divergence: float) -> bool:
        now = self.iteration
        moved = bool(now["actor_left"] + 1 < now["length"])
        now["gone"] = now["gone"].clamp_min(divergence)
        if divergence <= self.config.largest_divergence:
            if now["actor_left"] == 0 and now["gone"] < self.config.largest_divergence / ROOM:
                self.numbers["unit"] = (2.0 * self.numbers["unit"]).clamp_max(1.0)
            return True
        now["actor_left"] = torch.tensor(0)
        if moved and isinstance(self.tuners["actor"], RelativeMechanic) and float(self.numbers["unit"]) > SMALLEST_UNIT:
            self.numbers["unit"] = self.numbers["unit"] / 2.0
            self._begin_actor()
        return False


def _teaches(episode: Episode) -> bool:
    # Of an episode that somebody took over, nothing is the policy's merit or fault.
    return bool(episode.traces.size) and episode.outcome is not Outcome.ABORTED and chosen_by(episode) >= 0


class Reinforce(Dppo):
    """REINFORCE with a baseline on the denoising chain (Williams 1992): one pass over the data, no clipping."""

    Config = ReinforceConfig
