"""Episodes: waits until everything is there, resets the scene, lets the policy act, judges, and starts over."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.duration import Duration
from rclpy.task import Future

from mechanic_rl_ros import msg
from mechanic_rl_ros.episode import EpisodeConfig, EpisodeMachine, Frame, Phase
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import OK, WARN, Node, nanoseconds, run, stamp
from mechanic_rl_ros.replay.atomic import write_atomically
from mechanic_rl_ros.replay.store import EpisodeStore
from mechanic_rl_ros.srv import ResetScene

TICK_S = 0.02  # wall seconds
HEARTBEAT_S = 0.4  # wall seconds between two repetitions of the state: who hears none for long knows that this node is gone
SILENCE_S = 4.0  # wall seconds without diagnostics after which a node counts as gone
FLUSH_S = 3.0  # wall seconds from the last episode until the learner's word on it counts
LAST_NUMBER = "last_number"  # file in the folder of the episodes


class EpisodeNode(Node):
    """Translates between topics and ``EpisodeMachine``."""

    def __init__(self) -> None:
        super().__init__("episode_node")
        self.embodiment = self.embodiment_parameter()
        self.task = self.parameter("task", "lift", "task name")
        self.required = ["camera_node", "policy_node", "command_node", "recorder_node"]
        if self.parameter("learn", True, "whether to wait for the learner before the first episode"):
            self.required.append("learner_node")
        self.directory = self.parameter("directory", "", "folder of the episodes recorded so far, from which a run that was stopped goes on")
        self.reset_patience = self.parameter("reset_patience", 10.0, "wall s that a reset may take", low=0.1, high=3600.0)
        config = EpisodeConfig(
            episodes=self.parameter("episodes", 0, "episodes to complete, 0: until stopped", low=0, high=1_000_000),
            seed_first=self.parameter("seed_first", 0, "scene seed of the first episode", low=0, high=2**31),
            step_limit=self.parameter("step_limit", 60, "policy steps until a timeout", low=2, high=100_000),
            period_ns=self.embodiment.period_ns,
            ready_ns=round(1e9 * self.parameter("ready_time", 0.3, "s from reset to start", low=0.0, high=60.0)),
            pause_ns=round(1e9 * self.parameter("pause_time", 0.2, "s between two episodes", low=0.0, high=3600.0)),
        )
        self.machine = EpisodeMachine(config, *self._progress())
        self.learner: tuple[float, int] = (time.monotonic(), 1 if "learner_node" in self.required else 0)
        self.finished_at = 0.0
        self.id = ""
        self.began = False  # an episode, in this life of the node
        self.message = msg.EpisodeState()
        self.run_name = uuid.uuid4().hex[:8]
        self.heard: dict[str, tuple[float, bytes, str]] = {}
        self.pending: tuple[Future, float] | None = None

    def setup(self) -> None:
        self.publisher = self.create_publisher(msg.EpisodeState, "episode", qos.STATE)
        self.rewards = self.create_publisher(msg.Reward, "reward", qos.COMMAND)
        self.create_subscription(msg.TaskState, "task_state", self._on_task_state, qos.STATE)
        self.create_subscription(msg.LearnerStatus, "learner_status", self._on_learner, qos.STATE)
        self.create_subscription(msg.Label, "label", self._on_label, qos.COMMAND)
        self.create_subscription(msg.ExecutedAction, "executed_action", self._on_executed, qos.COMMAND)
        self.create_subscription(msg.EpisodeRecord, "episode_record", self._on_record, qos.EPISODE)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.reset_client: Any = self.create_client(ResetScene, "reset_scene")
        self.create_timer(TICK_S, self._tick, clock=self.wall)
        self.create_timer(HEARTBEAT_S, self._repeat, clock=self.wall)

    def begin(self) -> None:
        self._publish()

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        machine = self.machine
        values = {"episode": machine.number, "phase": machine.phase.name}
        waiting = machine.phase == Phase.WAITING and bool(machine.reason)
        return (WARN, machine.reason, values) if waiting else (OK, f"episode {machine.number} is {machine.phase.name}", values)

    def end(self) -> None:
        if self.machine.abort("the episode node is shutting down", self.now_ns()):
            self._publish()
            self.publisher.wait_for_all_acked(Duration(seconds=0.5))  # the process may end before the message has left it

    def _progress(self) -> tuple[int, int]:
        """Last number and completed episodes of an earlier life of the run."""
        if not self.directory:
            return 0, 0
        store = EpisodeStore(self.directory, self.embodiment)
        numbers = [_saved_number(store.folder), *(_number(path.stem) for path in store.paths())]
        return max(numbers), len(store.readable())

    def _save_number(self) -> None:
        """For a later life of the run: no scene is practised twice, not even one of which nothing was kept."""
        if not self.directory:
            return
        path = Path(self.directory) / LAST_NUMBER
        try:
            write_atomically(path, str(self.machine.number).encode())
        except OSError as error:
            self.get_logger().warning(f"cannot write {path} ({error.strerror}): a run that goes on from here may repeat a scene", throttle_duration_sec=30.0)

    def _tick(self) -> None:
        if not self.active:
            return
        now_ns = self.now_ns()
        if now_ns == 0:  # simulated time has not begun
            if self.machine.say("waiting for the clock (nothing heard on /clock: start the simulation)"):
                self._publish()
            return
        self._collect_reset(now_ns)
        if self.machine.phase == Phase.FINISHED:
            self._finish()
            return
        if self.machine.tick(now_ns, self._missing()):
            self._publish()
            if self.machine.phase == Phase.RESETTING:
                self._reset()

    def _finish(self) -> None:
        """Ends this process, and with it the run, once the learner has made what it can of the last episodes."""
        at, due = self.learner
        since = time.monotonic() - self.finished_at
        if since > FLUSH_S and (due == 0 or time.monotonic() - at > SILENCE_S):
            self.done = True

    def _on_learner(self, status: msg.LearnerStatus) -> None:
        self.learner = (time.monotonic(), int(status.updates_due))

    def _missing(self) -> str:
        """What is needed and not there; the learner may come and go once the first episode has begun."""
        now = time.monotonic()
        for name in self.required:
            at, level, message = self.heard.get(name, (-1e9, DiagnosticStatus.ERROR, ""))
            if name == "learner_node" and self.began:
                continue
            if now - at > SILENCE_S:
                return f"{name} (nothing heard from it)"
            if level == DiagnosticStatus.ERROR or message == "not active":
                return f"{name} ({message})"
        if self.machine.phase == Phase.WAITING and not self.reset_client.service_is_ready():
            return "the service reset_scene"
        return ""

    def _reset(self) -> None:
        self.began = True
        self.id = f"{self.task}_{self.run_name}_{self.machine.number:05d}"
        self.pending = (self.reset_client.call_async(ResetScene.Request(seed=self.machine.seed)), time.monotonic())

    def _collect_reset(self, now_ns: int) -> None:
        if self.pending is None:
            return
        future, asked = self.pending
        if not future.done() and time.monotonic() - asked < self.reset_patience:
            return
        self.pending = None
        response = future.result() if future.done() else None
        if response is None:
            future.cancel()
            changed = self.machine.reset_done(False, 0, now_ns, "the service reset_scene does not answer")
        else:
            changed = self.machine.reset_done(response.success, response.reset_count, max(now_ns, nanoseconds(response.stamp)), response.message)
        if changed:
            self._publish()
            if self.machine.phase == Phase.READY:
                self._save_number()

    def _on_task_state(self, state: msg.TaskState) -> None:
        frame_ns = nanoseconds(state.header.stamp)
        before = self.machine.phase
        judged = self.machine.frame(Frame(frame_ns, state.success, int(state.reset_count)))
        if judged is not None:
            reward = msg.Reward(episode_id=self.id, reward=judged[0], terminal=judged[1])
            reward.header.stamp = state.header.stamp
            self.rewards.publish(reward)
        if self.machine.phase != before:
            self._publish()

    def _on_label(self, label: msg.Label) -> None:
        if self.machine.label(label.success, self.now_ns()):
            reward = msg.Reward(episode_id=self.id, reward=float(label.success), terminal=True)
            reward.header.stamp = stamp(self.machine.since_ns)
            self.rewards.publish(reward)
            self._publish()

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        prefix = self.get_namespace().strip("/")
        for status in array.status:
            namespace, _, name = status.name.rpartition("/")
            if namespace == prefix and name in self.required:
                self.heard[name] = (time.monotonic(), status.level, status.message)

    def _on_executed(self, executed: msg.ExecutedAction) -> None:
        if executed.episode_id == self.id and executed.source != msg.ExecutedAction.HOLD:
            self.machine.acted(nanoseconds(executed.header.stamp) + self.embodiment.period_ns)

    def _on_record(self, record: msg.EpisodeRecord) -> None:
        if not record.kept and self.machine.discarded(_number(record.id), self.now_ns()):
            self._publish()

    def _repeat(self) -> None:
        if self.active:
            self.publisher.publish(self.message)

    def _publish(self) -> None:
        machine = self.machine
        message = msg.EpisodeState(id=self.id, number=machine.number, state=int(machine.phase), task=self.task, seed=machine.seed)
        message.header.stamp = stamp(machine.since_ns)
        message.step_limit, message.return_value, message.reason = machine.config.step_limit, machine.return_value, machine.reason
        if machine.phase == Phase.FINISHED:
            self.finished_at = time.monotonic()
        message.outcome = machine.outcome.value if machine.outcome else ""
        self.message = message
        self.publisher.publish(message)
        if machine.phase == Phase.WAITING and machine.reason:
            self.get_logger().info(machine.reason, throttle_duration_sec=10.0)


def _number(stem: str) -> int:
    """Number of the episode whose file has this name, as ``_reset`` made it."""
    digits = stem.rpartition("_")[2]
    return int(digits) if digits.isdigit() else 0


def _saved_number(folder: Path) -> int:
    try:
        return int((folder / LAST_NUMBER).read_text())
    except (OSError, ValueError):
        return 0


def main() -> None:
    """Entry point of the executable ``episode_node``."""
    run(EpisodeNode)
