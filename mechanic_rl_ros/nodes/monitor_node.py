"""Writes down what happens (metrics.jsonl, TensorBoard, one line per episode) and lets RViz show it."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from mechanic_rl_ros import msg
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.metrics import FILE, MetricsWriter, TensorBoardMirror
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import ERROR, OK, Node, nanoseconds, run
from mechanic_rl_ros.nodes.scene_view import SceneView

RECENT = 20  # episodes over which success is shown
LOOK_S = 2.0  # wall seconds between two looks at the clock and at what is waited for
SILENCE_S = 4.0  # wall seconds without a word of the episode node after which it counts as gone


class MonitorNode(Node):
    """Listens, and shows what it heard; it moves nothing."""

    def __init__(self) -> None:
        super().__init__("monitor_node")
        self.embodiment = self.embodiment_parameter()
        self.directory = Path(self.parameter("directory", "runs/latest", "run folder"))
        task = self.parameter("task", "lift", "task name, written to the record")
        checkpoint = self.parameter("checkpoint", "", "checkpoint that the run started from, written to the record")
        seed = self.parameter("seed", 0, "seed of the run, written to the record", low=0, high=2**31)
        try:
            self.writer = MetricsWriter(self.directory / FILE)
        except OSError as error:
            raise UserError(f"cannot write to {self.directory} ({error.strerror}): choose another run directory") from error
        self.board = TensorBoardMirror(self.directory / "tensorboard")
        self.fault_line = ""
        self.recent: deque[bool] = deque(maxlen=RECENT)
        self.latencies: deque[float] = deque(maxlen=500)
        self.chunk: msg.ActionChunk | None = None
        self.start_ns, self.last_id = 0, ""
        self.scaled = 0  # updates whose scales are written
        self.speed_from = (time.monotonic(), 0)
        self.heard, self.reason, self.written_reason = -math.inf, "", ""
        self._write("run", task=task, seed=seed, checkpoint=checkpoint, started=time.time())

    def setup(self) -> None:
        self.view = SceneView(self, self.recent)
        self.create_subscription(msg.EpisodeState, "episode", self._on_episode, qos.EPISODE)
        self.create_subscription(msg.ActionChunk, "action_chunk", self._on_chunk, qos.COMMAND)
        self.create_subscription(msg.LearnerStatus, "learner_status", self._on_learner, qos.STATE)
        self.create_subscription(msg.PolicyStatus, "policy_status", self._on_policy, qos.STATE)
        self.create_subscription(msg.CommandStatus, "command_status", self._on_command, qos.STATE)
        self.create_timer(LOOK_S, self._look, clock=self.wall)

    def close(self) -> None:
        self.writer.close()
        try:
            self.board.close()
        except OSError as error:
            self._complain(error)

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        values = {"frames": self.view.note} if self.view.note else {}
        return (ERROR, self.fault_line, values) if self.fault_line else (OK, f"writing to {self.directory}", values)

    def _write(self, kind: str, **fields: Any) -> bool:
        """Writes a record, and says whether it did; a full disk is reported, and writing goes on when there is room again."""
        try:
            self.board.add(self.writer.write(kind, **fields))
        except OSError as error:
            self._complain(error)
            return False
        self.fault_line = ""
        return True

    def _complain(self, error: OSError) -> None:
        self.fault_line = f"cannot write the record of the run ({error.strerror}): free space in {self.directory}"
        self.get_logger().error(self.fault_line, throttle_duration_sec=30.0)

    def _on_chunk(self, message: msg.ActionChunk) -> None:
        self.chunk = message
        self.view.on_chunk(message)

    def _on_episode(self, episode: msg.EpisodeState) -> None:
        self.heard = time.monotonic()
        self.view.on_episode(episode)
        if episode.state == msg.EpisodeState.WAITING:
            self.reason = episode.reason
        elif episode.state != msg.EpisodeState.RESETTING:  # a reset may fail as the one before it did
            self.reason = ""
        if episode.state == msg.EpisodeState.RUNNING:
            self.start_ns = nanoseconds(episode.header.stamp)
        if episode.state != msg.EpisodeState.ENDED or episode.id == self.last_id:
            return
        self.last_id = episode.id
        if episode.outcome != "aborted":
            self.recent.append(episode.outcome == "success")
        end_ns = nanoseconds(episode.header.stamp)
        chunk = self.chunk if self.chunk is not None and self.chunk.episode_id == episode.id else msg.ActionChunk()
        success_20 = sum(self.recent) / len(self.recent) if self.recent else 0.0
        self._write(
            "episode",
            number=episode.number,
            outcome=episode.outcome,
            steps=max(0, round((end_ns - self.start_ns) / self.embodiment.period_ns)),  # 0 where the clock was set back
            best_of_n=chunk.best_of_n,
            policy_version=chunk.policy_version,
            success_20=success_20,
            stamp=end_ns * 1e-9,
            **{"return": episode.return_value},
        )
        self.get_logger().info(
            f"episode {episode.number}: {episode.outcome}, {100 * success_20:.0f} % of the last {len(self.recent)}, version {chunk.policy_version}"
        )

    def _on_learner(self, s: msg.LearnerStatus) -> None:
        self.view.on_learner(s)
        fields = {
            name: getattr(s, name)
            for name in (
                "version",
                "updates",
                "episodes",
                "rows",
                "actor_scale",
                "critic_scale",
                "value_scale",
                "skipped_gradients",
                "withheld",
                "rollbacks",
                "actor_loss",
                "critic_loss",
            )
        }
        self._write(
            "learner",
            **fields,
            update_ms=1e3 * s.update_time,
            plain_success=s.plain_success,
            best_success=s.best_success,
            prefers_best_of_n=s.prefers_best_of_n,
        )
        self._write_scales(s)

    def _write_scales(self, s: msg.LearnerStatus) -> None:
        """Scales of updates that no status has told before."""
        if not s.networks or len(s.scales) % len(s.networks):
            return
        rows = np.reshape(s.scales, (-1, len(s.networks)))
        if s.updates < self.scaled:
            self.scaled = 0  # a learner that began anew
        rows = rows[max(self.scaled + 1 - s.scales_from, 0) :]
        self.scaled = s.updates
        if len(rows):
            self._write("scales", updates=s.updates, scales={name: column.tolist() for name, column in zip(s.networks, rows.T, strict=True)})

    def _on_policy(self, s: msg.PolicyStatus) -> None:
        self.view.on_policy(s)
        self._write("policy", version=s.version, inference_ms=1e3 * s.inference_time, swap_ms=1e3 * s.swap_time, refused=s.refused)

    def _on_command(self, s: msg.CommandStatus) -> None:
        self.view.on_command(s)
        self.latencies.extend(s.latencies)
        if s.period_count == 0:
            return  # no beat in this window: the clock stands still
        self._write(
            "command",
            period_ms=1e3 * s.period,
            period_mean_error=s.period_mean_error,
            period_deviation=s.period_deviation,
            period_p99_ms=1e3 * s.period_p99,
            period_count=s.period_count,
            latency_p50_ms=self._latency_ms(0.5),
            latency_p99_ms=self._latency_ms(0.99),
            latencies_ms=[round(1e3 * value, 2) for value in s.latencies],
            reactions_ms=[round(1e3 * value, 2) for value in s.reactions],
            late_actions=s.late_actions,
            holding=s.holding,
            limited=dict(zip(s.limited, s.limited_count, strict=False)),
        )

    def _latency_ms(self, quantile: float) -> float:
        return 1e3 * float(np.quantile(self.latencies, quantile)) if self.latencies else 0.0

    def _look(self) -> None:
        (at, before_ns), now, now_ns = self.speed_from, time.monotonic(), self.now_ns()
        self.speed_from = (now, now_ns)
        if 0 < before_ns < now_ns:
            self._write("sim", real_time_factor=(now_ns - before_ns) * 1e-9 / (now - at))
        self._say_why(self._missing(stands_still=now_ns == before_ns))

    def _missing(self, stands_still: bool) -> str:
        """What practice waits for; empty while it goes on."""
        if time.monotonic() - self.heard > SILENCE_S:
            return "waiting for episode_node (nothing heard from it)"
        return self.reason or ("waiting for simulated time to go on (/clock stands still)" if stands_still else "")

    def _say_why(self, reason: str) -> None:
        """Writes a reason once; one in which only a count has changed is the same."""
        if _without_numbers(reason) != _without_numbers(self.written_reason) and self._write("waiting", reason=reason):
            self.written_reason = reason


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "", text)


def main() -> None:
    """Entry point of the executable ``monitor_node``."""
    run(MonitorNode)
