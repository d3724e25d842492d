"""scene_node between episode_node, the arm and a person, all played by the test."""

import time

import numpy as np
import psutil
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from mechanic_rl_ros.msg import TaskState
from mechanic_rl_ros.srv import ResetScene
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds, stamp
from mechanic_rl_ros.nodes.convert import image_to_message
from mechanic_rl_ros.safety.kinematics import Kinematics

EMBODIMENT = load_embodiment()
HOME = np.array(EMBODIMENT.joints.home)
FRONT = EMBODIMENT.cameras["front"]
PICTURE = np.zeros((FRONT.height, FRONT.width, 3), np.uint8)
CAMERA_HZ = 30.0


class Cell:
    """An arm that drives home step by step when it is told to, a camera at 30 Hz, and who asks for resets."""

    def __init__(self, ros, **parameters):
        self.nodes, self.probe = ros
        self.off, self.homing, self.willing = 0.4, False, True
        node = self.probe.node
        self.joints = node.create_publisher(JointState, EMBODIMENT.joints.topic, qos.SENSOR)
        self.images = node.create_publisher(Image, FRONT.topic, qos.SENSOR)
        node.create_service(Trigger, "go_home", self._on_home)
        self.tasks = self.probe.hear(TaskState, "task_state", qos.STATE)
        self.diagnostics = self.probe.hear(DiagnosticArray, "/diagnostics", 10)
        self.sent = []
        self.probe.every(0.05, self._publish_joints)
        self.probe.every(1.0 / CAMERA_HZ, self._publish_image)
        self.process = self.nodes.start("scene_node", **{"settle_time": 0.2, **parameters})
        self.resets = node.create_client(ResetScene, "reset_scene")
        self.probe.wait_for(lambda: self.resets.service_is_ready() and self.tasks, "scene_node")

    def _on_home(self, request, response):
        self.homing = response.success = self.willing
        response.message = "" if self.willing else "the emergency stop is on"
        return response

    def _publish_joints(self):
        before, self.off = self.off, max(0.0, self.off - 0.1) if self.homing else self.off
        message = JointState(name=[*EMBODIMENT.joints.names, EMBODIMENT.joints.finger], position=[*(HOME + self.off), 0.04])
        message.velocity = [(self.off - before) / 0.05] * 7 + [0.0]
        message.header.stamp = self.probe.node.get_clock().now().to_msg()
        self.joints.publish(message)

    def _publish_image(self):
        self.sent.append(self.probe.node.get_clock().now().nanoseconds)
        self.images.publish(image_to_message(PICTURE, FRONT.frame, stamp(self.sent[-1])))

    def ask(self, seed=5):
        return self.resets.call_async(ResetScene.Request(seed=seed))

    def answer(self, future):
        self.probe.wait_for(future.done, "the end of the reset")
        return future.result()

    def await_text(self, words):
        def said():
            return any(words in status.message for array in self.diagnostics for status in array.status)

        self.probe.wait_for(said, f"diagnostics that say {words!r}")

    def say_ready(self):
        return self.probe.call(Trigger, "scene_ready", Trigger.Request())


def test_a_reset_drives_home_waits_for_a_person_and_begins_a_new_scene(ros):
    cell = Cell(ros)
    assert cell.tasks[-1].reset_count == 0
    future = cell.ask(seed=5)
    cell.await_text("arrange the scene, then call the service scene_ready")
    assert cell.off == 0.0
    assert not future.done()
    assert cell.say_ready().success
    response = cell.answer(future)
    assert (response.success, response.message, response.reset_count) == (True, "", 1)
    cell.tasks.clear()
    cell.probe.wait_for(lambda: cell.tasks, "a task state of the new scene")
    assert (cell.tasks[-1].reset_count, cell.tasks[-1].seed, cell.tasks[-1].task) == (1, 5, "lift")
    assert not cell.say_ready().success, "nobody waits for it any more"


def test_a_second_request_takes_the_place_of_the_first(ros):
    cell = Cell(ros, confirm=False)
    cell.off, cell.homing = 0.4, False
    first = cell.ask()
    second = cell.ask()
    assert cell.answer(first).message == "another reset was asked for"
    assert cell.answer(second).success


def test_an_arm_that_will_not_drive_home_is_told_with_its_reason(ros):
    cell = Cell(ros)
    cell.willing = False
    response = cell.answer(cell.ask())
    assert (response.success, response.message) == (False, "the arm does not drive home: the emergency stop is on")


def test_the_task_is_told_at_the_policys_rate_with_the_cameras_stamps(ros):
    cell = Cell(ros)
    cell.tasks.clear()
    cell.probe.wait_for(lambda: len(cell.tasks) >= 12, "task states")
    stamps = [nanoseconds(task.header.stamp) for task in cell.tasks]
    assert set(stamps) <= set(cell.sent)
    assert 0.9 * EMBODIMENT.period_ns <= np.median(np.diff(stamps)) < 1.6 * EMBODIMENT.period_ns


def test_a_tracked_object_that_is_lifted_solves_the_task(ros):
    cell = Cell(ros, confirm=False, judge="pose")
    poses = cell.probe.speaker(PoseStamped, "object_pose", qos.SENSOR)
    place = Kinematics(EMBODIMENT).tcp(HOME)[0] - [0.0, 0.0, 0.07]

    def track():
        message = PoseStamped()
        message.header.frame_id, message.header.stamp = EMBODIMENT.base_frame, cell.probe.node.get_clock().now().to_msg()
        message.pose.position.x, message.pose.position.y, message.pose.position.z = place.tolist()
        poses.publish(message)

    cell.probe.every(0.05, track)
    assert cell.answer(cell.ask()).success
    cell.tasks.clear()
    cell.probe.wait_for(lambda: cell.tasks and cell.tasks[-1].object.position.z == pytest.approx(place[2]), "a task state with the object")
    assert not cell.tasks[-1].success
    place += [0.0, 0.0, 0.07]
    cell.probe.wait_for(lambda: cell.tasks[-1].success, "success")


def test_while_a_person_works_the_node_does_not_spin(ros):
    cell = Cell(ros)
    cell.ask()
    cell.await_text("arrange the scene")
    times, since = psutil.Process(cell.process.pid).cpu_times(), time.monotonic()
    cell.probe.wait_for(lambda: time.monotonic() - since > 3.0, "three seconds")
    used = psutil.Process(cell.process.pid).cpu_times()
    assert used.user + used.system - times.user - times.system < 0.5 * (time.monotonic() - since)


def test_a_judge_that_cannot_be_is_refused(ros):
    assert "judge of scene_node is 'jury'" in ros[0].refusal("scene_node", judge="jury")
    assert "task 'juggle' cannot be judged by poses" in ros[0].refusal("scene_node", judge="pose", task="juggle")
