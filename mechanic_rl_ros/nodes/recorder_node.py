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
from mechanic_rl_ros.output import require_writable
from mechanic_rl_ros.replay.episode_check import ACTION_TOLERANCE, EpisodeError
from mechanic_rl_ros.replay.recording import Recording
from mechanic_rl_ros.replay.store import EpisodeStore
from mechanic_rl_ros.safety.executed import Executed
from mechanic_rl_ros.transfer import Chunk, Manifest

GRACE_S = 0.5  # wall seconds that the last frames of an episode may take to arrive
RETRY_S = 2.0  # wall seconds between two attempts to write what could not be written
UNWRITTEN = 4  # episodes that wait for room on the disk until practice has to wait, too
LARGEST_TRACE = 100_000  # numbers
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
        self.last_id = ""  # of the last episode that this node has an opinion on
        self.shelf: dict[tuple[str, str, str, int], tuple[Manifest, Path]] = {}
        self.unwritten: deque[Episode] = deque()
        self.written, self.discarded, self.fault_line, self.refusal = 0, 0, "", ""
        self.payload = lru_cache(maxsize=4)(Path.read_bytes)

    def setup(self) -> None:
        self._claim_folder()
        self.sender = PayloadSender(self, "episodes", qos.EPISODES, self._chunk)
        self.records = self.create_publisher(msg.EpisodeRecord, "episode_record", qos.EPISODE)
        self.observations = ObservationSubscriber(self, self._on_observation, qos.RECORDED_SENSOR)
        self.create_subscription(msg.EpisodeState, "episode", self._on_episode, qos.EPISODE)
        self.create_subscription(msg.ExecutedAction, "executed_action", self._on_executed, qos.RECORDED)
        self.create_subscription(msg.Reward, "reward", self._on_reward, qos.RECORDED)
        self.create_subscription(msg.ActionChunk, "action_chunk", self._on_chunk, qos.RECORDED)
        self.create_timer(0.05, self._finish_if_complete, clock=self.wall)
        self.create_timer(RETRY_S, self._write, clock=self.wall)

    def begin(self) -> None:
        for path in self.store.readable():  # of an earlier life of this process: a learner may have missed them
            self._announce(path)
        for reason in self.store.corrupt.values():
            self.get_logger().warning(f"{reason}; it does not count")

    def end(self) -> None:
        self._finish(force=self.ending is not None)
        self.recording, self.last_id = None, ""
        self._write()
        if self.unwritten:
            self.get_logger().error(f"{len(self.unwritten)} episodes are lost: {self.fault_line}")

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        values = {"written": self.written, "discarded": self.discarded, "frames_dropped": self.observations.assembler.dropped}
        if self.fault_line:
            return ERROR if len(self.unwritten) >= UNWRITTEN else WARN, self.fault_line, values
        reason, self.refusal = self.refusal or self.observations.take_reason(), ""
        return (WARN, reason, values) if reason else (OK, f"{self.written} episodes written", values)

    def _claim_folder(self) -> None:
        folder = self.store.folder
        try:
            require_writable(folder)
        except OSError as error:
            raise UserError(f"cannot write to {folder} ({error.strerror}): choose another run directory") from error
        self.store.clean()

    def _on_episode(self, episode: msg.EpisodeState) -> None:
        running, ended = episode.state == msg.EpisodeState.RUNNING, episode.state == msg.EpisodeState.ENDED
        if not self.active or not (running or ended):
            return
        known, self.last_id = episode.id == self.last_id, episode.id
        if running and not known:
            self._finish(force=True)
            self.recording = Recording(episode.id, episode.task, int(episode.seed), nanoseconds(episode.header.stamp), self.embodiment)
        elif ended and self.recording is not None and self.recording.id == episode.id:
            self.ending = self.ending or (episode, time.monotonic())
        elif ended and not known and self.store.path(episode.id) is None:
            self._discard(episode.id, "the recorder was not there when it ended")

    def _on_observation(self, observation: Observation) -> None:
        if self.recording is not None:
            self.recording.observe(observation)

    def _on_executed(self, message: msg.ExecutedAction) -> None:
        if self.recording is None or message.episode_id != self.recording.id:
            return
        action = np.array(message.action, dtype=np.float32)
        normalised = action.shape == (len(self.embodiment.action),) and (np.abs(action) <= 1 + ACTION_TOLERANCE).all()
        if not normalised or message.source not in list(Source):
            self._refuse(f"executed action {action.tolist()} of source {message.source} refused: it must be normalised to [-1, 1], from a known source")
            return
        executed = Executed(nanoseconds(message.header.stamp), action, int(message.policy_version), message.best_of_n, Source(message.source))
        self.recording.execute(executed)

    def _on_reward(self, message: msg.Reward) -> None:
        if self.recording is None or message.episode_id != self.recording.id:
            return
        if not np.isfinite(message.reward):
            self._refuse(f"reward {message.reward} refused: it must be finite, mend its publisher")
            return
        self.recording.reward(nanoseconds(message.header.stamp), float(message.reward))

    def _on_chunk(self, message: msg.ActionChunk) -> None:
        if self.recording is None or message.episode_id != self.recording.id or not message.trace:
            return
        trace = np.array(message.trace, dtype=np.float32)
        if len(trace) > LARGEST_TRACE or not np.isfinite(trace).all():
            self._refuse(f"trace of {len(trace)} numbers refused: at most {LARGEST_TRACE} finite ones, look at the policy")
            return
        self.recording.trace(nanoseconds(message.header.stamp), trace)

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        self.get_logger().warning(reason, throttle_duration_sec=5.0)

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
            self._discard(recording.id, "its end was never announced")
            return
        state = ending[0]
        if state.outcome == Outcome.ABORTED.value:
            self._discard(recording.id, state.reason or "aborted")
            return
        episode, reason = recording.finish(nanoseconds(state.header.stamp), Outcome(state.outcome))
        if episode is None:
            self._discard(recording.id, reason)
            return
        self.unwritten.append(episode)
        self._write()

    def _write(self) -> None:
        """Writes what waits, in order. On a full disk episodes are kept in memory, and practice stops when there are too many of them."""
        while self.unwritten:
            episode = self.unwritten[0]
            try:
                path = self.store.add(episode)
            except OSError as error:
                self.fault_line = f"cannot write episode {episode.id} ({error.strerror}): free space in {self.store.folder}"
                self.get_logger().error(self.fault_line, throttle_duration_sec=30.0)
                return
            except EpisodeError as error:
                self._discard(episode.id, str(error))
            else:
                self.written += 1
                self._announce(path)
                self._tell(episode.id, True)
            self.unwritten.popleft()
        self.fault_line = ""

    def _discard(self, id: str, reason: str) -> None:
        self.discarded += 1
        self.get_logger().info(f"episode {id} discarded: {reason}")
        self._tell(id, False, reason)

    def _tell(self, id: str, kept: bool, reason: str = "") -> None:
        record = msg.EpisodeRecord(id=id, kept=kept, reason=reason)
        record.header.stamp = self.get_clock().now().to_msg()
        self.records.publish(record)

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
