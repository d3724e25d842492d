"""The learner: implicit Q-learning critics, and an actor that clones demonstrations and its own good behaviour.

Critics as in IQL (Kostrikov, Nair, Levine 2021): V by expectile regression towards min Q, Q towards n-step returns bootstrapped with V; nothing is
ever asked about actions that were not executed. The actor's denoising loss counts a practised chunk fully or not at all: the episode must have
succeeded and the chunk's advantage not be poor. Exponential weights, PPO on the denoising chain and latent-noise SAC were tried on the same problem
and either ruined the actor or learned less.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mechanic_rl_ros.algorithms.configuration import read_section
from mechanic_rl_ros.algorithms.gate import Gate
from mechanic_rl_ros.algorithms.learner_state import read_learner, write_learner
from mechanic_rl_ros.data import Episode, Outcome
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.acting import acting_tensors
from mechanic_rl_ros.policy.checkpoint import Checkpoint, pack_weights
from mechanic_rl_ros.policy.critic import TwinQ, Value
from mechanic_rl_ros.policy.frames import encode_episode
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.replay.buffer import ReplayBuffer, Rows
from mechanic_rl_ros.tuner import RelativeMechanic

TunerFactory = Callable[[Iterable[nn.Parameter], str], Any]
"""Makes the optimizer of one network from its parameters and its role: ``actor``, ``critic`` or ``value``. It has ``step``, ``zero_grad``, ``scale`` and
``averages``, as ``RelativeMechanic`` has."""


@dataclass(frozen=True)
class FilteredIqlConfig:
    """What is chosen once for every task. There is no learning rate: the tuner finds the step size.

    Attributes:
        warmup_episodes: Episodes with the base policy before the first update.
        critic_updates: Updates of the critics alone, before the actor's first.
        updates_per_episode: Updates that every further episode pays for.
        batch_size: Rows of one update.
        demonstration_share: Part of a batch that comes from the demonstrations.
        gamma: Discount of one step.
        expectile: Of V's regression towards min Q; 1 would be its maximum.
        polyak: Share of the new Q in its target, per update.
        advantage_floor: A practised chunk counts while its advantage is above this many deviations (below 0: slightly worse than expected still counts).
        replay_frames: Capacity of the replay.
    """

    warmup_episodes: int = field(default=60, metadata={"low": 1, "high": 100_000})
    critic_updates: int = field(default=800, metadata={"low": 0, "high": 1_000_000})
    updates_per_episode: int = field(default=10, metadata={"low": 1, "high": 10_000})
    batch_size: int = field(default=128, metadata={"low": 4, "high": 65_536})
    demonstration_share: float = field(default=0.25, metadata={"low": 0.0, "high": 0.9})
    gamma: float = field(default=0.97, metadata={"low": 0.0, "high": 1.0})
    expectile: float = field(default=0.8, metadata={"low": 0.5, "high": 0.999})
    polyak: float = field(default=0.005, metadata={"low": 1e-5, "high": 1.0})
    advantage_floor: float = field(default=-0.5, metadata={"low": -100.0, "high": 100.0})
    replay_frames: int = field(default=50_000, metadata={"low": 200, "high": 10_000_000})

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str] | None = None) -> FilteredIqlConfig:
        """Reads section ``filtered_iql`` of config/learner.yaml, or of the file given."""
        return read_section(cls, "filtered_iql", path)


class Learner:
    """Learns from episodes as they arrive, in updates of a few milliseconds, and hands out weights.

    Use: ``add_episode`` whenever one arrives; ``update`` while ``updates_due() > 0``; now and then ``save``, then publish ``weights()``. Saving
        before publishing keeps versions unique
    across a crash.

    Attributes:
        version: Number of updates done; grows with every update.
        episode_ids: Ids of all episodes ever added.
    """

    def __init__(self, config: FilteredIqlConfig, checkpoint: Checkpoint, seed: int, device: torch.device | str, tuner: TunerFactory | None = None) -> None:
        self.config, self.checkpoint, self.device = config, checkpoint, torch.device(device)
        torch.manual_seed(seed)  # initial critics
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        self.policy = checkpoint.build_policy(self.device)
        self.policy.encoders.requires_grad_(False)
        self.fingerprint = self.policy.fingerprint()
        self.q, self.value = TwinQ(checkpoint.config).to(self.device), Value(checkpoint.config).to(self.device)
        if checkpoint.critics is not None:
            _critics(self.q, self.value).load_state_dict(checkpoint.critics)
        self.target_q = copy.deepcopy(self.q).requires_grad_(False)
        make = tuner or (lambda parameters, role: RelativeMechanic(parameters))
        self.actor_tuner, self.critic_tuner = make(self.policy.head.parameters(), "actor"), make(self.q.parameters(), "critic")
        self.value_tuner = make(self.value.parameters(), "value")
        self.gate = Gate()
        self.practice = ReplayBuffer(checkpoint.config, config.replay_frames, config.gamma, self.device)
        self.demonstrations = _demonstrations(checkpoint, config, self.device)
        self.episode_ids: set[str] = set()
        self.version = checkpoint.version
        self.advantage_variance = torch.ones((), device=self.device)
        self._updates, self._losses, self._update_ms = 0, {"actor_loss": 0.0, "critic_loss": 0.0}, 0.0

    @classmethod
    def create(
        cls, config: FilteredIqlConfig, checkpoint: Checkpoint, seed: int = 0, device: torch.device | str = "cpu", tuner: TunerFactory | None = None
    ) -> Learner:
        """A learner that has learned nothing yet.

        Args:
            config: Settings.
            checkpoint: The policy to improve. Its critics, if any, are where the critics start.
            seed: Seed of initial critics, batches and noise.
            device: ``cpu`` or ``cuda``.
            tuner: Makes the optimizers, for comparisons; such a learner cannot be saved.

        Raises:
            UserError: The checkpoint has no demonstrations, or there is no such device.
        """
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device {device} is not available ({str(error).splitlines()[0]}): use device cpu") from error
        return cls(config, checkpoint, seed, device, tuner)

    def add_episode(self, episode: Episode) -> bool:
        """Encodes and keeps an episode. Returns False, and does nothing, if it is already known or too short to learn from.

        Raises:
            UserError: It was recorded with another embodiment.
        """
        if episode.id in self.episode_ids:
            return False
        self.checkpoint.embodiment.require_same(episode.embodiment, f"episode {episode.id}")
        self.episode_ids.add(episode.id)
        if episode.steps < 1:
            return False
        frames = encode_episode(self.policy, episode, self.device)
        actions, rewards = (torch.from_numpy(array).to(self.device) for array in (episode.actions, episode.rewards))
        self.practice.add(frames, actions, rewards, episode.success, terminal=episode.outcome in (Outcome.SUCCESS, Outcome.FAILURE))
        if episode.outcome is not Outcome.ABORTED:
            self.gate.add(episode.success, episode.best_of_n)
        return True

    def updates_due(self) -> int:
        """Updates that the episodes so far have paid for and that were not done yet."""
        config = self.config
        further = len(self.episode_ids) - config.warmup_episodes
        earned = config.critic_updates + config.updates_per_episode * further if further >= 0 and len(self.practice) else 0
        return max(0, earned - self._updates)

    def update(self) -> dict[str, float]:
        """One update: critics, and the actor once the critics had ``critic_updates`` of their own. Needs at least one episode. Returns the losses."""
        started = time.perf_counter()
        rows = self._sample()
        observation = self.policy.observe(rows.frames)
        advantage = self._update_critics(rows, observation)
        if self._updates >= self.config.critic_updates:
            self._update_actor(rows, observation, advantage)
        self._updates += 1
        self.version += 1
        self._update_ms += (1e3 * (time.perf_counter() - started) - self._update_ms) / min(self._updates, 100)
        return dict(self._losses)

    def weights(self) -> bytes:
        """The weights that should act now, as a message for ``unpack_weights`` and ``Actor.load``."""
        policy, q, _ = self._acting_networks()
        metadata = {
            "signature": self.checkpoint.signature,
            "encoder": self.fingerprint,
            "task": self.checkpoint.task,
            "prefers_best_of_n": self.gate.prefers_best_of_n,
        }
        return pack_weights(self.version, acting_tensors(policy, q), metadata)

    def to_checkpoint(self) -> Checkpoint:
        """What acts now, critics and demonstrations included, as a checkpoint to evaluate or to go on from."""
        policy, q, value = self._acting_networks()
        metadata = {**self.checkpoint.metadata, "prefers_best_of_n": self.gate.prefers_best_of_n, "practised_episodes": len(self.episode_ids)}
        base = self.checkpoint
        return Checkpoint(
            base.task, base.embodiment, base.config, policy.state_dict(), _critics(q, value).state_dict(), base.demonstrations, self.version, metadata
        )

    def status(self) -> dict[str, Any]:
        """Figures to show."""
        return {
            "version": self.version,
            "updates": self._updates,
            "episodes": len(self.episode_ids),
            "rows": len(self.practice),
            "actor_scale": self.actor_tuner.scale,
            "critic_scale": self.critic_tuner.scale,
            "value_scale": self.value_tuner.scale,
            "actor_loss": self._losses["actor_loss"],
            "critic_loss": self._losses["critic_loss"],
            "update_ms": self._update_ms,
            "skipped_gradients": sum(getattr(tuner, "skipped", 0) for tuner in (self.actor_tuner, self.critic_tuner, self.value_tuner)),
            "plain_success": self.gate.success(False),
            "best_success": self.gate.success(True),
            "prefers_best_of_n": self.gate.prefers_best_of_n,
        }

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes everything that a bit-equal continuation needs, replacing the previous save in one step.

        Raises:
            UserError: The disk is full, or the place cannot be written.
        """
        write_learner(Path(directory), self)

    def restore(self, directory: str | os.PathLike[str]) -> None:
        """Continues where ``save`` was called, bit by bit.

        Raises:
            UserError: The save is missing, damaged, or of another checkpoint.
        """
        read_learner(Path(directory), self)

    def counters(self) -> dict[str, Any]:
        """The plain numbers of the state, for ``save``."""
        return {"version": self.version, "updates": self._updates, "losses": self._losses, "update_ms": self._update_ms}

    def set_counters(self, counters: dict[str, Any]) -> None:
        """Takes back what ``counters`` gave."""
        self.version, self._updates, self._losses, self._update_ms = (counters[key] for key in ("version", "updates", "losses", "update_ms"))

    def _sample(self) -> Rows:
        shown = round(self.config.batch_size * self.config.demonstration_share)
        practised = self.practice.sample(self.config.batch_size - shown, self.generator)
        return Rows.join(practised, self.demonstrations.sample(shown, self.generator)) if shown else practised

    def _update_critics(self, rows: Rows, observation: Tensor) -> Tensor:
        with torch.no_grad():
            future = self.value(self.policy.observe(rows.next_frames)).clamp(0.0, 1.0)
            target = rows.returns + rows.discounts * future
            believed = self.target_q(observation, rows.chunks).amin(0)
        q_loss = (self.q(observation, rows.chunks) - target).square().mean(dim=1).sum()
        _descend(q_loss, self.critic_tuner)
        error = believed - self.value(observation)
        value_loss = (torch.where(error > 0, self.config.expectile, 1.0 - self.config.expectile) * error.square()).mean()
        _descend(value_loss, self.value_tuner)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.target_q.parameters()), list(self.q.parameters()), self.config.polyak)
            self.advantage_variance.lerp_(error.square().mean(), 1.0 / min(self._updates + 1, 100))
        self._losses["critic_loss"] = float(q_loss.detach())
        return error.detach()

    def _update_actor(self, rows: Rows, observation: Tensor, advantage: Tensor) -> None:
        weight = rows.solved * (advantage > self.config.advantage_floor * self.advantage_variance.sqrt())
        shown = round(self.config.batch_size * self.config.demonstration_share)
        weight[len(weight) - shown :] = 1.0
        losses = self.policy.loss(observation, rows.chunks, self.generator)
        loss = (weight * losses).mean() / weight.mean().clamp_min(1e-6)
        _descend(loss, self.actor_tuner)
        self._losses["actor_loss"] = float(loss.detach())

    def _acting_networks(self) -> tuple[Policy, TwinQ, Value]:
        policy, q, value = copy.deepcopy(self.policy), copy.deepcopy(self.q), copy.deepcopy(self.value)
        pairs: list[tuple[nn.Module, Any]] = [(policy.head, self.actor_tuner), (q, self.critic_tuner), (value, self.value_tuner)]
        for network, tuner in pairs:
            with torch.no_grad():
                torch._foreach_copy_(list(network.parameters()), tuner.averages())
        return policy, q, value


def _descend(loss: Tensor, tuner: Any) -> None:
    # No clipping of gradients: the tuner does not know their unit, and limits each step by the size of the network.
    tuner.zero_grad(set_to_none=True)
    loss.backward()
    tuner.step()


def _critics(q: TwinQ, value: Value) -> nn.ModuleDict:
    return nn.ModuleDict({"q": q, "value": value})


def _demonstrations(checkpoint: Checkpoint, config: FilteredIqlConfig, device: torch.device) -> ReplayBuffer:
    shown = checkpoint.demonstrations
    if shown is None or not len(shown["lengths"]):
        raise UserError("the checkpoint has no demonstrations, which the learner mixes in: make one with `mechanic-rl pretrain`")
    buffer = ReplayBuffer(checkpoint.config, len(shown["frames"]), config.gamma, device)
    lengths = shown["lengths"].tolist()
    for frames, actions in zip(shown["frames"].float().to(device).split(lengths), shown["actions"].float().to(device).split(lengths), strict=True):
        rewards = torch.zeros(len(frames) - 1, device=device)
        rewards[-1] = 1.0  # only solved demonstrations are kept
        buffer.add(frames, actions[:-1], rewards, solved=True, terminal=True)
    return buffer
