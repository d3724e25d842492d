"""The MuJoCo FR3 as a node: it speaks what ros2_control and the camera drivers speak, and gives the clock."""

from __future__ import annotations

import array
import threading
import time
from typing import Any

import numpy as np
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.msg import TaskState
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import ERROR, OK, WARN, Node, run, stamp
from mechanic_rl_ros.nodes.convert import trajectory_from_message
from mechanic_rl_ros.sim.simulation import Simulation
from mechanic_rl_ros.srv import ResetScene

SLICE_NS = 10_000_000  # simulated time between two looks at the wall clock and the inputs
CLOCK_S = 0.1  # wall time between two clock messages at most: listeners take a longer silence for a clock that stands still
WINDOW_S = 1.0  # wall time over which the real-time factor is measured


class SimNode(Node):
    """Runs the simulation in a thread of its own, paced by the monotonic clock."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        self.embodiment = self.embodiment_parameter()
        task = self.parameter("task", "lift", "task: lift, push or reach")
        renderer = self.parameter("renderer", "rays", "rays (no GL library needed) or mujoco (MuJoCo's own)")
        self.size = self.parameter("camera_size", 64, "rows and columns of the raw images, pixels", low=16, high=1024)
        self.factor = self.parameter("real_time_factor", 1.0, "simulated seconds per second", low=0.05, high=20.0)
        self.joint_ns = _slices(1.0 / self.parameter("joint_state_rate", 50.0, "joint states per simulated second, Hz", low=10.0, high=100.0))
        clock_s = 1.0 / self.parameter("clock_rate", 20.0, "clock messages per simulated second at least, Hz", low=10.0, high=100.0)
        self.clock_ns = _slices(min(clock_s, CLOCK_S * self.factor))
        self.simulation = Simulation(task, self.embodiment, renderer=renderer, camera_size=self.size)
        self.task, self.seed, self.reset_count = task, 0, 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        self.measured_factor, self.last_refusal = 0.0, ""

    def setup(self) -> None:
        embodiment = self.embodiment
        self.clock_publisher = self.create_publisher(Clock, "/clock", qos.SENSOR)
        self.joint_publisher = self.create_publisher(JointState, embodiment.joints.topic, qos.SENSOR)
        self.task_publisher = self.create_publisher(TaskState, "task_state", qos.STATE)
        self.cameras = {key: self.create_publisher(Image, spec.raw_topic, qos.SENSOR) for key, spec in embodiment.cameras.items()}
        self.create_subscription(JointTrajectory, "fr3_arm_controller/joint_trajectory", self._on_trajectory, qos.TRAJECTORY)
        self.create_subscription(Float64MultiArray, "fr3_gripper_controller/commands", self._on_gripper, qos.TRAJECTORY)
        self.create_service(ResetScene, "reset_scene", self._on_reset)

    def begin(self) -> None:
        self.stopping.clear()
        self.thread = threading.Thread(target=self._run, name="simulation")
        self.thread.start()

    def end(self) -> None:
        self.stopping.set()
        if self.thread is not None:
            self.thread.join(timeout=5.0)

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        values = {"real_time_factor": f"{self.measured_factor:.3f}", "wanted": self.factor}
        if self.thread is None or not self.thread.is_alive():
            return ERROR, "the simulation thread has stopped: see the log", values
        if self.last_refusal:
            refusal, self.last_refusal = self.last_refusal, ""
            return WARN, refusal, values
        return OK, f"running at {self.measured_factor:.2f} of real time", values

    def _run(self) -> None:
        try:
            self._pace()
        except Exception as error:
            self.fault = error
        finally:
            self.simulation.close()  # here, since a graphics context belongs to the thread that rendered

    def _pace(self) -> None:
        """Advances in slices; what the machine cannot keep up with is simulated later, not skipped or rushed."""
        slice_s = SLICE_NS * 1e-9 / self.factor
        due = window_start = time.monotonic()
        window_ns = self.simulation.time_ns
        while not self.stopping.is_set():
            with self.lock:
                self.simulation.advance(SLICE_NS * 1e-9)
                self._publish(self.simulation.time_ns)
            due = max(due + slice_s, time.monotonic() - slice_s)
            self.stopping.wait(max(0.0, due - time.monotonic()))
            elapsed = time.monotonic() - window_start
            if elapsed >= WINDOW_S:
                self.measured_factor = (self.simulation.time_ns - window_ns) * 1e-9 / elapsed
                window_start, window_ns = time.monotonic(), self.simulation.time_ns

    def _publish(self, now_ns: int) -> None:
        """What is quick and what others wait for comes first; rendering takes milliseconds."""
        if now_ns % self.clock_ns == 0:
            self.clock_publisher.publish(Clock(clock=stamp(now_ns)))
        if now_ns % self.joint_ns == 0:
            self._publish_joints(now_ns)
        if now_ns % self.embodiment.period_ns == 0:
            self._publish_cameras(now_ns)
            self._publish_task(now_ns)

    def _publish_cameras(self, now_ns: int) -> None:
        for key, publisher in self.cameras.items():
            message = Image(height=self.size, width=self.size, encoding="rgb8", step=3 * self.size)
            message.header.stamp = stamp(now_ns)
            message.header.frame_id = self.embodiment.cameras[key].frame
            message.data = array.array("B", self.simulation.render(key).tobytes())
            publisher.publish(message)

    def _publish_joints(self, now_ns: int) -> None:
        reading = self.simulation.joint_state()
        message = JointState(name=[*self.embodiment.joints.names, self.embodiment.joints.finger])
        message.header.stamp = stamp(now_ns)
        message.header.frame_id = self.embodiment.base_frame
        message.position = [*reading.positions.tolist(), reading.finger]
        message.velocity = [*reading.velocities.tolist(), reading.finger_velocity]
        message.effort = [*reading.efforts.tolist(), 0.0]
        self.joint_publisher.publish(message)

    def _publish_task(self, now_ns: int) -> None:
        reading = self.simulation.task_state()
        message = TaskState(task=self.task, seed=self.seed, reset_count=self.reset_count, success=bool(reading.success), progress=float(reading.progress))
        message.header.stamp = stamp(now_ns)
        message.header.frame_id = self.embodiment.base_frame
        position, quaternion = np.asarray(reading.object_position, float), np.asarray(reading.object_quaternion, float)
        message.object.position.x, message.object.position.y, message.object.position.z = position.tolist()
        pose = message.object.orientation
        pose.w, pose.x, pose.y, pose.z = quaternion.tolist()
        message.goal.x, message.goal.y, message.goal.z = np.asarray(reading.goal, float).tolist()
        self.task_publisher.publish(message)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        try:
            trajectory = trajectory_from_message(message, self.embodiment.joints.names)
            with self.lock:
                self.simulation.set_trajectory(trajectory)
        except UserError as error:
            self.last_refusal = f"trajectory refused: {error}"
            self.get_logger().warning(self.last_refusal, throttle_duration_sec=5.0)

    def _on_gripper(self, message: Float64MultiArray) -> None:
        try:
            if len(message.data) != 1:
                raise UserError(f"it has {len(message.data)} values: give one per-finger position in m")
            with self.lock:
                self.simulation.set_finger(message.data[0])
        except UserError as error:
            self.last_refusal = f"gripper command refused: {error}"
            self.get_logger().warning(self.last_refusal, throttle_duration_sec=5.0)

    def _on_reset(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        with self.lock:
            self.simulation.reset(int(request.seed))
            self.seed, self.reset_count = int(request.seed), self.reset_count + 1
            response.stamp = stamp(self.simulation.time_ns)
        response.success, response.reset_count = True, self.reset_count
        return response


def _slices(seconds: float) -> int:
    """A period as nanoseconds, rounded to whole slices."""
    return max(1, round(seconds * 1e9 / SLICE_NS)) * SLICE_NS


def main() -> None:
    """Entry point of the executable ``sim_node``."""
    run(SimNode)
