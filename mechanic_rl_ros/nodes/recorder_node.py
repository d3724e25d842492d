"""Records every episode as an MCAP file and serves it to whoever asks."""

from __future__ import annotations

import time
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import Episode, Observation, Outcome, Source
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import ERROR, OK, WARN, Node, nanoseconds, run
from mechanic_rl_ros.nodes.observations import ObservationSubscriber
from mechanic_rl_ros.nodes.payloads import PayloadSender
from mechanic_rl_ros.replay.recording import Recording
from mechanic_rl_ros.replay.store import EpisodeStore
from mechanic_rl_ros.safety.executed import Executed
from mechanic_rl_ros.transfer import Chunk, Manifest

GRACE_S = 0.5  # wall seconds that the last frames of an episode may take to arrive
RETRY_S = 2.0  # wall seconds between two attempts to write what could not be written
UNWRITTEN = 4  # episodes that wait for room on the disk until practice has to wait, too
CHUNK_BYTES = 128 * 1024  # small enough that sending one does not delay an image


class RecorderNode(Node):
    """Joins observations, executed actions and rewards; learns nothing, decides nothing."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self.embodiment = self.embodiment_parameter()
        directory = self.parameter("directory", "runs/latest/episodes", "folder of the episode files")
        self.store = EpisodeStore(Path(directory), self.embodiment)
        self.recording: Recording | None = None
        self.ending: tuple[msg.EpisodeState, float] | None = None
        self.shelf: dict[tuple[str, str, str, int], tuple[Manifest, Path]] = {}
        self.unwritten: deque[Episode] = deque()
        self.written, self.discarded, self.fault_line = 0, 0, ""
        self.payload = lru_cache(maxsize=4)(Path.read_bytes)

    def setup(self) -> None:
        self._claim_folder()
        self.sender = PayloadSender(self, "episodes", qos.EPISODES, self._chunk)
        self.observations = ObservationSubscriber(self, self._on_observation, qos.RECORDED_SENSOR)
        self.create_subscription(msg.EpisodeState, "episode", self._on_episode, qos.EPISODE)
        self.create_subscription(msg.ExecutedAction, "executed_action", self._on_executed, qos.RECORDED)
        self.create_subscription(msg.Reward, "reward", self._on_reward, qos.RECORDED)
        self.create_timer(0.05, self._finish_if_complete, clock=self.wall)
        self.create_timer(RETRY_S, self._write, clock=self.wall)

    def begin(self) -> None:
        for path in self.store.paths():  # of an earlier life of this process: a learner may have missed them
            self._announce(path)

    def end(self) -> None:
        self.recording = self.ending = None
        self._write()
        if self.unwritten:
            self.get_logger().error(f"{len(self.unwritten)} episodes are lost: {self.fault_line}")

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        values = {"written": self.written, "discarded": self.discarded, "frames_dropped": self.observations.assembler.dropped}
        if self.fault_line:
            return ERROR if len(self.unwritten) >= UNWRITTEN else WARN, self.fault_line, values
        reason = self.observations.take_reason()
        return (WARN, reason, values) if reason else (OK, f"{self.written} episodes written", values)

    def _claim_folder(self) -> None:
        folder = self.store.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".write_probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UserError(f"cannot write to {folder} ({error.strerror}): choose another run directory") from error
        self.store.clean()

    def _on_episode(self, episode: msg.EpisodeState) -> None:
        if not self.active:
            return
        if episode.state == msg.EpisodeState.RUNNING and (self.recording is None or self.recording.id != episode.id):
            self._finish(force=True)
            self.recording = Recording(episode.id, episode.task, int(episode.seed), nanoseconds(episode.header.stamp), self.embodiment)
        elif episode.state == msg.EpisodeState.ENDED and self.recording is not None and episode.id == self.recording.id and self.ending is None:
            self.ending = (episode, time.monotonic())

    def _on_observation(self, observation: Observation) -> None:
        if self.recording is not None:
            self.recording.observe(observation)

    def _on_executed(self, message: msg.ExecutedAction) -> None:
        if self.recording is None or message.episode_id != self.recording.id:
            return
        action = np.array(message.action, dtype=np.float32)
        if action.shape != (len(self.embodiment.action),) or not np.isfinite(action).all() or message.source not in list(Source):
            self.get_logger().warning("executed action refused: wrong size, source or not finite", throttle_duration_sec=5.0)
            return
        executed = Executed(nanoseconds(message.header.stamp), action, int(message.policy_version), message.best_of_n, Source(message.source))
        self.recording.execute(executed)

    def _on_reward(self, message: msg.Reward) -> None:
        if self.recording is not None and message.episode_id == self.recording.id:
            self.recording.reward(nanoseconds(message.header.stamp), float(message.reward))

    def _finish_if_complete(self) -> None:
        if self.ending is not None and self.recording is not None:
            episode, since = self.ending
            self._finish(force=time.monotonic() - since > GRACE_S or self.recording.complete(nanoseconds(episode.header.stamp)))

    def _finish(self, force: bool) -> None:
        if not force or self.recording is None:
            return
        recording, ending = self.recording, self.ending
        self.recording = self.ending = None
        if ending is None:
            self.discarded += 1
            self.get_logger().warning(f"episode {recording.id} discarded: its end was never announced")
            return
        state = ending[0]
        if state.outcome == Outcome.ABORTED.value:
            self._discard(recording, state.reason or "aborted")
            return
        episode, reason = recording.finish(nanoseconds(state.header.stamp), Outcome(state.outcome))
        if episode is None:
            self._discard(recording, reason)
            return
        self.unwritten.append(episode)
        self._write()

    def _write(self) -> None:
        """Writes what waits, in order. On a full disk episodes are kept in memory, and practice stops when there are too many of them."""
        while self.unwritten:
            try:
                path = self.store.add(self.unwritten[0])
            except OSError as error:
                self.fault_line = f"cannot write episode {self.unwritten[0].id} ({error.strerror}): free space in {self.store.folder}"
                self.get_logger().error(self.fault_line, throttle_duration_sec=30.0)
                return
            self.unwritten.popleft()
            self.written += 1
            self._announce(path)
        self.fault_line = ""

    def _discard(self, recording: Recording, reason: str) -> None:
        self.discarded += 1
        self.get_logger().info(f"episode {recording.id} discarded: {reason}")

    def _announce(self, path: Path) -> None:
        try:
            payload = self.payload(path)
            manifest = Manifest.of(payload, kind="episode", id=path.stem, version=0, source=self.get_fully_qualified_name(), chunk_size=CHUNK_BYTES)
        except (OSError, UserError) as error:
            self.get_logger().warning(f"cannot serve {path} ({error}): it is left out")
            return
        self.shelf[manifest.key] = (manifest, path)
        self.sender.announce(manifest)

    def _chunk(self, key: tuple[str, str, str, int], index: int) -> Chunk | None:
        manifest, path = self.shelf.get(key, (None, None))
        if manifest is None or path is None or not 0 <= index < manifest.chunk_count:
            return None
        try:
            return Chunk.of(manifest, index, self.payload(path))
        except OSError:
            return None


def main() -> None:
    """Entry point of the executable ``recorder_node``."""
    run(RecorderNode)
