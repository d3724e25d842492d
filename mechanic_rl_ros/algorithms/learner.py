"""What every learner has in common: episodes come in, updates of a few milliseconds follow, weights go out."""

from __future__ import annotations

import copy
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from mechanic_rl_ros.algorithms.demonstrations import demonstration_buffer
from mechanic_rl_ros.algorithms.gate import Gate
from mechanic_rl_ros.algorithms.guard import Guard
from mechanic_rl_ros.algorithms.learner_config import LearnerConfig
from mechanic_rl_ros.algorithms.learner_input import add_episode
from mechanic_rl_ros.algorithms.learner_output import checkpoint_of, weights_of
from mechanic_rl_ros.algorithms.learner_state import read_learner, write_learner
from mechanic_rl_ros.algorithms.learner_status import SCALES, notice_about, scales_of, status_of
from mechanic_rl_ros.algorithms.snapshot import Snapshot
from mechanic_rl_ros.algorithms.tuners import TunerFactory, default_tuner
from mechanic_rl_ros.algorithms.weight_check import FARTHEST
from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.critic import TwinQ, Value
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.replay.mixture import mixed_batches
from mechanic_rl_ros.replay.rows import Rows

ROWS = 16
"""The actor's rows come in multiples of these: a matrix product of a size that never came before takes a millisecond to prepare, and memory."""

TAKEOVER_FRAMES = 20_000
"""Frames that people may have shown while practising until the oldest demonstrations make room."""


