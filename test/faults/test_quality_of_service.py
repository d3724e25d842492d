"""A publisher whose quality of service does not fit is heard by nobody: the node that should hear it says so."""

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool

from mechanic_rl_ros import msg

UNRELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
FORGETFUL = QoSProfile(depth=10, durability=DurabilityPolicy.VOLATILE)


@pytest.fixture(scope="module")
def arm(shared_ros, play):
    return play["arm"](shared_ros)


@pytest.mark.parametrize(
    ("kind", "topic", "profile", "words"),
    [
        (msg.Intervention, "intervention", UNRELIABLE, "(reliability): let it publish reliable, volatile"),
        (msg.EpisodeState, "episode", FORGETFUL, "(durability): let it publish reliable, transient_local"),
        (Bool, "emergency_stop", UNRELIABLE, "(reliability): let it publish reliable, volatile"),
    ],
    ids=["operator", "episode", "emergency stop"],
)
def test_a_publisher_that_is_not_heard_is_an_error_with_its_name_until_it_is_gone(arm, kind, topic, profile, words):
    stranger = Node("stranger", context=arm.probe.node.context)
    publisher = stranger.create_publisher(kind, topic, profile)
    arm.probe.wait_for(lambda: f"nothing is heard from /stranger on {topic}" in arm.says()[1], "the word on it")
    assert words in arm.says()[1]
    assert arm.says()[0] == DiagnosticStatus.ERROR
    arm.probe.wait_for(lambda: f"nothing is heard from /stranger on {topic}" in arm.process.output, "the same in the log", 30.0)
    stranger.destroy_publisher(publisher)
    stranger.destroy_node()
    arm.probe.wait_for(lambda: arm.says()[0] == DiagnosticStatus.OK, "no error")
