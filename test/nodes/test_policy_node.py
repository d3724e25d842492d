"""policy_node: observations in, chunks out, weights swapped or refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import yaml

from mechanic_rl_ros import msg
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds
from mechanic_rl_ros.policy.checkpoint import Checkpoint

EMBODIMENT = load_embodiment()
T_A = 4
OLDEST_NS = round(1e9 * EMBODIMENT.cameras["front"].max_age)


class Acting:
    """The policy node with everything around it."""

    def __init__(self, ros, play, folder, **parameters):
        nodes, self.probe = ros
        self.process = nodes.start("policy_node", checkpoint=folder, use_sim_time=True, device="cpu", **parameters)
        self.feed, self.teacher = play["feed"](self.probe), play["teacher"](self.probe, folder)
        self.chunks = self.probe.hear(msg.ActionChunk, "action_chunk", qos.COMMAND)
        self.status = self.probe.hear(msg.PolicyStatus, "policy_status", qos.STATE)
        self.feed.join()
        self.probe.wait_for(lambda: self.status, "the policy node")

    def observe(self, count):
        """Shows so many instants, each after the policy had time for the one before; their stamps."""
        stamps = []
        for _ in range(count):
            stamps.append(self.feed.instant())
            if len(stamps) % T_A == 1:
                self.probe.wait_for(lambda: self.chunks and nanoseconds(self.chunks[-1].header.stamp) == stamps[-1], "a chunk")
        return stamps

    def begin(self):
        self.chunks.clear()
        self.feed.begin()
        self.settle()

    def begin_late(self, late_ns):
        """An episode whose first observation finds the clock at so much after its stamp, where it is already."""
        self.chunks.clear()
        self.feed.delay_ns = EMBODIMENT.period_ns + late_ns
        self.feed.begin()
        self.settle()
        self.feed.delay_ns = late_ns

    def settle(self):
        """Waits until the node has handled what was sent before: its statuses come from the same executor."""
        self.status.clear()
        self.probe.wait_for(lambda: len(self.status) >= 2, "a status")

    def next_version(self):
        self.observe(T_A)
        return self.chunks[-1].policy_version

    def await_refusal(self, words):
        self.probe.wait_for(lambda: self.status and words in self.status[-1].reason, f"the refusal ({words})")


@pytest.fixture(scope="module")
def policy(shared_ros, play, checkpoint_folder):
    return Acting(shared_ros, play, checkpoint_folder)


def test_nothing_is_said_while_no_episode_runs(policy):
    for _ in range(6):
        policy.feed.instant()
    policy.settle()
    assert not policy.chunks
    assert policy.status[-1].version == 0


def test_every_fourth_observation_gives_a_chunk_with_its_stamp(policy):
    policy.begin()
    stamps = policy.observe(10)
    policy.settle()
    assert [nanoseconds(chunk.header.stamp) for chunk in policy.chunks] == stamps[::T_A]
    chunk = policy.chunks[0]
    assert (chunk.horizon, chunk.action_dim, chunk.period, chunk.episode_id) == (8, 4, pytest.approx(0.1), policy.feed.id)
    assert np.abs(chunk.actions).max() <= 1.0
    assert len(chunk.actions) == 32
    assert chunk.header.frame_id == EMBODIMENT.base_frame


def test_as_many_actions_are_played_as_the_checkpoint_says_and_past_ones_never(ros, play, checkpoint_folder, tmp_path):
    checkpoint = Checkpoint.load(checkpoint_folder)
    config = dataclasses.replace(checkpoint.config, action_horizon=2, past_actions=1)
    dataclasses.replace(checkpoint, config=config, critics=None).save(tmp_path / "other")
    policy, stamps = Acting(ros, play, tmp_path / "other"), []
    policy.begin()
    for number in range(5):
        stamps.append(policy.feed.instant())
        if number % 2 == 0:
            policy.probe.wait_for(lambda: policy.chunks and nanoseconds(policy.chunks[-1].header.stamp) == stamps[-1], "a chunk")
    policy.settle()
    assert [nanoseconds(chunk.header.stamp) for chunk in policy.chunks] == stamps[::2]
    assert {chunk.horizon for chunk in policy.chunks} == {config.prediction_horizon - 1}


def test_a_new_episode_starts_the_count_anew_and_older_observations_do_not_belong_to_it(policy):
    policy.begin()
    stamps = policy.observe(2)
    policy.feed.end()
    policy.feed.now_ns += 5 * EMBODIMENT.period_ns
    policy.begin()
    policy.feed.now_ns -= 3 * EMBODIMENT.period_ns
    for _ in range(3):
        policy.feed.instant()
    first = policy.feed.instant()
    policy.probe.wait_for(lambda: policy.chunks, "a chunk")
    assert first > stamps[-1]
    assert nanoseconds(policy.chunks[0].header.stamp) == first == policy.feed.start_ns
    assert len(policy.chunks) == 1


def test_an_observation_that_is_too_old_is_not_acted_on_and_the_next_fresh_one_is(policy):
    policy.begin()
    policy.feed.delay_ns = OLDEST_NS + EMBODIMENT.period_ns
    policy.settle()
    policy.feed.diagnostics.clear()
    for _ in range(T_A + 1):
        policy.feed.instant()
    policy.probe.wait_for(lambda: any("older than 0.35 s" in s.message for array in policy.feed.diagnostics for s in array.status), "the word on it")
    assert not policy.chunks
    policy.feed.delay_ns = 0
    policy.settle()
    fresh = policy.feed.instant()
    policy.probe.wait_for(lambda: policy.chunks, "a chunk")
    assert nanoseconds(policy.chunks[0].header.stamp) == fresh


def test_a_chunk_that_is_inpainted_begins_with_what_is_played_until_it_takes_effect(ros, play, checkpoint_folder):
    policy = Acting(ros, play, checkpoint_folder, latency_mode="inpainting")
    policy.begin_late(150_000_000)  # one and a half actions: two are over
    policy.observe(T_A + 1)
    first, second = (np.reshape(chunk.actions, (8, 4)) for chunk in policy.chunks)
    np.testing.assert_allclose(second[:2], first[T_A : T_A + 2], atol=1e-6)
    assert not np.allclose(second, first, atol=1e-3)


def test_an_arm_that_waits_plays_its_actions_from_when_they_are_there_and_the_next_chunk_sees_what_they_led_to(ros, play, checkpoint_folder):
    policy = Acting(ros, play, checkpoint_folder, latency_mode="waiting")
    policy.begin_late(150_000_000)
    first = policy.feed.instant()
    policy.probe.wait_for(lambda: policy.chunks, "a chunk")
    for _ in range(T_A + 1):
        policy.feed.instant()
    policy.settle()
    assert [(nanoseconds(chunk.header.stamp) - first, chunk.horizon) for chunk in policy.chunks] == [(150_000_000, T_A)]
    after = policy.feed.instant()
    policy.probe.wait_for(lambda: len(policy.chunks) == 2, "the next chunk")
    assert nanoseconds(policy.chunks[1].header.stamp) >= after


def test_an_arm_that_waits_does_not_play_a_chunk_of_what_was_seen_too_long_ago(ros, play, checkpoint_folder, tmp_path):
    patient = dataclasses.replace(EMBODIMENT, cameras={key: dataclasses.replace(camera, max_age=2.0) for key, camera in EMBODIMENT.cameras.items()})
    (tmp_path / "fr3.yaml").write_text(yaml.safe_dump(patient.to_dict()))
    dataclasses.replace(Checkpoint.load(checkpoint_folder), embodiment=patient).save(tmp_path / "policy")
    policy = Acting(ros, play, tmp_path / "policy", latency_mode="waiting", embodiment=tmp_path / "fr3.yaml")
    policy.begin_late(900_000_000)  # more than command_node's chunk_max_age
    for _ in range(3):
        policy.feed.instant()
    policy.settle()
    assert not policy.chunks
    policy.feed.delay_ns = 100_000_000
    policy.feed.instant()
    policy.probe.wait_for(lambda: policy.chunks, "a chunk of what is seen now")


def test_new_weights_act_from_the_next_chunk_on(policy):
    policy.begin()
    assert policy.next_version() == 0
    policy.teacher.publish(5)
    policy.settle()
    policy.probe.wait_for(lambda: policy.next_version() == 5, "version 5")
    policy.settle()
    status = policy.status[-1]
    assert (status.version, status.refused, status.reason) == (5, 0, "")
    assert status.swap_time > 0.0


def test_weights_that_come_between_two_episodes_act_at_once(policy):
    policy.feed.end()
    policy.teacher.publish(6)
    policy.probe.wait_for(lambda: policy.status[-1].version == 6, "version 6")


def test_every_second_episode_lets_the_critics_choose_once_there_are_any(policy):
    chosen = {}
    for _ in range(2):
        policy.begin()
        policy.observe(1)
        chosen[policy.feed.number % 2] = policy.chunks[-1].best_of_n
    assert chosen == {1: True, 0: False}


@pytest.mark.parametrize(
    ("version", "words", "send"),
    [
        (3, "version 3 refused: version 6 is in use", lambda teacher: teacher.publish(3)),
        (7, "not finite", lambda teacher: teacher.publish(7, teacher.tensors(float("nan")))),
        (8, "of architecture", lambda teacher: teacher.publish(8, signature="0123456789abcdef")),
        (9, "weights version 9", lambda teacher: teacher.publish(9, dict(list(teacher.tensors().items())[1:]))),
        (10, "weights version 10", lambda teacher: teacher.publish(10, {name: tensor[:1] for name, tensor in teacher.tensors().items()})),
        (11, "another encoder", lambda teacher: teacher.publish(11, encoder="f00")),
        (12, "version 12", lambda teacher: teacher.publish(12, teacher.tensors(1e30))),
    ],
    ids=["old", "not a number", "architecture", "a tensor is missing", "wrong shapes", "another encoder", "absurdly large"],
)
def test_weights_that_must_not_act_are_refused_with_the_reason_and_the_old_ones_go_on(policy, version, words, send):
    policy.begin()
    refused = policy.status[-1].refused
    send(policy.teacher)
    policy.probe.wait_for(lambda: policy.next_version() is not None and words in policy.status[-1].reason, f"the refusal of version {version}")
    assert policy.status[-1].refused == refused + 1
    assert policy.next_version() == 6
    assert np.isfinite(policy.chunks[-1].actions).all()


def test_after_refusals_good_weights_are_welcome(policy):
    policy.begin()
    policy.teacher.publish(20)
    policy.probe.wait_for(lambda: policy.next_version() == 20, "version 20")
    policy.settle()
    assert (policy.status[-1].version, policy.status[-1].reason) == (20, ""), "what was refused before is history"


def altered(folder, tmp_path, change):
    copy = tmp_path / "altered"
    shutil.copytree(folder, copy)
    manifest = json.loads((copy / "checkpoint.json").read_text())
    change(manifest)
    (copy / "checkpoint.json").write_text(json.dumps(manifest))
    return copy


@pytest.mark.parametrize("node", ["policy_node", "learner_node"])
def test_without_a_checkpoint_it_ends_with_one_line(ros, tmp_path, node):
    line = ros[0].refusal(node, checkpoint=tmp_path / "nowhere", directory=tmp_path / "learner")
    assert line.startswith(f"{node}: error: ")
    assert str(tmp_path / "nowhere") in line


def test_a_checkpoint_of_another_robot_is_refused_with_the_line_that_differs(ros, tmp_path, checkpoint_folder):
    folder = altered(checkpoint_folder, tmp_path, lambda manifest: manifest["embodiment"]["workspace"]["low"].__setitem__(2, 0.1))
    line = ros[0].refusal("policy_node", checkpoint=folder)
    assert "another embodiment" in line
    assert "workspace.low.2" in line


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"mode": "lucky"}, "alternate, gate, plain, best"),
        ({"action_horizon": -1}, "between 0 and 64"),
        ({"action_horizon": 9}, "predicts 8 actions"),
        ({"device": "abacus"}, "device abacus"),
        ({"latency_mode": "hoping"}, "waiting, overlapping, inpainting"),
        ({"precision": "bfloat16"}, "MlpDenoiser has no convolutions"),
    ],
    ids=["mode", "action horizon", "longer than a chunk", "device", "latency mode", "precision"],
)
def test_a_parameter_that_cannot_be_ends_it_with_one_line(ros, checkpoint_folder, parameters, words):
    assert words in ros[0].refusal("policy_node", checkpoint=checkpoint_folder, **parameters)