class Learner(ABC):
    """Learns from episodes as they arrive, and hands out weights.

    Use: ``add_episode`` whenever one arrives; ``update`` while ``updates_due() > 0``; now and then ``save``, then publish ``weights()``. Saving before
    publishing keeps versions unique across a crash. Only what the ``guard`` accepts gets out.

    A learner builds its networks in ``build`` and makes one update in ``learn``; everything else is here.

    Attributes:
        policy: Whatever of it requires gradients is the actor's.
        networks: All modules that a bit-equal continuation needs, by name.
        tuners: Optimizers by role.
        numbers: Running figures that a bit-equal continuation needs.
        version: Grows with every update, and whenever the guard goes back to an earlier state.
        episode_ids: Ids of all episodes ever added.
    """

    Config: ClassVar[type[LearnerConfig]]
    needs_demonstrations: ClassVar[bool] = True
    needs_takeovers: ClassVar[bool] = False
    needs_reward: ClassVar[bool] = True
    clones_chunks: ClassVar[bool] = False
    farthest: ClassVar[float] = FARTHEST
    """Distance from what acts beyond which weights are withheld."""
    wanders: ClassVar[bool] = False
    """Whether versions may go farther than that from where a period began, by short steps: an actor that climbs a Q function does so without harm."""

    def __init__(
        self, config: Any, checkpoint: Checkpoint, seed: int, device: torch.device | str, tuner: TunerFactory | None = None, folder: Path | None = None
    ) -> None:
        self.config, self.checkpoint, self.device = config, checkpoint, torch.device(device)
        torch.manual_seed(seed)  # initial networks
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        self.policy = checkpoint.build_policy(self.device)
        self.policy.encoders.requires_grad_(False)
        self.fingerprint = self.policy.fingerprint()
        self.networks: dict[str, nn.Module] = {"policy": self.policy}
        self.tuners: dict[str, Any] = {}
        self.numbers: dict[str, Tensor] = {}
        self.can_be_saved = tuner is None
        self._make = tuner or default_tuner
        self.gate = Gate()
        self.practice = ReplayBuffer(checkpoint.config, config.replay_frames, config.gamma, self.device, folder, self.fingerprint, alpha=config.priority)
        self.demonstrations = demonstration_buffer(checkpoint, config.gamma, self.device, TAKEOVER_FRAMES)
        self.episode_ids: set[str] = set()
        self.version = checkpoint.version
        self.updates, self.losses, self.update_ms = 0, {"actor_loss": 0.0, "critic_loss": 0.0}, 0.0
        self.scales: deque[tuple[float, ...]] = deque(maxlen=SCALES)  # of all tuners after each of the last updates
        self.successes = self.failures = self.rewarded = 0  # episodes that the policy solved on its own, that it did not, and that had any reward
        self.outside = 0  # episodes whose rewards add up to less than 0 or more than 1
        self.build()
        self.tune("actor", [parameter for parameter in self.policy.parameters() if parameter.requires_grad])
        self.guard = Guard(self)

    @classmethod
    def create(
        cls,
        config: Any,
        checkpoint: Checkpoint,
        seed: int = 0,
        device: torch.device | str = "cpu",
        tuner: TunerFactory | None = None,
        folder: Path | None = None,
    ) -> Self:
        """A learner that has learned nothing yet.

        Args:
            config: Settings, a ``Config`` of the class.
            checkpoint: The policy to improve, as ``prepare`` leaves it. Its critics, if any, are where the critics start.
            seed: Seed of initial critics, batches and noise.
            device: ``cpu`` or ``cuda``.
            tuner: Makes the optimizers, for comparisons; such a learner cannot be saved.
            folder: For the frames of the replay, which then outlive the process; None keeps them in memory and in every save.

        Raises:
            UserError: The checkpoint lacks what this learner needs, or there is no such device.
        """
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device {device} is not available ({str(error).splitlines()[0]}): use device cpu") from error
        cls.require_start(config, checkpoint)
        return cls(config, checkpoint, seed, device, tuner, folder)

    @classmethod
    def require_start(cls, config: Any, checkpoint: Checkpoint) -> None:
        """Refuses, without computing anything, a policy that this learner cannot start from.

        Raises:
            UserError: Why.
        """
        if cls.clones_chunks and checkpoint.config.denoises and checkpoint.config.schedule.sampling_steps == 1:
            raise UserError("the policy acts in one step, and cloning would make an average of it: practise with the policy that it was distilled from")
        drawn = (cls.needs_demonstrations and config.demonstration_share > 0) or cls.needs_takeovers or getattr(config, "pretraining_updates", 0) > 0
        if drawn and (checkpoint.demonstrations is None or not len(checkpoint.demonstrations["lengths"])):
            raise UserError("the checkpoint has no demonstrations, which the learner mixes in: make one with `mechanic-rl pretrain`")

    @classmethod
    def prepare(cls, config: Any, checkpoint: Checkpoint, seed: int = 0, device: torch.device | str = "cpu") -> Checkpoint:
        """The policy that practice starts with: the same, where a learner needs no other architecture.

        Raises:
            UserError: As ``require_start``.
        """
        cls.require_start(config, checkpoint)
        return checkpoint

    @abstractmethod
    def build(self) -> None:
        """Makes the networks beside the policy, and their optimizers."""

    @abstractmethod
    def learn(self) -> None:
        """One update of all networks; notes ``losses``."""

    def critics(self) -> tuple[TwinQ, Value] | None:
        """Critics that may choose among samples when the policy acts, as they are now; None if this learner's must not."""
        return None

    def promise(self, frame: Tensor) -> float:
        """What is expected of an episode that begins with a frame (frame_dim,), by critics that may choose; the same of all where there are none."""
        return 0.0

    def tune(self, role: str, parameters: Iterable[nn.Parameter]) -> None:
        """Gives parameters to an optimizer of their own."""
        self.tuners[role] = self._make(list(parameters), role)

    def descend(self, role: str, loss: Tensor) -> float:
        """One step of an optimizer; returns the loss. Gradients are not clipped: the tuner does not know their unit, and limits each step itself."""
        tuner = self.tuners[role]
        tuner.zero_grad(set_to_none=True)
        loss.backward()
        tuner.step()
        return float(loss.detach())

    def clone(self, rows: Rows, observation: Tensor, weight: Tensor) -> None:
        """The actor clones rows with weights (B,); demonstrations, which come last, always count fully. What weighs nothing costs next to nothing."""
        weight = weight * rows.weights  # rows that are drawn more often for the critics' sake do not count more
        weight[len(weight) - self.shown_rows :] = 1.0
        if count := int(weight.count_nonzero()):
            counted = weight.argsort(descending=True, stable=True)[: -(-count // ROWS) * ROWS]
            losses = self.policy.loss(observation[counted], rows.chunks[counted], self.generator)
            self.losses["actor_loss"] = self.descend("actor", (weight[counted] * losses).sum() / weight.sum())

    def add_episode(self, episode: Episode) -> bool:
        """Encodes and keeps an episode. Returns False, and does nothing, if it is already known or too short to learn from.

        What a person did in it counts twice: as executed, and as a demonstration.

        Raises:
            UserError: It was recorded with another embodiment, or does not fit into the replay.
            FullDiskError: The disk of the replay is full; nothing happened.
        """
        return add_episode(self, episode)

    def require_fit(self, episode: Episode) -> None:  # noqa: B027 - most learners need nothing but what every episode has
        """Refuses, before anything is kept, an episode that ``take`` could not take.

        Raises:
            UserError: It does not fit.
        """

    def take(self, episode: Episode, frames: Tensor) -> None:  # noqa: B027 - most learners need nothing but the replay
        """Keeps what the replay, which has taken the episode by now, does not hold; ``frames`` (T + 1, frame_dim). Refuses nothing."""

    def updates_due(self) -> int:
        """Updates that the episodes so far have paid for and that were not done yet."""
        return max(0, self.paid_updates() - self.updates)

    def paid_updates(self) -> int:
        """Updates that the episodes so far have paid for."""
        further = len(self.episode_ids) - self.config.warmup_episodes
        return self.config.critic_updates + self.config.updates_per_episode * further if further >= 0 and len(self.practice) else 0

    def update(self) -> dict[str, float]:
        """One update. Needs at least one episode. Returns the losses."""
        started = time.perf_counter()
        self.learn()
        self.updates += 1
        self.version += 1
        self.scales.append(scales_of(self))
        self.update_ms += (1e3 * (time.perf_counter() - started) - self.update_ms) / min(self.updates, 100)
        return dict(self.losses)

    def sample(self) -> Rows:
        """A batch of practice and, last, of demonstrations."""
        return self.samples(1)[0]

    def samples(self, count: int) -> list[Rows]:
        """Several batches, drawn at once: that takes hardly longer than one."""
        shown = self.shown_rows
        return mixed_batches(count, self.practice, self.config.batch_size - shown, self.demonstrations, shown, self.generator)

    @property
    def was_shown_more(self) -> bool:
        """Whether people have shown something while it practised, however many older demonstrations made room for it."""
        shown = self.checkpoint.demonstrations
        return self.demonstrations.end > (0 if shown is None else len(shown["frames"]))

    @property
    def shown_rows(self) -> int:
        """Rows of a batch that come from demonstrations."""
        return round(self.config.batch_size * self.config.demonstration_share) if len(self.demonstrations) else 0

    @property
    def actor_learns(self) -> bool:
        """Whether there is something to learn, and the critics have had their updates alone."""
        return self.has_lessons and self.updates >= self.config.critic_updates

    @property
    def has_lessons(self) -> bool:
        """Whether practice can teach the actor anything yet: it has solved some episodes and not others, and reward has told which where that is needed.

        Until then what acts stays as it is.
        """
        return self.successes > 0 and self.failures > 0 and (self.rewarded > 0 or not self.needs_reward)

    def acting_policy(self) -> Policy:
        """The policy that should act now: what its optimizer averages."""
        policy = copy.deepcopy(self.policy)
        trained: list[Tensor] = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        with torch.no_grad():
            torch._foreach_copy_(trained, self.tuners["actor"].averages())
        return policy

    def averaged(self, network: nn.Module, role: str) -> Any:
        """A copy of a network with what its optimizer averages."""
        twin = copy.deepcopy(network)
        with torch.no_grad():
            torch._foreach_copy_(list(twin.parameters()), self.tuners[role].averages())
        return twin

    def candidate(self) -> dict[str, Tensor]:
        """What would act if everything learned so far did: tensors ``head.*``, and of critics that may choose ``q.*`` and ``value.*``."""
        critics = self.critics()
        modules: dict[str, nn.Module] = {} if critics is None else {"q": critics[0], "value": critics[1]}
        return nn.ModuleDict({"head": self.acting_policy().head, **modules}).state_dict()

    def policy_with(self, tensors: Mapping[str, Tensor]) -> Policy:
        """A policy that acts with what ``candidate`` gave."""
        policy = copy.deepcopy(self.policy)
        policy.head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in tensors.items() if name.startswith("head.")})
        return policy

    def snapshot(self) -> Snapshot:
        """Networks, tuners and running figures as they are now."""
        return Snapshot.take(self.version, self._trained(), self.tuners, self.numbers)

    def go_back(self, snapshot: Snapshot) -> None:
        """Goes on from a snapshot, as a new version. Replay, random numbers and counters stay as they are; what is known of best-of-N was of other critics."""
        snapshot.put_back(self._trained(), self.tuners, self.numbers)
        self.gate = Gate()
        self.version += 1

    def begin_at(self, version: int) -> None:
        """Says that versions up to this one were of a learner whose state is lost: no number comes twice with other weights."""
        self.version = version
        self.guard.begin(self)

    def _trained(self) -> dict[str, nn.Module]:
        return {**self.networks, "policy": self.policy.head}  # encoders never change

    def weights(self) -> bytes:
        """The weights that should act now, as a message for ``unpack_weights`` and ``Actor.load``: the newest that the guard accepts."""
        self.guard.judge(self)
        return weights_of(self)

    def to_checkpoint(self) -> Checkpoint:
        """What acts now, critics and demonstrations included, as a checkpoint to evaluate or to go on from; without the noise that only practice needs."""
        self.guard.judge(self)
        return checkpoint_of(self)

    def status(self) -> dict[str, Any]:
        """Figures to show, by name."""
        return status_of(self)

    def notice(self) -> str:
        """What a person should know about the episodes so far; empty if nothing."""
        return notice_about(self)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes everything that a bit-equal continuation needs, replacing the previous save in one step.

        What ``weights`` gives afterwards is decided first, and is in the save.

        Raises:
            UserError: The disk is full, or the place cannot be written.
        """
        self.guard.judge(self)
        write_learner(Path(directory), self)

    def restore(self, directory: str | os.PathLike[str]) -> None:
        """Continues where ``save`` was called, bit by bit.

        Raises:
            UserError: The save is missing, damaged, or of another checkpoint. What was damaged may be restored in part: make a new learner then.
        """
        read_learner(Path(directory), self)
        self.scales.clear()

    def counters(self) -> dict[str, Any]:
        """The plain numbers of the state, for ``save``."""
        return {name: getattr(self, name) for name in ("version", "updates", "losses", "update_ms", "successes", "failures", "rewarded", "outside")}

    def set_counters(self, counters: dict[str, Any]) -> None:
        """Takes back what ``counters`` gave."""
        for name in self.counters():
            setattr(self, name, counters.get(name, getattr(self, name)))  # one that an earlier version did not count begins anew

    def memory(self) -> dict[str, Tensor]:
        """What ``take`` has kept, for ``save``."""
        return {}

    def set_memory(self, tensors: dict[str, Tensor]) -> None:  # noqa: B027 - as ``take``
        """Takes back what ``memory`` gave."""
