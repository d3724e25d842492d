"""Learns from episodes as they arrive and publishes weights: lowest priority, never in the way of the robot."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mechanic_rl_ros import msg
from mechanic_rl_ros.algorithms.learner_state import DamagedStateError
from mechanic_rl_ros.algorithms.learner_status import scale_record
from mechanic_rl_ros.algorithms.registry import DEFAULT, learner_of
from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import OK, WARN, Node, run
from mechanic_rl_ros.nodes.payloads import PayloadReceiver, PayloadSender
from mechanic_rl_ros.output import require_writable
from mechanic_rl_ros.policy.acting import weight_shapes
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.device import pick_device
from mechanic_rl_ros.policy.folder import existing_folder, set_aside
from mechanic_rl_ros.policy.weights import transfer_budget
from mechanic_rl_ros.replay.atomic import write_atomically
from mechanic_rl_ros.replay.episode_file import decode_episode
from mechanic_rl_ros.replay.frame_files import FullDiskError
from mechanic_rl_ros.replay.store import EpisodeStore
from mechanic_rl_ros.transfer import EPISODE, WEIGHTS, Chunk, Completed, Inbox, Outbox

CHUNK_BYTES = 256 * 1024
STOP_S = 8.0  # wall seconds that the update under way may take at the end
EPISODE_BYTES = 64 * 1024 * 1024
STORE_PERIOD_S = 2.0  # wall seconds between two tries to store what the disk did not take
MAX_UNSTORED = 64  # episodes that are kept in memory for that


class LearnerNode(Node):
    """The learner in a thread of its own; the executor's thread receives episodes and sends weights."""

    def __init__(self) -> None:
        super().__init__("learner_node")
        self.embodiment = self.embodiment_parameter()
        path = self.parameter("checkpoint", "", "folder of the policy to improve")
        seed = self.parameter("seed", 0, "seed of critics, batches and noise", low=0, high=2**31)
        device = self.parameter("device", "auto", "cpu, cuda, or auto: cuda where there is one")
        kind = learner_of(self.parameter("algorithm", DEFAULT, "how it learns, one of the sections of config/learner.yaml"))
        config = self.parameter("learner_file", "", "YAML file of the algorithm's settings, config/learner.yaml when empty")
        self.directory = Path(self.parameter("directory", "runs/latest/learner", "folder of received episodes and saved state"))
        self.publish_period = self.parameter("publish_period", 5.0, "wall s between two versions while learning", low=0.5, high=3600.0)
        torch.set_num_threads(1)
        self.checkpoint = Checkpoint.load(path, self.embodiment)
        self.device = pick_device(device)
        self.new_learner = partial(kind.create, kind.Config.from_yaml(config or None), self.checkpoint, seed, self.device, folder=self.directory / "replay")
        self.learner = self.new_learner()
        self.store = EpisodeStore(self.directory / "episodes", self.embodiment)
        critics = self.learner.critics()
        shapes = weight_shapes(self.learner.policy, critics[0] if critics else None)
        self.outbox = Outbox("", keep=2, limit_bytes=transfer_budget(shapes), chunk_size=CHUNK_BYTES)
        self.episodes: deque[Episode] = deque()
        self.recorded: Iterator[Episode] = iter(())
        self.stored: set[str] = set()  # SHA-256 of episodes that lie in the store
        self.unstored: deque[Completed] = deque()
        self.ready: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        self.published_version = self.saved_version = self.refused = 0
        self.state_fault = self.store_fault = self.replay_fault = self.last_refusal = ""
        self.refusing = threading.Lock()
        self.snapshot: dict[str, Any] = {}
        self.skipped_before, self.told = 0, ""

    def setup(self) -> None:
        try:
            require_writable(self.directory)
        except OSError as error:
            raise UserError(f"cannot write to {self.directory} ({error.strerror}): choose another run directory") from error
        self.outbox.source = self.get_fully_qualified_name()
        self._recover()
        self.sender = PayloadSender(self, "weights", qos.STATE, self._chunk)
        inbox = Inbox(EPISODE, limit_bytes=EPISODE_BYTES)
        self.receiver = PayloadReceiver(self, "episodes", qos.EPISODES, inbox, self._on_episode, wanted=lambda manifest: manifest.sha256 not in self.stored)
        self.status = self.create_publisher(msg.LearnerStatus, "learner_status", qos.STATE)
        self.create_timer(0.1, self._publish_ready, clock=self.wall)
        self.create_timer(1.0, self._publish_status, clock=self.wall)
        self.create_timer(STORE_PERIOD_S, self._store_again, clock=self.wall)

    def begin(self) -> None:
        self._look()
        self.stopping.clear()
        self.thread = threading.Thread(target=self._run, name="learning")
        self.thread.start()

    def end(self) -> None:
        self.stopping.set()
        if self.thread is not None:
            self.thread.join(timeout=STOP_S)
        self._store_again()
        if self.fault is not None or (self.thread is not None and self.thread.is_alive()):
            return  # damaged, or in the middle of an update: what was saved last stands
        if self._is_ahead():
            self._save()
        self._export()

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        s = self.snapshot
        fresh, self.skipped_before = s["skipped_gradients"] - self.skipped_before, s["skipped_gradients"]
        reason = self._reason() or (f"{fresh} more steps left out: a gradient was not finite" if fresh > 0 else "")
        values = {key: str(value) for key, value in s.items() if not isinstance(value, list)} | {"device": self.device, "refused": self.refused}
        return (WARN, reason, values) if reason else (OK, f"{s['updates']} updates from {s['episodes']} episodes", values)

    def _recover(self) -> None:
        """Goes on where an earlier life of this process stopped: saved state first, then episodes that came after it."""
        self.store.clean()
        self._restore()
        published = self._last_published()
        if self.learner.version >= max(1, published):
            self.saved_version = self.learner.version
            self._hand_out()
        else:  # learned anew: no number comes twice with other weights, and policies refuse lower ones
            self.learner.begin_at(published)
            self.saved_version = self.published_version = published
        self.stored = {hashlib.sha256(path.read_bytes()).hexdigest() for path in self.store.paths()}
        self.recorded = self._recorded()
        self._take_episodes()
        if self.learner.practice.fault:
            self.get_logger().warning(self.learner.practice.fault)

    def _recorded(self) -> Iterator[Episode]:
        """Episodes of an earlier life of this process, one at a time; then says what is wrong with the others."""
        yield from self.store.load()
        for path, reason in self.store.corrupt.items():
            self._refuse(f"episode file {path.name} skipped: {reason}")

    def _restore(self) -> None:
        """Takes the newest saved state that is not damaged; those that are do not lie in the way any more."""
        saved = self.directory / "state"
        while (folder := existing_folder(saved)).exists():
            try:
                self.learner.restore(saved)
            except DamagedStateError as error:
                self.state_fault = f"{error}; it is now {set_aside(folder)}, and the recorded episodes are learned from again"
                self.get_logger().warning(self.state_fault)
                self.learner = self.new_learner()  # the old one may be half restored
            else:
                self.get_logger().info(f"restored {self.learner.version} updates from {saved}")
                return

    def _last_published(self) -> int:
        try:
            return int(self._version_file().read_text())
        except (OSError, ValueError):
            return 0

    def _version_file(self) -> Path:
        return self.directory / "version"

    def _run(self) -> None:
        """Learns while there is something to learn from."""
        tried = time.monotonic()
        try:
            while not self.stopping.is_set():
                self._take_episodes()
                idle = self.learner.updates_due() == 0
                if not idle:
                    self.learner.update()
                if self._is_ahead() and (time.monotonic() - tried >= self.publish_period or (idle and not self.state_fault)):
                    if self._save():
                        self._hand_out()
                        self._export()
                    tried = time.monotonic()
                if idle:
                    self.stopping.wait(0.1)
        except Exception as error:
            self.fault = error

    def _take_episodes(self) -> None:
        self.episodes.extend(islice(self.recorded, not self.episodes))
        while self.episodes and (self._learn_from(self.episodes[0]) or len(self.episodes) > MAX_UNSTORED):
            self._look()
            self.episodes.popleft()  # only now: what is not in the queue any more is in the snapshot
            self.episodes.extend(islice(self.recorded, not self.episodes))  # in memory one at a time
        self._look()

    def _look(self) -> None:
        """Says what the other thread may know of the learner, which itself belongs to one thread at a time."""
        self.snapshot = {**self.learner.status(), **scale_record(self.learner), "updates_due": self.learner.updates_due()}
        reason = self.learner.guard.reason
        if reason not in ("", self.told):
            self.get_logger().warning(reason)
        self.told = reason

    def _learn_from(self, episode: Episode) -> bool:
        """Returns False if the disk has no room for it now."""
        try:
            self.learner.add_episode(episode)
        except FullDiskError as error:
            if not self.replay_fault:
                self.get_logger().warning(str(error))
            self.replay_fault = str(error)
            return False
        except UserError as error:
            self._refuse(str(error))
        self.replay_fault = ""
        return True

    def _is_ahead(self) -> bool:
        return self.learner.version > self.saved_version

    def _save(self) -> bool:
        """Saves the state. Comes before publishing: after a crash no version number comes twice with different weights."""
        try:
            self.learner.save(self.directory / "state")
            write_atomically(self._version_file(), str(self.learner.version).encode())
        except (UserError, OSError) as error:
            self.state_fault = f"state not saved, so nothing is published: {error}"
            self.get_logger().warning(self.state_fault)
            return False
        self.state_fault, self.saved_version = "", self.learner.version
        return True

    def _hand_out(self) -> None:
        """Publishes what should act and does not yet; nothing, while the guard withholds what was learned since."""
        if self.learner.guard.acting_version > self.published_version:
            self.published_version = self.learner.guard.acting_version
            self.ready.put((self.published_version, self.learner.weights()))

    def _export(self) -> None:
        """The policy as a checkpoint that `evaluate` and the next run can use."""
        try:
            self.learner.to_checkpoint().save(self.directory.parent / "checkpoint")
        except (UserError, OSError) as error:
            self.get_logger().error(f"checkpoint not written: {error}", throttle_duration_sec=30.0)

    def _on_episode(self, completed: Completed, announced: float) -> None:
        try:
            _, episode = self.store.add_bytes(completed.payload)
            self.stored.add(completed.manifest.sha256)
        except UserError as error:
            self.receiver.inbox.reject(completed.manifest, str(error))
            self._refuse(str(error))
            return
        except OSError as error:
            episode = decode_episode(completed.payload, self.embodiment)
            self._keep(completed, error)
        self.last_refusal = ""
        self.episodes.append(episode)

    def _keep(self, completed: Completed, error: OSError) -> None:
        """Keeps an episode in memory until the disk takes it."""
        self.unstored.append(completed)
        if len(self.unstored) > MAX_UNSTORED:
            self.receiver.inbox.forget(self.unstored.popleft().manifest)
        self.store_fault = f"{len(self.unstored)} episodes are not on disk ({error.strerror}): free space in {self.store.folder}"
        self.get_logger().warning(self.store_fault)

    def _store_again(self) -> None:
        try:
            while self.unstored:
                self.store.add_bytes(self.unstored[0].payload)
                self.stored.add(self.unstored[0].manifest.sha256)
                self.unstored.popleft()
        except OSError:
            return  # store_fault still says so
        self.store_fault = ""

    def _chunk(self, key: tuple[str, str, str, int], index: int) -> Chunk | None:
        return self.outbox.chunk(key, index)

    def _publish_ready(self) -> None:
        newest = None
        while not self.ready.empty():
            newest = self.ready.get()
        if newest is not None:
            version, payload = newest
            self.sender.announce(self.outbox.put(WEIGHTS, f"weights_{version:08d}", version, payload, self.checkpoint.signature))

    def _refuse(self, reason: str) -> None:
        with self.refusing:  # both threads refuse
            self.refused, self.last_refusal = self.refused + 1, reason
        self.get_logger().warning(reason)

    def _reason(self) -> str:
        """What is wrong now, or what was refused since the last good episode; empty if nothing."""
        return self.state_fault or self.store_fault or self.replay_fault or self.last_refusal or self.snapshot.get("notice", "")

    def _publish_status(self) -> None:
        waiting, s = len(self.episodes), self.snapshot  # in this order: see _take_episodes
        message = msg.LearnerStatus(version=self.published_version, updates=s["updates"], episodes=s["episodes"], rows=s["rows"])
        message.header.stamp = self.get_clock().now().to_msg()
        message.updates_due = max(s["updates_due"], min(waiting, 1))
        message.actor_scale, message.critic_scale, message.value_scale = float(s["actor_scale"]), float(s["critic_scale"]), float(s["value_scale"])
        message.networks, message.scales_from, message.scales = s["networks"], s["scales_from"], [scale for row in s["scales"] for scale in row]
        message.skipped_gradients, message.withheld, message.rollbacks = s["skipped_gradients"], s["withheld"], s["rollbacks"]
        message.actor_loss, message.critic_loss, message.update_time = float(s["actor_loss"]), float(s["critic_loss"]), 1e-3 * float(s["update_ms"])
        message.plain_success, message.best_success = _or_none(s["plain_success"]), _or_none(s["best_success"])
        message.prefers_best_of_n, message.device = bool(s["prefers_best_of_n"]), self.device
        message.refused, message.reason = self.refused, self._reason()
        self.status.publish(message)


def _or_none(value: float | None) -> float:
    return -1.0 if value is None else float(value)


def main() -> None:
    """Entry point of the executable ``learner_node``."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run(LearnerNode)
