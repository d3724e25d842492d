"""Learns from episodes as they arrive and publishes weights: lowest priority, never in the way of the robot."""

from __future__ import annotations

import os
import queue
import threading
import time
from pathlib import Path
from typing import Any

import torch

from mechanic_rl_ros import msg
from mechanic_rl_ros.algorithms.filtered_iql import FilteredIqlConfig, Learner
from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import OK, WARN, Node, run
from mechanic_rl_ros.nodes.payloads import PayloadReceiver, PayloadSender
from mechanic_rl_ros.nodes.policy_node import choose_device
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.folder import existing_folder
from mechanic_rl_ros.replay.store import EpisodeStore
from mechanic_rl_ros.transfer import Chunk, Completed, Inbox, Outbox

CHUNK_BYTES = 256 * 1024
STOP_S = 8.0  # wall seconds that the update under way may take at the end
EPISODE_BYTES = 64 * 1024 * 1024


class LearnerNode(Node):
    """The learner in a thread of its own; the executor's thread receives episodes and sends weights."""

    def __init__(self) -> None:
        super().__init__("learner_node")
        self.embodiment = self.embodiment_parameter()
        path = self.parameter("checkpoint", "", "folder of the policy to improve")
        seed = self.parameter("seed", 0, "seed of critics, batches and noise", low=0, high=2**31)
        device = self.parameter("device", "auto", "cpu, cuda, or auto: cuda where there is one")
        config = self.parameter("learner_file", "", "YAML file of the algorithm's settings, config/learner.yaml when empty")
        self.directory = Path(self.parameter("directory", "runs/latest/learner", "folder of received episodes and saved state"))
        self.publish_period = self.parameter("publish_period", 5.0, "wall s between two versions while learning", low=0.5, high=3600.0)
        torch.set_num_threads(1)
        self.checkpoint = Checkpoint.load(path, self.embodiment)
        self.device = choose_device(device)
        self.learner = Learner.create(FilteredIqlConfig.from_yaml(config or None), self.checkpoint, seed, self.device)
        self.store = EpisodeStore(self.directory / "episodes", self.embodiment)
        self.outbox = Outbox("", keep=2, chunk_size=CHUNK_BYTES)
        self.episodes: queue.SimpleQueue[Episode] = queue.SimpleQueue()
        self.ready: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="learning")
        self.published_version, self.refused, self.reason = -1, 0, ""
        self.snapshot: dict[str, Any] = {}

    def setup(self) -> None:
        self.outbox.source = self.get_fully_qualified_name()
        self._recover()
        self.sender = PayloadSender(self, "weights", qos.STATE, self._chunk)
        self.receiver = PayloadReceiver(self, "episodes", qos.EPISODES, Inbox(limit_bytes=EPISODE_BYTES), self._on_episode)
        self.status = self.create_publisher(msg.LearnerStatus, "learner_status", qos.STATE)
        self.create_timer(0.1, self._publish_ready, clock=self.wall)
        self.create_timer(1.0, self._publish_status, clock=self.wall)

    def begin(self) -> None:
        self.snapshot = self.learner.status()
        self.thread.start()

    def end(self) -> None:
        self.stopping.set()
        self.thread.join(timeout=STOP_S)
        if not self.thread.is_alive():  # else it is in the middle of an update; the last saved state stands
            self._export()

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        values = {key: str(value) for key, value in self.snapshot.items()} | {"device": self.device, "refused": self.refused}
        if self.reason:
            return WARN, self.reason, values
        return OK, f"{self.snapshot.get('updates', 0)} updates from {self.snapshot.get('episodes', 0)} episodes", values

    def _recover(self) -> None:
        """Goes on where an earlier life of this process stopped: saved state first, then episodes that came after it."""
        self.store.clean()
        saved = self.directory / "state"
        if existing_folder(saved).exists():
            self.learner.restore(saved)
            self.get_logger().info(f"restored {self.learner.version} updates from {saved}")
        for episode in self.store.load():
            self._learn_from(episode)
        for path, reason in self.store.corrupt.items():
            self._refuse(f"episode file {path.name} skipped: {reason}")
        if self.learner.version > 0:
            self._hand_out()

    def _run(self) -> None:
        """Learns while there is something to learn from."""
        published = time.monotonic()
        try:
            while not self.stopping.is_set():
                self._take_episodes()
                if self.learner.updates_due() == 0:
                    if self.learner.version != self.published_version and self.learner.version > 0:
                        self._save_and_hand_out()
                        published = time.monotonic()
                    self.stopping.wait(0.1)
                    continue
                self.learner.update()
                if time.monotonic() - published >= self.publish_period:
                    self._save_and_hand_out()
                    published = time.monotonic()
        except Exception as error:
            self.fault = error

    def _take_episodes(self) -> None:
        while not self.episodes.empty():
            self._learn_from(self.episodes.get())
        self.snapshot = self.learner.status()

    def _learn_from(self, episode: Episode) -> None:
        try:
            self.learner.add_episode(episode)
        except UserError as error:
            self._refuse(str(error))

    def _save_and_hand_out(self) -> None:
        # Saved before it is published: after a crash no version number comes twice with different weights.
        try:
            self.learner.save(self.directory / "state")
        except (UserError, OSError) as error:
            self._refuse(f"state not saved, so nothing is published: {error}")
            return
        self._hand_out()

    def _hand_out(self) -> None:
        self.published_version = self.learner.version
        self.snapshot = self.learner.status()
        self.ready.put((self.learner.version, self.learner.weights()))

    def _export(self) -> None:
        """The policy as a checkpoint that `evaluate` and the next run can use."""
        try:
            self.learner.to_checkpoint().save(self.directory.parent / "checkpoint")
        except (UserError, OSError) as error:
            self.get_logger().error(f"checkpoint not written: {error}")

    def _on_episode(self, completed: Completed, announced: float) -> None:
        try:
            _, episode = self.store.add_bytes(completed.payload)
        except UserError as error:
            self.receiver.inbox.reject(completed.manifest, str(error))
            self._refuse(str(error))
            return
        except OSError as error:
            self._refuse(f"cannot keep episode {completed.manifest.id} ({error.strerror}): free space in {self.store.folder}")
            return
        self.episodes.put(episode)

    def _chunk(self, key: tuple[str, str, str, int], index: int) -> Chunk | None:
        return self.outbox.chunk(key, index)

    def _publish_ready(self) -> None:
        newest = None
        while not self.ready.empty():
            newest = self.ready.get()
        if newest is not None:
            version, payload = newest
            self.sender.announce(self.outbox.put("weights", f"weights_{version:08d}", version, payload, self.checkpoint.signature))

    def _refuse(self, reason: str) -> None:
        self.refused, self.reason = self.refused + 1, reason
        self.get_logger().warning(reason)

    def _publish_status(self) -> None:
        s = self.snapshot
        message = msg.LearnerStatus(version=max(0, self.published_version), updates=s["updates"], episodes=s["episodes"], rows=s["rows"])
        message.header.stamp = self.get_clock().now().to_msg()
        message.updates_due = self.learner.updates_due() if self.episodes.empty() else 1
        message.actor_scale, message.critic_scale, message.value_scale = float(s["actor_scale"]), float(s["critic_scale"]), float(s["value_scale"])
        message.actor_loss, message.critic_loss, message.update_time = float(s["actor_loss"]), float(s["critic_loss"]), 1e-3 * float(s["update_ms"])
        message.plain_success, message.best_success = _or_none(s["plain_success"]), _or_none(s["best_success"])
        message.prefers_best_of_n, message.device = bool(s["prefers_best_of_n"]), self.device
        message.refused, message.reason = self.refused, self.reason
        self.status.publish(message)


def _or_none(value: float | None) -> float:
    return -1.0 if value is None else float(value)


def main() -> None:
    """Entry point of the executable ``learner_node``."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run(LearnerNode)
