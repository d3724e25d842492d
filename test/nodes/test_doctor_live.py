"""``mechanic-rl doctor --live`` beside real nodes."""

import json
import subprocess

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from mechanic_rl_ros.msg import ActionChunk, Intervention
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mechanic_rl_ros.nodes import qos


def doctor(nodes, *options, probe=None):
    """Exit status and what it found; ``probe`` goes on speaking meanwhile."""
    process = subprocess.Popen(
        ["mechanic-rl", "doctor", "--live", "--json", *options], env=nodes.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if probe is not None:
        probe.wait_for(lambda: process.poll() is not None, "the end of doctor")
    output, errors = process.communicate()
    assert not errors, errors
    shown = json.loads(output)
    return process.returncode, {finding["what"]: finding for finding in shown["findings"]}, shown["cause"]


def test_where_nothing_runs_it_says_so(ros):
    nodes, _ = ros
    status, _, cause = doctor(nodes, "--seconds", "2")
    assert status == 1
    assert f"no node of mechanic_rl_ros is heard in domain {nodes.domain}" in cause["found"]


def test_without_a_robot_it_names_the_missing_joint_states_and_with_one_the_missing_nodes(ros, tmp_path):
    nodes, probe = ros
    nodes.start("command_node", use_sim_time=True)
    nodes.start("camera_node", use_sim_time=True)
    nodes.start("episode_node", use_sim_time=True, directory=tmp_path / "episodes")
    status, found, cause = doctor(nodes)
    assert (status, cause["what"], cause["found"]) == (1, "joint_states", "nobody publishes it")
    assert "has sent nothing" in found["camera_node"]["found"]

    nodes.start("sim_node")
    joints = probe.hear(JointState, "joint_states", qos.SENSOR)
    probe.wait_for(lambda: joints, "the simulation")
    status, found, cause = doctor(nodes)
    assert (status, cause["what"], cause["found"]) == (1, "policy_node", "does not run")
    assert "wrong" not in {found[what]["health"] for what in ("joint_states", "camera front", "camera_node")}, "a busy machine may give few frames"
    assert "waiting for policy_node" in found["episode"]["found"]
    assert "no episode is running" in found["arm"]["found"]


def test_a_second_source_of_commands_and_one_that_is_never_heard_are_named(ros):
    nodes, probe = ros
    nodes.start("command_node", use_sim_time=True)
    probe.node.create_publisher(Float64MultiArray, "fr3_gripper_controller/commands", qos.TRAJECTORY)
    probe.node.create_publisher(Intervention, "intervention", qos.SENSOR)
    probe.speaker(ActionChunk, "action_chunk", qos.COMMAND)
    status, found, cause = doctor(nodes)
    assert (status, cause["what"]) == (1, "fr3_gripper_controller/commands")
    assert cause["found"] == "2 publishers: /command_node, /probe"
    assert "/probe and /command_node never come together: Best effort publisher" in found["/intervention"]["found"]
    assert "action_chunk" not in found, "one publisher alone is well"


def test_an_arm_that_is_held_in_a_running_episode_is_named_whatever_the_arm_of_another_namespace_does(ros, play):
    arm = play["arm"](ros)
    other = arm.probe.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    moving = DiagnosticStatus(level=DiagnosticStatus.OK, name="left/command_node", message="moving")
    arm.probe.every(0.3, lambda: other.publish(DiagnosticArray(status=[moving])))
    arm.begin()
    arm.operate([0.0] * 4)
    arm.await_holding("operator's command is stale")
    status, found, _ = doctor(arm.nodes, "--seconds", "3", probe=arm.probe)
    assert (status, found["arm"]["health"], found["arm"]["found"]) == (1, "wrong", "holds: operator's command is stale")
