"""learner_node: episodes over the wire in, weights out, and nothing lost when it is killed."""

import numpy as np
import pytest
import yaml

from mechanic_rl_ros import msg
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.payloads import PayloadSender
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.weights import unpack_weights
from mechanic_rl_ros.replay.episode_file import encode_episode
from mechanic_rl_ros.replay.store import EpisodeStore
from mechanic_rl_ros.transfer import Chunk, Manifest

RECORDER = "/recorder_node"
QUICK = {"filtered_iql": {"warmup_episodes": 2, "critic_updates": 5, "updates_per_episode": 5, "batch_size": 16, "replay_frames": 2000}}


class School:
    """The learner, with the recorder and the policy that it talks to."""

    def __init__(self, ros, play, folder, checkpoint):
        self.nodes, self.probe = ros
        self.play, self.folder, self.checkpoint = play, folder, checkpoint
        self.settings = folder / "learner.yaml"
        self.settings.write_text(yaml.safe_dump(QUICK))
        self.shelf = {}
        self.sender = PayloadSender(self.probe.node, "episodes", qos.EPISODES, self._chunk)
        self.policy = play["pupil"](self.probe, "weights", qos.STATE)
        self.announced = self.probe.hear(msg.Manifest, "weights/manifest", qos.STATE)
        self.status = self.probe.hear(msg.LearnerStatus, "learner_status", qos.STATE)
        self.join()

    def join(self):
        self.status.clear()
        self.process = self.nodes.start(
            "learner_node", checkpoint=self.checkpoint, directory=self.folder / "learner", learner_file=self.settings, device="cpu", publish_period=0.5
        )
        self.probe.wait_for(lambda: self.status, "the learner")

    def _chunk(self, key, index):
        manifest, payload = self.shelf[key]
        return Chunk.of(manifest, index, payload)

    def send(self, id, payload=None, **fields):
        payload = encode_episode(self.play["episode"](id, **fields)) if payload is None else payload
        manifest = Manifest.of(payload, kind="episode", id=id, version=0, source=RECORDER, chunk_size=128 * 1024)
        self.shelf[manifest.key] = manifest, payload
        self.sender.announce(manifest)

    def await_learned(self, episodes):
        """Waits until it has learned all that it can from so many episodes; its status then."""
        updates = 5 + 5 * (episodes - 2)

        def learned():
            return self.status[-1].episodes == episodes and self.status[-1].updates == self.status[-1].version == updates and self.status[-1]

        return self.probe.wait_for(learned, f"{updates} updates of {episodes} episodes")

    def await_weights(self, version):
        return self.probe.wait_for(lambda: next((c for c in self.policy.completed if c.manifest.version == version), None), f"weights version {version}")


@pytest.fixture(scope="module")
def school(shared_ros, play, tmp_path_factory, checkpoint_folder):
    return School(shared_ros, play, tmp_path_factory.mktemp("run"), checkpoint_folder)


def test_nothing_is_learned_before_enough_episodes_are_there(school):
    school.send("e1", success=True)
    school.probe.wait_for(lambda: school.status[-1].episodes == 1, "the first episode")
    assert (school.status[-1].updates, school.status[-1].version) == (0, 0)
    assert not school.policy.completed


def test_episodes_over_the_wire_become_weights_that_a_policy_accepts(school):
    school.send("e2", success=False)
    school.send("e3", success=True)
    status = school.await_learned(3)
    assert status.rows > 0
    assert np.isfinite([status.actor_loss, status.critic_loss, status.update_time, status.actor_scale]).all()
    completed = school.await_weights(10)
    actor = Actor(Checkpoint.load(school.checkpoint))
    actor.load(*(unpack_weights(completed.payload, actor.signature)[index] for index in (1, 0, 2)))
    assert actor.version == 10
    assert actor.has_critic


def test_an_episode_that_comes_twice_counts_once(school):
    school.send("e3", success=True)
    school.send("e4", success=True)
    school.await_learned(4)
    assert len(EpisodeStore(school.folder / "learner" / "episodes")) == 4


def test_an_episode_that_is_damaged_or_of_another_robot_is_refused_with_the_reason(school):
    whole = encode_episode(school.play["episode"]("e5"))
    school.send("e5", whole[: len(whole) // 2])
    status = school.probe.wait_for(lambda: school.status[-1].refused == 1 and school.status[-1], "the refusal")
    assert status.reason
    assert "\n" not in status.reason
    foreign = school.play["episode"]("e6")
    object.__setattr__(foreign.embodiment, "name", "fr4")
    try:
        payload = encode_episode(foreign)
    finally:
        object.__setattr__(foreign.embodiment, "name", "fr3")
    school.send("e6", payload)
    status = school.probe.wait_for(lambda: school.status[-1].refused == 2 and school.status[-1], "the refusal")
    assert "another embodiment" in status.reason
    assert status.episodes == 4


def test_a_learner_that_was_killed_goes_on_with_all_episodes_and_no_lower_version(school):
    before = school.await_learned(4)
    school.process.kill()
    announced = len(school.announced)
    broken = school.folder / "learner" / "episodes" / "000077_e77.mcap"
    broken.write_bytes(b"\x89MCAP0\r\n and then nothing")
    school.send("e7", success=True)
    school.join()
    status = school.await_learned(5)
    assert f"restored {before.version} updates" in school.process.output
    assert status.version > before.version
    school.await_weights(status.version)
    assert all(manifest.version >= before.version for manifest in school.announced[announced:])
    assert status.refused >= 1, "the damaged file, and what is announced again and still damaged"
    assert "000077_e77.mcap skipped" in school.process.output


def test_a_learner_that_is_killed_while_it_learns_loses_nothing(school):
    for index in range(10, 14):
        school.send(f"e{index}", success=index % 2 == 0)
    school.probe.wait_for(lambda: school.status[-1].episodes > 5, "learning")
    school.process.kill()
    school.join()
    school.await_weights(school.await_learned(9).version)
    contents = {(manifest.version, manifest.sha256) for manifest in school.announced}
    assert len(contents) == len({version for version, _ in contents}), "no version comes twice with other weights"
    versions = [manifest.version for manifest in school.announced]
    assert versions == sorted(versions)


def test_in_the_end_the_policy_is_left_as_a_checkpoint(school):
    version = school.await_learned(9).version
    assert school.process.stop() == 0, school.process.output
    checkpoint = Checkpoint.load(school.folder / "checkpoint")
    assert (checkpoint.version, checkpoint.task) == (version, "lift")
    assert checkpoint.critics is not None
    assert Actor(checkpoint).version == version


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("filtered_iql: {batch_size: 1}", ["batch_size is 1", "between 4 and 65536"]),
        ("filtered_iql: {luck: 1}", ["luck", "batch_size"]),
        ("[", ["not valid YAML"]),
    ],
    ids=["out of range", "unknown", "no YAML"],
)
def test_settings_that_cannot_be_end_it_with_one_line(ros, tmp_path, checkpoint_folder, settings, words):
    file = tmp_path / "learner.yaml"
    file.write_text(settings)
    line = ros[0].refusal("learner_node", checkpoint=checkpoint_folder, learner_file=file, directory=tmp_path / "learner")
    for word in words:
        assert word in line
