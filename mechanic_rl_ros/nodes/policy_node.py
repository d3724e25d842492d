"""Observation window in, action chunk out; weights are swapped between chunks and refused when anything is wrong."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch

from mechanic_rl_ros import msg
from mechanic_rl_ros.algorithms.gate import alternates
from mechanic_rl_ros.data import ActionChunk, Observation
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.latency import CHUNK_AGE_S, LatencyMode, MeasuredLatency
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import OK, WARN, Node, nanoseconds, run
from mechanic_rl_ros.nodes.convert import chunk_to_message
from mechanic_rl_ros.nodes.observations import ObservationSubscriber
from mechanic_rl_ros.nodes.payloads import PayloadReceiver
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.device import pick_device
from mechanic_rl_ros.policy.weights import transfer_budget, unpack_weights
from mechanic_rl_ros.transfer import WEIGHTS, Completed, Inbox

MODES = ("alternate", "gate", "plain", "best")
FUTURE_NS = 1_000_000_000  # a stamp further ahead comes from another clock


@dataclass
class _Pending:
    """Checked weights that wait for the next chunk."""

    completed: Completed
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, Any]
    announced: float


class PolicyNode(Node):
    """Acts while an episode runs."""

    def __init__(self) -> None:
        super().__init__("policy_node")
        self.embodiment = self.embodiment_parameter()
        path = self.parameter("checkpoint", "", "folder of the policy to start from")
        seed = self.parameter("seed", 0, "seed of the sampling noise", low=0, high=2**31)
        device = self.parameter("device", "auto", "cpu, cuda, or auto: cuda where there is one")
        horizon = self.parameter("action_horizon", 0, "actions played until the next chunk is computed, T_a; 0: as many as the checkpoint says", low=0, high=64)
        explore = self.parameter("explore", True, "whether heads that would always answer alike try something else, too: true where the robot practises")
        self.mode = self.parameter("mode", "alternate", "alternate (every second episode best-of-N: the learner compares), gate, plain or best")
        if self.mode not in MODES:
            raise UserError(f"parameter mode of policy_node is {self.mode!r}: use one of {', '.join(MODES)}")
        precision = self.parameter("precision", "float32", "of the weights of a U-Net's convolutions: float32, or bfloat16, which takes 0.6 of the time")
        compiled = self.parameter(
            "compile", False, "whether torch compiles the denoiser, for CUDA devices: half a minute more at the start, minutes for a U-Net"
        )
        treated = self.parameter("latency_mode", LatencyMode.OVERLAPPING.value, "while a chunk is computed: waiting, overlapping or inpainting")
        if treated not in [mode.value for mode in LatencyMode]:
            raise UserError(f"parameter latency_mode of policy_node is {treated!r}: use one of {', '.join(mode.value for mode in LatencyMode)}")
        self.latency_mode, self.latency = LatencyMode(treated), MeasuredLatency(self.embodiment.period)
        self.oldest_ns = round(1e9 * min(camera.max_age for camera in self.embodiment.cameras.values()))
        torch.set_num_threads(1)  # more threads would take the cores from the control path
        checkpoint = Checkpoint.load(path, self.embodiment)
        self.action_horizon = horizon or checkpoint.config.action_horizon
        longest = checkpoint.config.prediction_horizon - checkpoint.config.past_actions
        if self.action_horizon > longest:
            raise UserError(f"parameter action_horizon of policy_node is {self.action_horizon}: the checkpoint predicts {longest} actions, use at most that")
        if explore and checkpoint.config.schedule.exploration and self.latency_mode is not LatencyMode.OVERLAPPING:
            raise UserError(f"latency_mode {treated} of policy_node does not go with a policy whose chains are recorded (dppo, reinforce): use overlapping")
        self.actor = Actor(checkpoint, device=pick_device(device), seed=seed, explore=explore, precision=precision, compiled=compiled)
        self.episode = msg.EpisodeState()
        self.until_chunk = 0  # observations until the next chunk is due
        self.stale, self.stale_before = 0, 0  # observations that were too old to act on: ever, and at the last look
        self.pending: _Pending | None = None
        self.swap_time = -1.0
        self.inference_times: deque[float] = deque(maxlen=50)

    def setup(self) -> None:
        self.chunks = self.create_publisher(msg.ActionChunk, "action_chunk", qos.COMMAND)
        self.status = self.create_publisher(msg.PolicyStatus, "policy_status", qos.STATE)
        self.create_subscription(msg.EpisodeState, "episode", self._on_episode, qos.EPISODE)
        self.observations = ObservationSubscriber(self, self._on_observation)
        inbox = Inbox(WEIGHTS, limit_bytes=transfer_budget(self.actor.shapes), signature=self.actor.signature)
        self.receiver = PayloadReceiver(self, "weights", qos.STATE, inbox, self._on_weights)
        self.create_timer(1.0, self._publish_status, clock=self.wall)
        self._warm_up()

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        values = {"version": self.actor.version, "refused": self.receiver.inbox.refused, "inference_ms": f"{1e3 * self._inference_time():.1f}"}
        values["stale_observations"] = self.stale
        stale, self.stale_before = self.stale - self.stale_before, self.stale
        if stale:
            limits = f"older than {self.oldest_ns * 1e-9:.2f} s, or than {CHUNK_AGE_S:g} s when their chunk was ready"
            return WARN, f"{stale} observations were {limits}, and not acted on: look for what delays cameras or policy", values
        reason = self.receiver.inbox.last_reason
        return (WARN, reason, values) if reason else (OK, f"acting with version {self.actor.version}", values)

    def _warm_up(self) -> None:
        """The first inferences are slow: better now than in the first episode."""
        import numpy as np

        images = {key: np.zeros((spec.height, spec.width, 3), np.uint8) for key, spec in self.embodiment.cameras.items()}
        for _ in range(3):
            self.actor.observe(Observation(0, images, np.zeros(len(self.embodiment.state), np.float32)))
            self.actor.act(True, self._delay())
        self.actor.reset()

    def _on_episode(self, episode: msg.EpisodeState) -> None:
        if episode.state == msg.EpisodeState.RUNNING and episode.id != self.episode.id:
            self.actor.reset()
            self.until_chunk = 0
        self.episode = episode if episode.state == msg.EpisodeState.RUNNING else msg.EpisodeState(state=episode.state)
        if self.episode.state != msg.EpisodeState.RUNNING:
            self._swap()
            self.actor.prepare()

    def _on_observation(self, observation: Observation) -> None:
        if not self.active or self.episode.state != msg.EpisodeState.RUNNING or observation.stamp_ns < nanoseconds(self.episode.header.stamp):
            return
        started = time.perf_counter()
        self.actor.observe(observation)
        self.until_chunk -= 1
        if self.until_chunk >= 0:
            if self.until_chunk < self.actor.config.observation_horizon - 1:
                self.actor.encode()  # the next chunk is drawn from it: its own observation is then all that is left to encode
            return
        age_ns = self.now_ns() - observation.stamp_ns
        if not -FUTURE_NS <= age_ns <= self.oldest_ns:
            self.stale += 1  # the arm plays what it has and then holds
            return
        self.until_chunk = self.action_horizon - 1
        self._swap()
        self._act(observation, started)

    def _act(self, observation: Observation, started: float) -> None:
        best_of_n = self._best_of_n()
        actions, begin_ns = self.actor.act(best_of_n, self._delay()), observation.stamp_ns
        elapsed = time.perf_counter() - started
        self.inference_times.append(elapsed)
        late_ns = self.now_ns() - observation.stamp_ns
        self.latency.add(late_ns * 1e-9)
        if self.latency_mode is LatencyMode.WAITING:  # T_a actions begin now, and the next chunk sees what they led to
            if late_ns > 1e9 * CHUNK_AGE_S:  # command_node would not follow what was seen so long ago, but is told only when the actions begin
                self.stale, self.until_chunk = self.stale + 1, 0
                return
            actions, begin_ns = actions[: self.action_horizon], begin_ns + late_ns
            self.until_chunk += math.ceil(late_ns / self.embodiment.period_ns)
        chunk = ActionChunk(begin_ns, self.embodiment.period_ns, actions, self.actor.version, best_of_n, self.episode.id, trace=self.actor.trace)
        self.chunks.publish(chunk_to_message(chunk, self.embodiment.base_frame, elapsed))

    def _delay(self) -> int | None:
        return self.latency.actions if self.latency_mode is LatencyMode.INPAINTING else None

    def _best_of_n(self) -> bool:
        chosen = {"alternate": alternates(self.episode.number), "gate": self.actor.prefers_best_of_n, "plain": False, "best": True}[self.mode]
        return chosen and self.actor.has_critic

    def _on_weights(self, completed: Completed, announced: float) -> None:
        """Checks new weights at once, between two chunks, so that the swap itself is a copy."""
        try:
            version, tensors, metadata = unpack_weights(completed.payload, self.actor.signature)
            if version != completed.manifest.version:
                raise UserError(f"weights say version {version}, their manifest {completed.manifest.version}")
        except UserError as error:
            self._refuse(completed, error)
            return
        self.pending = _Pending(completed, tensors, metadata, announced)
        if self.episode.state != msg.EpisodeState.RUNNING:
            self._swap()
            self.actor.prepare()

    def _swap(self) -> None:
        """Lets the newest checked weights act. If they do not fit, that is said once, and the old ones stay."""
        if self.pending is None:
            return
        new, self.pending = self.pending, None
        try:
            self.actor.load(new.tensors, new.completed.manifest.version, new.metadata)
        except UserError as error:
            self._refuse(new.completed, error)
            return
        self.swap_time = time.time() - new.announced
        self.receiver.inbox.last_reason = ""
        self._publish_status()

    def _refuse(self, completed: Completed, error: UserError) -> None:
        self.receiver.inbox.reject(completed.manifest, str(error))
        self.get_logger().error(str(error))

    def _inference_time(self) -> float:
        return sum(self.inference_times) / len(self.inference_times) if self.inference_times else 0.0

    def _publish_status(self) -> None:
        status = msg.PolicyStatus(version=self.actor.version, inference_time=self._inference_time(), swap_time=self.swap_time)
        status.header.stamp = self.get_clock().now().to_msg()
        status.refused, status.reason = self.receiver.inbox.refused, self.receiver.inbox.last_reason
        self.status.publish(status)


def main() -> None:
    """Entry point of the executable ``policy_node``."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run(PolicyNode)
