"""Plays action chunks on the arm at control rate: a thread of its own, no torch, no images; its default is to hold still."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from typing import Any

import numpy as np
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import Source
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.latency import CHUNK_AGE_S
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.backends import make_backend
from mechanic_rl_ros.nodes.base import ERROR, OK, WARN, Node, nanoseconds, run, stamp
from mechanic_rl_ros.nodes.convert import chunk_from_message, reading_from_message
from mechanic_rl_ros.nodes.sources import SourceWatch
from mechanic_rl_ros.safety.command import Command
from mechanic_rl_ros.safety.commander import ALIGNING, NO_ACTION, RESYNCHRONISING, Commander
from mechanic_rl_ros.safety.executed import Executed, ExecutedActions
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.timing import ArmClock, BeatStatistics

GIL_S = 0.0001  # s that another thread of this process may keep the interpreter; Python's default is half a period
LIMIT_SLACK_NS = 1_000_000_000  # an episode that nobody ends is ended here, this long after its step limit
SILENCE_S = 2.0  # wall seconds without the episode node's heartbeat after which the arm is stopped
FURTHEST_NS = 1_000_000_000  # an episode that is stamped later than this from now comes from another clock
HAND_NS = 500_000_000  # of the arm's time until the hand is told again: its controller may have been restarted
EPISODE = msg.EpisodeState


class CommandNode(Node):
    """Between policy and arm."""

    def __init__(self) -> None:
        super().__init__("command_node")
        self.embodiment = self.embodiment_parameter()
        rate = self.parameter("rate", 100.0, "commands per second of the arm's clock, Hz", low=50.0, high=200.0)
        self.priority = self.parameter("real_time_priority", 10, "SCHED_FIFO priority of the control thread where permitted, 0 for none", low=0, high=80)
        self.period_ns = round(1e9 / rate)
        self.bounds = SafetyLimits.load(self.parameter("limits", "fr3", "what the arm is allowed: name of a file in config/limits/, or a YAML file"))
        age = self.parameter("chunk_max_age", CHUNK_AGE_S, "s after its observation for which a chunk is followed", low=0.05, high=10.0)
        self.commander = Commander(self.embodiment, self.period_ns * 1e-9, self.bounds, age)
        self.executed = ExecutedActions(len(self.embodiment.action), self.embodiment.period_ns)
        self.clock = ArmClock(simulated=self.get_parameter("use_sim_time").value)
        self.statistics = BeatStatistics(self.period_ns * 1e-9)
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        self.backend: Any = None
        self.episode, self.episode_heard, self.abandoned = EPISODE(), 0.0, False
        self.deadline_ns = 0
        self.hand_told: tuple[float, int] | None = None  # what, and in which span of HAND_NS
        self.last_chunk_ns = 0  # of this episode
        self.received: tuple[int, float] | None = None  # stamp of the newest chunk, and monotonic time of its arrival, until a command has come of it
        self.holding, self.late_actions, self.refused, self.reason = "not started", 0, 0, ""
        self.limited: Counter[str] = Counter()
        self.override_was_active = False

    def setup(self) -> None:
        names = self.embodiment.joints
        name = self.parameter("backend", "mujoco", "what moves the robot: mujoco, gazebo, franka or crisp")
        self.backend = make_backend(name, self, self.embodiment)
        force = self.get_parameter("gripper_force").value if self.has_parameter("gripper_force") else 0.0
        if force > self.bounds.grip_force:
            raise UserError(f"parameter gripper_force is {force:g} N: the limits allow {self.bounds.grip_force:g} N (grip_force)")
        # A reset of the simulation puts the arm home, and its controller with it; crisp_controllers desire no joint positions.
        self.placed = name in ("mujoco", "crisp")
        controller = self.get_parameter("arm_controller").value if self.has_parameter("arm_controller") else "fr3_arm_controller"
        self.sources = SourceWatch(self, ["action_chunk", "intervention", names.topic, f"{controller}/joint_trajectory"], patient=name != "mujoco")
        self.executed_publisher = self.create_publisher(msg.ExecutedAction, "executed_action", qos.COMMAND)
        self.status = self.create_publisher(msg.CommandStatus, "command_status", qos.STATE)
        self.create_subscription(Clock, "/clock", lambda message: self.clock.add(nanoseconds(message.clock)), qos.SENSOR)
        self.create_subscription(JointState, names.topic, self._on_joints, qos.SENSOR)
        self.create_subscription(msg.ActionChunk, "action_chunk", self._on_chunk, qos.COMMAND)
        self.create_subscription(EPISODE, "episode", self._on_episode, qos.EPISODE)
        self.create_subscription(msg.Intervention, "intervention", self._on_intervention, qos.COMMAND)
        self.create_subscription(Bool, "emergency_stop", self._on_emergency_stop, qos.COMMAND)
        self.create_service(Trigger, "emergency_stop", self._on_stop_service)
        self.create_service(Trigger, "reset_emergency_stop", self._on_reset_service)
        self.create_service(Trigger, "go_home", self._on_go_home)
        self.create_timer(2.0, self._publish_status, clock=self.wall)

    def begin(self) -> None:
        self.stopping.clear()
        self.thread = threading.Thread(target=self._run, name="control")
        self.thread.start()
        # This thread shares the interpreter with the control thread: were it preempted by another program while it holds that, control would wait for both.
        _take_precedence(max(self.priority - 1, 1) if self.priority else 0)

    def end(self) -> None:
        """Stops the arm: the trajectories that bring it to rest are the last thing sent."""
        with self.lock:
            self.commander.stop("the command node is shutting down")
            self.backend.hold()
            self.episode = EPISODE()  # should this node be activated again, it joins what runs then
        thread = self.thread
        if thread is None:
            return
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline and thread.is_alive() and not self.stopping.wait(0.02):
            if self.holding and self.settled:
                break
        self.stopping.set()
        thread.join(timeout=2.0)

    def close(self) -> None:
        if self.backend is not None:
            self.backend.close()

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        counts = {"late_actions": self.late_actions, "refused": self.refused, "refused_chunks": self.commander.refused_chunks}
        values = {**counts, **self.limited, **self.backend.health()}
        if self.thread is None or not self.thread.is_alive():
            return ERROR, "the control thread has stopped: see the log", values
        if self.commander.emergency:
            return ERROR, "emergency stop: call reset_emergency_stop when the cell is safe", values
        if self.obstacle:
            return ERROR, self.obstacle, values
        if self.clock.now_ns() is None:
            return WARN, "the clock stands still", values
        if self.reason:
            reason, self.reason = self.reason, ""  # told once: what holds the arm now must not stay hidden behind it
            return WARN, reason, values
        watched = self.episode.state == EPISODE.RUNNING and self.holding not in ("", NO_ACTION, RESYNCHRONISING, ALIGNING)
        return WARN if watched else OK, f"holding: {self.holding}" if self.holding else "moving", values

    def alarmed(self) -> bool:
        return self.commander.emergency or bool(self.obstacle)

    settled = True
    """Whether the arm is at rest, and nothing was sent that would move it."""

    obstacle = ""
    """Why the robot cannot be moved now, whatever the policy says."""

    def _run(self) -> None:
        sys.setswitchinterval(GIL_S)
        if not _take_precedence(self.priority):
            self.get_logger().info("no permission for real-time scheduling: going on with ordinary scheduling")
        try:
            self._beat()
        except Exception as error:
            self.fault = error

    def _beat(self) -> None:
        """One command per period of the arm's clock, on a fixed grid; a beat that was missed is skipped, never made up for."""
        beat = None
        while not self.stopping.is_set():
            at = time.monotonic()
            now_ns = self.clock.now_ns(at)
            if now_ns is None:
                beat = None
                with self.lock:
                    self.statistics.skip()
                self.stopping.wait(0.02)
                continue
            if beat is None or abs(now_ns - beat * self.period_ns) > 10 * self.period_ns:
                beat = now_ns // self.period_ns
            beat = max(beat + 1, now_ns // self.period_ns)
            wait = self.clock.wall_until(beat * self.period_ns, at)
            if wait > 0 and self.stopping.wait(wait):
                return
            at = time.monotonic()
            now_ns = self.clock.now_ns(at)
            if now_ns is not None:
                self._tick(now_ns, at)

    def _tick(self, now_ns: int, at: float) -> None:
        with self.lock:
            self._watch_episode(now_ns, at)
            self._watch_robot()
            command = self.commander.tick(now_ns)
            closed = self.executed.add(now_ns, command)
            self._note(now_ns, at, command)
            # Under the lock, so that no wish comes after the stop that should have dropped it.
            if self.commander.emergency:
                self.backend.hold()
            elif command.finger is not None:
                self._tell_hand(command.finger, now_ns)
        if command.trajectory is not None:
            self.backend.move(command.trajectory)
        for interval in closed:
            self._publish_executed(interval)

    def _tell_hand(self, finger: float, now_ns: int) -> None:
        told = finger, now_ns // HAND_NS
        if told != self.hand_told:
            self.hand_told = told
            self.backend.grip(finger)

    def _watch_episode(self, now_ns: int, at: float) -> None:
        """Without an episode node that would end the episode, the arm must not go on."""
        if self.episode.state != EPISODE.RUNNING or self.abandoned:
            return
        silent = at - self.episode_heard > SILENCE_S
        if silent or now_ns > self.deadline_ns:
            self.abandoned = True
            self.commander.stop("episode_node is silent" if silent else "the episode is past its step limit and nobody has ended it")
            self.backend.hold()

    def _watch_robot(self) -> None:
        """An obstacle, however short, is the end of what the policy had planned: it lasts until the episode is over, so that everybody hears of it."""
        obstacle = self.backend.obstacle() or self.sources.obstacle
        if obstacle or self.episode.state != EPISODE.RUNNING or not self.obstacle:
            self.obstacle = obstacle
        self.commander.set_obstacle(self.obstacle)

    def _note(self, now_ns: int, at: float, command: Command) -> None:
        self.statistics.beat(now_ns, at, self.clock.rate)
        if self.received is not None and command.chunk_stamp_ns == self.received[0]:
            self.statistics.reaction(time.monotonic() - self.received[1])
            self.received = None
        self.holding, self.late_actions, self.settled = command.holding, command.late_actions, not self.commander.moving
        self.limited.update(command.limited)
        if command.source == Source.POLICY and command.chunk_stamp_ns > self.last_chunk_ns:
            self.statistics.latency((now_ns - command.chunk_stamp_ns) * 1e-9)
            self.last_chunk_ns = command.chunk_stamp_ns

    def _publish_executed(self, interval: Executed) -> None:
        message = msg.ExecutedAction(episode_id=self.episode.id, action=interval.action.tolist(), policy_version=interval.policy_version)
        message.header.stamp = stamp(interval.stamp_ns)
        message.header.frame_id = self.embodiment.base_frame
        message.best_of_n, message.source = interval.best_of_n, int(interval.source)
        self.executed_publisher.publish(message)

    def _on_joints(self, message: JointState) -> None:
        try:
            reading = reading_from_message(message, self.embodiment)
        except UserError as error:
            self._refuse(str(error))
            return
        with self.lock:
            refused = self.commander.set_joints(reading)
        if refused:
            self._refuse(refused)

    def _on_chunk(self, message: msg.ActionChunk) -> None:
        if message.episode_id != self.episode.id:
            return  # of an episode that is over
        try:
            chunk = chunk_from_message(message, self.embodiment)
        except UserError as error:
            self._refuse(str(error))
            return
        with self.lock:
            self.commander.set_chunk(chunk)
            self.received = (chunk.stamp_ns, time.monotonic())

    def _on_episode(self, episode: msg.EpisodeState) -> None:
        if not self.active:
            return
        now_ns = self.clock.now_ns()
        if now_ns is not None and nanoseconds(episode.header.stamp) - now_ns > FURTHEST_NS:
            self._refuse(f"an episode is stamped {(nanoseconds(episode.header.stamp) - now_ns) * 1e-9:.1f} s ahead: set the clocks of the machines alike")
            return
        with self.lock:
            self.episode_heard = time.monotonic()
            if episode == self.episode and not self.abandoned:
                return  # a heartbeat
            if episode.state == EPISODE.READY:
                self.hand_told = None
                self.commander.start(nanoseconds(episode.header.stamp), placed=self.placed)
            elif episode.state == EPISODE.RUNNING:
                if self.abandoned or self.episode.state != EPISODE.READY or self.episode.id != episode.id:
                    self.commander.start()  # this node joined late
                start_ns = nanoseconds(episode.header.stamp)
                self.deadline_ns = start_ns + episode.step_limit * self.embodiment.period_ns + LIMIT_SLACK_NS
                if (self.episode.state, self.episode.id) != (EPISODE.RUNNING, episode.id):
                    self.executed.start(start_ns)
                    self.last_chunk_ns = 0
            else:
                self.commander.stop("no episode is running")
                if self.episode.state in (EPISODE.READY, EPISODE.RUNNING):
                    self.backend.hold()  # once: on the way home, which begins only afterwards, the hand is opened
                self.executed.stop()
            self.episode, self.abandoned = episode, False

    def _on_intervention(self, message: msg.Intervention) -> None:
        stamp_ns = nanoseconds(message.header.stamp)
        action = np.array(message.action, dtype=np.float64)
        with self.lock:
            if message.active:
                self.commander.set_override(action, stamp_ns)
            elif self.override_was_active:
                self.commander.set_override(None, stamp_ns)
            self.override_was_active = message.active

    def _on_emergency_stop(self, message: Bool) -> None:
        if message.data:  # what was stopped goes on only by the service
            self._stop_at_once("topic")

    def _on_stop_service(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stop_at_once("service")
        response.success, response.message = True, "stopped until reset_emergency_stop is called"
        return response

    def _stop_at_once(self, by: str) -> None:
        with self.lock:
            news = not self.commander.emergency
            self.commander.emergency_stop()
            self.backend.hold()  # not only with the next beat: there is none while the clock stands still
        if news:
            self.get_logger().error(f"emergency stop by {by}: the arm holds until reset_emergency_stop is called")

    def _on_reset_service(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self.lock:
            response.success = self.commander.emergency
            if response.success:
                self.commander.reset_emergency_stop()
        response.message = "reset: the arm moves again with the next episode" if response.success else "there is no emergency stop to reset"
        return response

    def _on_go_home(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self.lock:
            response.success = self.active and not self.obstacle and self.commander.go_home()
        response.message = "on the way" if response.success else f"not now: {self.obstacle or self.holding or 'an episode is running'}"
        return response

    def _refuse(self, reason: str) -> None:
        self.refused, self.reason = self.refused + 1, reason
        self.get_logger().warning(reason, throttle_duration_sec=5.0)

    def _publish_status(self) -> None:
        with self.lock:
            figures = self.statistics.take()
            limited, self.limited = self.limited, Counter()
        message = msg.CommandStatus(period=self.period_ns * 1e-9, late_actions=self.late_actions, holding=self.holding)
        message.emergency_stop = self.commander.emergency
        message.header.stamp = self.get_clock().now().to_msg()
        for name, value in figures.items():
            setattr(message, name, value)
        message.limited, message.limited_count = list(limited), list(limited.values())
        self.status.publish(message)


def _take_precedence(priority: int) -> bool:
    """Lets the calling thread run before all ordinary ones (SCHED_FIFO), unless ``priority`` is 0. Returns whether that was permitted."""
    try:
        if priority:
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(priority))
    except (OSError, AttributeError):  # AttributeError: no Linux
        return False
    return True


def main() -> None:
    """Entry point of the executable ``command_node``."""
    run(CommandNode)
