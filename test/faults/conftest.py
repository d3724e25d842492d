"""A cell that practises: real processes between drivers, arm, learner and operator that are played."""

import importlib.util
from pathlib import Path

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from mechanic_rl_ros import msg
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds, stamp
from mechanic_rl_ros.nodes.convert import image_to_message

EMBODIMENT = load_embodiment()
_spec = importlib.util.spec_from_file_location("played", Path(__file__).parents[1] / "nodes" / "conftest.py")
played = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(played)


class Cell(played.Arm):
    """The played arm with both cameras' drivers; camera, policy and command node are processes."""

    def __init__(self, ros, folder):
        super().__init__(ros)
        self.probe.node.destroy_publisher(self.chunks)
        self.teacher, self.folder = played.Teacher(self.probe, folder), folder
        self.drivers = {key: self.probe.node.create_publisher(Image, spec.raw_topic, qos.SENSOR) for key, spec in EMBODIMENT.cameras.items()}
        self.planned = self.probe.hear(msg.ActionChunk, "action_chunk", qos.COMMAND)
        self.policy_status = self.probe.hear(msg.PolicyStatus, "policy_status", qos.STATE)
        every_one = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)  # that of the controllers keeps only the newest
        self.commands = self.probe.hear(JointTrajectory, "fr3_arm_controller/joint_trajectory", every_one)
        self.nodes.start("camera_node", use_sim_time=True)
        self.mend()
        self.start_policy()

    def mend(self):
        """Drivers and clock as they should be."""
        self.clock_runs, self.frozen = True, False
        self.stamps = lambda camera, now_ns: [now_ns]  # of the images that are sent at an instant

    def start_policy(self):
        self.policy = self.nodes.start("policy_node", checkpoint=self.folder, use_sim_time=True, device="cpu", mode="plain")
        self.policy_status.clear()
        self.probe.wait_for(lambda: self.policy_status and all(driver.get_subscription_count() for driver in self.drivers.values()), "the policy")

    def start_command_node(self):
        self.process = self.nodes.start("command_node", use_sim_time=True)

    def _tick(self):
        super()._tick()
        if not self.clock_runs or self.now_ns % EMBODIMENT.period_ns:
            return
        for key, driver in self.drivers.items():
            for stamp_ns in self.stamps(key, self.now_ns):
                picture = played.pictures(0 if self.frozen else stamp_ns // EMBODIMENT.period_ns)[key]
                driver.publish(image_to_message(picture, EMBODIMENT.cameras[key].frame, stamp(stamp_ns)))

    def practise(self):
        """A new episode in which the policy moves the arm."""
        self.begin()
        self.planned.clear()
        self.probe.wait_for(lambda: self.planned and self.planned[-1].episode_id == self.id, "a chunk")
        self.await_motion()

    def last_observation_ns(self):
        return nanoseconds(self.planned[-1].header.stamp)

    def rest_since(self, since_ns):
        """Seconds from then until the arm came to rest for good."""
        moved = [at_ns for at_ns, speed in self.speeds if speed > 0.0 and at_ns >= since_ns]
        return (moved[-1] - since_ns) * 1e-9 if moved else 0.0


@pytest.fixture(scope="session")
def play():
    """The parts that a test can play."""
    return {"arm": played.Arm}


@pytest.fixture(scope="module")
def shared_cell(shared_ros, checkpoint_folder):
    return Cell(shared_ros, checkpoint_folder)


@pytest.fixture
def cell(shared_cell):
    """Whole again after each test."""
    yield shared_cell
    shared_cell.mend()
    if shared_cell.policy.ended():
        shared_cell.start_policy()
    if shared_cell.process.ended():
        shared_cell.start_command_node()
    shared_cell.end()
