"""Puts the scene back where no simulation does it, with a person's help, and tells how the task stands."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.msg import TaskState
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import OK, WARN, Node, nanoseconds, run
from mechanic_rl_ros.nodes.convert import reading_from_message
from mechanic_rl_ros.reset.scene_reset import SceneReset, SceneResetConfig, Verdict
from mechanic_rl_ros.reward.tracked import GOALS, TrackedTask
from mechanic_rl_ros.srv import ResetScene

TICK_S = 0.05  # wall seconds
THINNED = 0.9  # of a policy period between two task states: a camera may be faster than the policy


class SceneNode(Node):
    """Serves ``reset_scene``; publishes ``task_state`` with the stamps of the first camera, on which the steps of an episode lie."""

    def __init__(self) -> None:
        super().__init__("scene_node")
        self.embodiment = self.embodiment_parameter()
        self.task = self.parameter("task", "lift", "task name")
        config = SceneResetConfig(
            home=self.embodiment.joints.home,
            tolerance=self.parameter("home_tolerance", 0.05, "rad by which a joint may be off home", low=0.001, high=1.0),
            home_patience=self.parameter("home_patience", 30.0, "s that the way home may take", low=1.0, high=600.0),
            confirm=self.parameter("confirm", True, "whether a person must say (service scene_ready) that the scene is ready"),
            confirm_patience=self.parameter("confirm_patience", 600.0, "s that a person may take", low=1.0, high=86400.0),
            settle=self.parameter("settle_time", 1.0, "s that the scene is left to come to rest", low=0.0, high=60.0),
        )
        judge = self.parameter("judge", "label", "who says that the task is solved: label (an operator) or pose (a tracked object)")
        if judge not in ("label", "pose"):
            raise UserError(f"parameter judge of scene_node is {judge!r}: use label or pose")
        goal = self.parameter("goal", GOALS.get(self.task, [0.0] * 3), "where the object (push) or the hand (reach) shall be, m in the base frame")
        self.object_topic = self.parameter("object_topic", "object_pose", "geometry_msgs/PoseStamped of the object, where judge is pose")
        self.tracked = TrackedTask(self.task, self.embodiment, goal) if judge == "pose" else None
        self.reset = SceneReset(config)
        self.pending: Any = None
        self.home_asked: Any = None
        self.seed, self.reset_count, self.last_ns, self.refusal = 0, 0, 0, ""

    def setup(self) -> None:
        self.publisher = self.create_publisher(TaskState, "task_state", qos.STATE)
        self.create_subscription(JointState, self.embodiment.joints.topic, self._on_joints, qos.SENSOR)
        self.create_subscription(Image, next(iter(self.embodiment.cameras.values())).topic, self._on_image, qos.SENSOR)
        if self.tracked is not None:
            self.create_subscription(PoseStamped, self.object_topic, self._on_object, qos.SENSOR)
        self.home: Any = self.create_client(Trigger, "go_home")
        # A group of its own: a service that waits for an answer keeps all others of its group waiting.
        self.create_service(ResetScene, "reset_scene", self._on_reset, callback_group=ReentrantCallbackGroup())
        self.create_service(Trigger, "scene_ready", self._on_ready)
        self.create_timer(TICK_S, self._tick, clock=self.wall)

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        values = {"resets": self.reset_count}
        if self.refusal:
            refusal, self.refusal = self.refusal, ""
            return WARN, refusal, values
        return WARN if self.reset.waits_for_person else OK, self.reset.text or "running", values

    async def _on_reset(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        self._conclude(Verdict(False, "another reset was asked for"))
        pending: Any = Future()
        self.pending = pending
        self.seed = int(request.seed)
        self.home_asked = None
        self.reset.begin(time.monotonic())
        verdict = await pending
        if verdict.success:
            self.reset_count += 1
            if self.tracked is not None:
                self.tracked.start(self.now_ns())
        response.success, response.message, response.reset_count = verdict.success, verdict.message, self.reset_count
        response.stamp = self.get_clock().now().to_msg()
        return response

    def _drive_home(self) -> None:
        """Asks as soon as somebody can be asked."""
        if self.pending is not None and self.home_asked is None and self.home.service_is_ready():
            self.home_asked = self.home.call_async(Trigger.Request())
            self.home_asked.add_done_callback(self._on_home)

    def _on_home(self, future: Any) -> None:
        answer = future.result()
        if future is not self.home_asked:
            return  # of a reset that is over
        if answer.success:
            self.reset.began(time.monotonic())
        else:
            self._conclude(self.reset.refused(answer.message or "command_node refuses"))

    def _on_ready(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = self.reset.ready(time.monotonic())
        response.success = not response.message
        return response

    def _tick(self) -> None:
        self._drive_home()
        verdict = self.reset.tick(time.monotonic())
        if verdict is not None:
            self._conclude(verdict)

    def _conclude(self, verdict: Verdict) -> None:
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.set_result(verdict)

    def _on_joints(self, message: JointState) -> None:
        try:
            reading = reading_from_message(message, self.embodiment)
        except UserError as error:
            self._refuse(str(error))
            return
        self.reset.joints(reading.positions, reading.velocities, time.monotonic())
        if self.tracked is not None:
            self.tracked.joints(reading.positions)

    def _on_object(self, message: PoseStamped) -> None:
        if message.header.frame_id != self.embodiment.base_frame:
            self._refuse(f"object pose is in frame {message.header.frame_id!r}: publish it in {self.embodiment.base_frame}")
            return
        place, turn = message.pose.position, message.pose.orientation
        if self.tracked is not None:
            stamp_ns = nanoseconds(message.header.stamp)
            self.tracked.object(np.array([place.x, place.y, place.z]), np.array([turn.w, turn.x, turn.y, turn.z]), stamp_ns)

    def _on_image(self, message: Image) -> None:
        stamp_ns = nanoseconds(message.header.stamp)
        if not self.active or 0 <= stamp_ns - self.last_ns < THINNED * self.embodiment.period_ns:
            return
        self.last_ns = stamp_ns
        state = TaskState(task=self.task, seed=self.seed, reset_count=self.reset_count)
        state.header.stamp, state.header.frame_id = message.header.stamp, self.embodiment.base_frame
        if self.tracked is not None:
            self._judge(self.tracked, state, stamp_ns)
        self.publisher.publish(state)

    def _judge(self, tracked: TrackedTask, state: TaskState, stamp_ns: int) -> None:
        judgement = tracked.judge(stamp_ns)
        state.success, state.progress = judgement.success, judgement.progress
        (x, y, z), (w, i, j, k) = tracked.place.tolist(), tracked.turn.tolist()
        state.object.position.x, state.object.position.y, state.object.position.z = x, y, z
        turn = state.object.orientation
        turn.w, turn.x, turn.y, turn.z = w, i, j, k
        state.goal.x, state.goal.y, state.goal.z = tracked.goal.tolist()

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        self.get_logger().warning(reason, throttle_duration_sec=5.0)


def main() -> None:
    """Entry point of the executable ``scene_node``."""
    run(SceneNode)
