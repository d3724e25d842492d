"""Why nothing moves, judged from what was heard. That it is heard is tested with real nodes, in test/nodes."""

import copy

import pytest

from mechanic_rl_ros.cli.live import HELPFUL, REQUIRED, Health, cause, judge
from mechanic_rl_ros.embodiment import load_embodiment

EMBODIMENT = load_embodiment()
JOINTS = EMBODIMENT.joints.topic
CAMERA = EMBODIMENT.cameras["front"]
ALL_MOVES = {
    "nodes": [f"/{name}" for name in (*REQUIRED, *HELPFUL, "sim_node", "rviz2")],
    "statuses": {f"/{name}": {"level": 0, "message": "running", "values": {}} for name in (*REQUIRED, *HELPFUL, "sim_node")},
    "episode": {"state": "RUNNING", "number": 7, "reason": "", "outcome": ""},
    "learner": {"version": 3, "updates": 40, "episodes": 6, "reason": ""},
    "holdings": ["no action is due", "", ""],
    "clock_stands_still": False,
    "rates": {JOINTS: 50.0, **{topic: 10.0 for spec in EMBODIMENT.cameras.values() for topic in (spec.raw_topic, spec.topic)}},
    "joints": {"names": [*EMBODIMENT.joints.names, EMBODIMENT.joints.finger], "age": 0.01},
    "publishers": {topic: ["/sim_node"] for topic in (JOINTS, *(spec.raw_topic for spec in EMBODIMENT.cameras.values()))},
    "sole": {"action_chunk": ["/policy_node"], "fr3_arm_controller/joint_trajectory": ["/command_node"]},
    "mismatches": [],
}


def judged(change=lambda heard: None, namespace=""):
    heard = copy.deepcopy(ALL_MOVES)
    change(heard)
    findings = judge(heard, 3, namespace, EMBODIMENT)
    return findings, cause(findings)


def test_where_all_moves_nothing_is_wrong():
    findings, reason = judged()
    assert reason is None
    assert {finding.health for finding in findings} == {Health.OK}
    assert {"joint_states", "camera front", "camera wrist", "episode", "arm", "learning", *REQUIRED} <= {finding.what for finding in findings}


def silent(name):
    def change(heard):
        heard["nodes"].remove(f"/{name}")
        del heard["statuses"][f"/{name}"]

    return change


def says(name, level, message):
    return lambda heard: heard["statuses"][f"/{name}"].update(level=level, message=message)


def awaits_a_person(heard):
    heard["nodes"].append("/scene_node")
    heard["statuses"]["/scene_node"] = {"level": 1, "message": "arrange the scene, then call the service scene_ready or press its button", "values": {}}
    heard["episode"].update(state="RESETTING")


@pytest.mark.parametrize(
    ("change", "what", "words"),
    [
        (lambda heard: heard["sole"]["action_chunk"].append("/laptop/policy_node"), "action_chunk", "2 publishers: /policy_node, /laptop/policy_node"),
        (
            lambda heard: heard["mismatches"].append({"topic": "/intervention", "publisher": "/joy", "subscriber": "/command_node", "reason": "best effort"}),
            "/intervention",
            "/joy and /command_node never come together: best effort",
        ),
        (lambda heard: heard.update(clock_stands_still=True), "/clock", "stands still"),
        (lambda heard: heard["publishers"].update({JOINTS: []}), "joint_states", "nobody publishes it"),
        (lambda heard: heard.update(joints={}), "joint_states", "/sim_node says nothing"),
        (lambda heard: heard["joints"].update(names=["panda_joint1"]), "joint_states", "lacks fr3_joint1"),
        (lambda heard: heard["joints"].update(age=2.0), "joint_states", "2.00 s old"),
        (lambda heard: heard["publishers"].update({CAMERA.raw_topic: []}), "camera front", f"nobody publishes {CAMERA.raw_topic}"),
        (lambda heard: heard["rates"].update({CAMERA.raw_topic: 0.0}), "camera front", "/sim_node sends no image"),
        (lambda heard: heard["rates"].update({CAMERA.topic: 0.0}), "camera front", "10.0 frames per second raw, 0.0"),
        (silent("recorder_node"), "recorder_node", "does not run"),
        (lambda heard: heard["statuses"].pop("/policy_node"), "policy_node", "says nothing on /diagnostics"),
        (says("recorder_node", 2, "7 episodes are unwritten"), "recorder_node", "7 episodes are unwritten"),
        (says("policy_node", 1, "not active"), "policy_node", "not active"),
        (
            lambda heard: heard["episode"].update(state="WAITING", reason="waiting for the service reset_scene"),
            "episode",
            "waiting for the service reset_scene",
        ),
        (lambda heard: heard.update(episode={}), "episode", "does not say"),
        (lambda heard: heard.update(holdings=["emergency stop"] * 3), "arm", "holds: emergency stop"),
        (awaits_a_person, "episode", "arrange the scene, then call the service scene_ready"),
    ],
)
def test_what_is_wrong_is_named_as_the_cause(change, what, words):
    _, reason = judged(change)
    assert reason is not None
    assert (reason.what, words in reason.found) == (what, True), reason


def test_the_cause_explains_the_rest():
    def change(heard):
        silent("sim_node")(heard)
        heard["publishers"] = {topic: [] for topic in heard["publishers"]}
        heard["joints"] = {}
        says("camera_node", 2, "camera front has sent nothing")(heard)
        heard["episode"].update(state="WAITING", reason="waiting for camera_node")

    findings, reason = judged(change)
    assert reason.what == "joint_states"
    assert len([finding for finding in findings if finding.health is Health.WRONG]) == 5


def test_a_learner_that_is_away_and_a_warning_stop_nobody():
    def change(heard):
        silent("learner_node")(heard)
        says("camera_node", 1, "camera front may be frozen")(heard)

    findings, reason = judged(change)
    assert reason is None
    assert {finding.what for finding in findings if finding.health is Health.NOTE} == {"learner_node", "camera_node"}


def test_an_arm_that_holds_between_episodes_is_well():
    def change(heard):
        heard["episode"].update(state="RESETTING")
        heard["holdings"] = ["no episode is running"] * 3

    assert judged(change)[1] is None


def test_what_the_scene_says_while_an_episode_runs_keeps_nobody_waiting():
    def change(heard):
        awaits_a_person(heard)
        heard["episode"].update(state="RUNNING")

    assert judged(change)[1] is None


def test_nodes_of_another_namespace_are_not_ours():
    _, reason = judged(namespace="left_arm")
    assert "no node of mechanic_rl_ros is heard in domain 3, namespace /left_arm" in reason.found
