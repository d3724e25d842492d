"""learner_node: episodes over the wire in, weights out, and nothing lost when it is killed."""

import hashlib
import json
import re
import resource
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save

from mechanic_rl_ros import msg
from mechanic_rl_ros.algorithms.filtered_iql import FilteredIql, FilteredIqlConfig
from mechanic_rl_ros.algorithms.guard import PATIENCE
from mechanic_rl_ros.algorithms.learner_state import checksum
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.payloads import PayloadSender
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.tensors import read_tensors
from mechanic_rl_ros.policy.weights import unpack_weights
from mechanic_rl_ros.replay.episode_file import encode_episode
from mechanic_rl_ros.replay.store import EpisodeStore
from mechanic_rl_ros.transfer import Chunk, Manifest

RECORDER = "/recorder_node"
QUICK = {"warmup_episodes": 2, "critic_updates": 5, "updates_per_episode": 5, "batch_size": 16, "replay_frames": 2000}


class School:
    """The learner, with the recorder and the policy that it talks to."""

    def __init__(self, ros, play, folder, checkpoint, publish_period=0.5, **learning):
        self.nodes, self.probe = ros
        self.play, self.folder, self.checkpoint, self.publish_period = play, folder, checkpoint, publish_period
        self.settings = folder / "learner.yaml"
        self.settings.write_text(yaml.safe_dump({"filtered_iql": QUICK | learning}))
        self.shelf = {}
        self.sender = PayloadSender(self.probe.node, "episodes", qos.EPISODES, self._chunk)
        self.policy = play["pupil"](self.probe, "weights", qos.STATE)
        self.announced = self.probe.hear(msg.Manifest, "weights/manifest", qos.STATE)
        self.status = self.probe.hear(msg.LearnerStatus, "learner_status", qos.STATE)
        self.requests = self.probe.hear(msg.ChunkRequest, "episodes/request", qos.CHUNKS)
        self.join()

    def join(self):
        self.status.clear()
        self.process = self.nodes.start(
            "learner_node",
            checkpoint=self.checkpoint,
            directory=self.folder / "learner",
            learner_file=self.settings,
            device="cpu",
            publish_period=self.publish_period,
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

    def await_status(self, condition, what):
        return self.probe.wait_for(lambda: condition(self.status[-1]) and self.status[-1], what)

    def exported(self):
        """Version of the checkpoint that it has left so far."""
        return Checkpoint.load(self.folder / "checkpoint").version if (self.folder / "checkpoint").exists() else -1

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
    assert set(status.networks) == {"actor", "critic", "value"}
    assert (status.scales_from, len(status.scales)) == (1, 3 * status.updates)
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


def test_the_tuned_policy_is_there_as_a_checkpoint_before_the_learner_ends_in_order(school):
    version = school.await_learned(4).version
    school.probe.wait_for(lambda: school.exported() == version, "the checkpoint of the newest version")
    assert Actor(Checkpoint.load(school.folder / "checkpoint")).version == version


def test_a_learner_that_was_killed_goes_on_with_all_episodes_and_no_lower_version(school):
    before = school.await_learned(4)
    school.process.kill()
    announced, asked = len(school.announced), len(school.requests)
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
    assert {request.id for request in school.requests[asked:]} == {"e5", "e6", "e7"}, "those that it has not stored"


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


def change_state(folder, change, **entries):
    """Writes other tensors and entries into a saved state, as if it had been saved like that."""
    tensors = read_tensors((folder / "learner.safetensors").read_bytes(), "state", ValueError)
    data = save({**tensors, **change(tensors)})
    (folder / "learner.safetensors").write_bytes(data)
    manifest = {**json.loads((folder / "learner.json").read_text()), **entries, "sha256": hashlib.sha256(data).hexdigest()}
    manifest["checksum"] = checksum({key: value for key, value in manifest.items() if key != "checksum"})
    (folder / "learner.json").write_text(json.dumps(manifest))


def flip_a_bit(state):
    path = state / "learner.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose_an_entry(state):
    path = state / "learner.json"
    manifest = json.loads(path.read_text())
    del manifest["gate"]
    path.write_text(json.dumps(manifest))


def test_a_state_that_was_saved_on_another_kind_of_device_is_gone_on_with(school):
    """A CUDA generator has a state of 16 bytes, which a generator of the CPU does not take."""
    before = school.exported()
    folder = school.folder / "learner" / "state"
    change_state(folder, lambda tensors: {"generator": torch.zeros(16, dtype=torch.uint8)}, generator_device="cuda")
    school.join()
    assert f"restored {before} updates" in school.process.output
    school.send("e14", success=True)
    assert school.await_learned(10).version > before
    assert not list(folder.parent.glob("state.damaged*"))


@pytest.mark.parametrize(("damage", "name"), [(flip_a_bit, "state.damaged"), (lose_an_entry, "state.damaged-2")], ids=["flipped bit", "lost entry"])
def test_a_damaged_state_is_set_aside_and_all_episodes_are_learned_from_again_under_higher_versions(school, damage, name):
    before, aside = school.status[-1], school.folder / "learner" / name
    school.process.stop()
    damage(school.folder / "learner" / "state")
    school.publish_period = 3.0  # the warning stays until a state is saved again: several statuses later
    school.join()
    school.await_status(lambda status: f"it is now {aside}, " in status.reason, "the reason")
    again = before.version + before.updates
    status = school.await_status(lambda status: status.version == again, f"version {again}")
    assert (status.updates, status.episodes, status.rows) == (before.updates, before.episodes, before.rows)
    school.await_weights(again)
    assert aside.is_dir()
    school.send(name)
    school.await_status(lambda status: (status.reason, status.version) == ("", again + 5), "the next episode, and no warning any more")


def test_a_state_of_another_base_checkpoint_ends_it_with_one_line(ros, tmp_path, checkpoint_folder):
    other = Checkpoint.load(checkpoint_folder)
    other.policy["frame_mean"] += 1.0
    FilteredIql.create(FilteredIqlConfig(), other).save(tmp_path / "learner" / "state")
    assert "another base checkpoint" in ros[0].refusal("learner_node", checkpoint=checkpoint_folder, directory=tmp_path / "learner", device="cpu")
    assert [path.name for path in (tmp_path / "learner").iterdir()] == ["state"]


def test_episodes_that_the_disk_does_not_take_are_learned_from_and_stored_when_it_does(ros, play, tmp_path, checkpoint_folder):
    folder = tmp_path / "learner" / "episodes"
    folder.parent.mkdir()
    folder.write_bytes(b"a file is no folder, so nothing can be written here")
    school = School(ros, play, tmp_path, checkpoint_folder)
    for id in ("e1", "e2", "e3"):
        school.send(id)
    status = school.await_learned(3)
    assert "3 episodes are not on disk (File exists): free space" in status.reason
    folder.unlink()
    status = school.await_status(lambda status: not status.reason, "an end of the warning")
    assert status.refused == 0
    assert len(EpisodeStore(folder)) == 3


def test_of_too_many_episodes_that_the_disk_does_not_take_the_oldest_must_be_sent_again(ros, play, tmp_path, checkpoint_folder):
    folder = tmp_path / "learner" / "episodes"
    folder.parent.mkdir()
    folder.write_bytes(b"")
    school = School(ros, play, tmp_path, checkpoint_folder, warmup_episodes=1000)
    ids = [f"e{index}" for index in range(66)]
    for id in ids:
        school.send(id, steps=1)
    status = school.await_status(lambda status: status.episodes == 66, "66 episodes")
    assert "64 episodes are not on disk" in status.reason
    folder.unlink()
    school.await_status(lambda status: not status.reason, "an end of the warning")
    assert {path.stem.split("_")[1] for path in EpisodeStore(folder).paths()} == set(ids[2:])
    school.send("e0", steps=1)
    school.probe.wait_for(lambda: len(EpisodeStore(folder)) == 65, "the one that was sent again")


def test_what_cannot_be_saved_is_not_published_until_it_can_be(ros, play, tmp_path, checkpoint_folder):
    obstacle = tmp_path / "learner" / "version"
    obstacle.mkdir(parents=True)
    school = School(ros, play, tmp_path, checkpoint_folder)
    for id in ("e1", "e2", "e3"):
        school.send(id)
    status = school.await_status(lambda status: status.updates == 10 and status.reason, "updates")
    assert "state not saved, so nothing is published" in status.reason
    assert status.version == 0
    assert not school.announced
    obstacle.rmdir()
    school.await_weights(10)
    school.await_status(lambda status: not status.reason, "an end of the warning")


def test_ruined_weights_are_withheld_and_the_reason_is_said_until_the_learner_goes_back(ros, play, tmp_path, checkpoint_folder):
    school = School(ros, play, tmp_path, checkpoint_folder, publish_period=3600.0)  # one version of each episode, when all is learned
    for id in ("e1", "e2", "e3"):
        school.send(id)
    before = school.await_learned(3).version
    school.await_weights(before)
    assert school.process.stop() == 0, school.process.output

    def ruined(tensors):
        torch.manual_seed(0)
        ours = [name for name in tensors if name.startswith("network/policy/head.") or re.fullmatch(r"tuner/actor/\d+/average", name)]
        return {name: 1e6 * torch.randn(tensors[name].shape) for name in ours}

    change_state(tmp_path / "learner" / "state", ruined)
    school.join()
    school.announced.clear()
    for number in range(1, PATIENCE):
        school.send(f"e{3 + number}")
        status = school.await_status(lambda status: status.withheld == number, f"version {number} that is withheld")  # noqa: B023
        assert status.reason.startswith(f"version {before + 5 * number} withheld: weights: tensor head.")
        assert (status.version, status.rollbacks) == (before, 0)
    assert {manifest.version for manifest in school.announced} <= {before}, "what acted is announced again by a learner that comes back"
    assert school.exported() == before
    school.send(f"e{3 + PATIENCE}")
    status = school.await_status(lambda status: status.rollbacks == 1, "going back")
    school.probe.wait_for(lambda: "went back to version 0" in school.process.output, "the reason")
    assert status.version > before + 5 * PATIENCE, "what its young critics have to learn again follows at once, as later versions"
    school.await_weights(status.version)
    assert "withheld: weights: tensor head." in school.process.output


def test_what_was_learned_since_the_last_save_is_saved_in_the_end(ros, play, tmp_path, checkpoint_folder):
    school = School(ros, play, tmp_path, checkpoint_folder, publish_period=3600.0, critic_updates=100_000)
    for id in ("e1", "e2"):
        school.send(id)
    before = school.await_status(lambda status: status.updates > 5, "updates")
    assert school.process.stop() == 0, school.process.output
    school.join()
    restored = re.search(r"restored (\d+) updates", school.process.output)
    assert restored
    assert int(restored[1]) >= before.updates


def test_a_folder_that_cannot_be_written_ends_it_with_one_line(ros, tmp_path, checkpoint_folder):
    (tmp_path / "file").touch()
    line = ros[0].refusal("learner_node", checkpoint=checkpoint_folder, directory=tmp_path / "file" / "learner")
    assert "cannot write to" in line
    assert "choose another run directory" in line


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


def test_damaged_frames_of_the_replay_are_encoded_anew_and_what_was_learned_stays(ros, play, tmp_path, checkpoint_folder):
    school = School(ros, play, tmp_path, checkpoint_folder)
    for id in ("e1", "e2", "e3"):
        school.send(id)
    before = school.await_learned(3)
    school.process.stop()
    path = tmp_path / "learner" / "replay" / "frames.bin"
    with open(path, "r+b") as file:
        file.write(b"\xff\xff\xff")
    school.join()
    assert "1 of 3 episodes in the replay" in school.process.output
    assert f"restored {before.version} updates" in school.process.output
    assert school.status[-1].rows == before.rows
    school.send("e4")
    assert school.await_learned(4).version == before.version + 5


def test_an_episode_that_does_not_fit_on_the_disk_is_learned_from_when_it_does(ros, play, tmp_path, checkpoint_folder):
    school = School(ros, play, tmp_path, checkpoint_folder)
    school.send("e1")
    school.await_status(lambda status: status.episodes == 1, "the first episode")
    _, hard = resource.prlimit(school.process.process.pid, resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))  # no file may grow beyond 10 bytes
    school.send("e2")
    school.await_status(lambda status: "episodes are not on disk" in status.reason, "the word on it")
    assert school.status[-1].episodes == 1
    resource.prlimit(school.process.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    status = school.await_status(lambda status: status.episodes == 2 and not status.reason, "an end of the warning")
    assert status.refused == 0


def test_what_was_recorded_and_does_not_fit_at_a_restart_is_learned_from_when_it_does(ros, play, tmp_path, checkpoint_folder):
    school = School(ros, play, tmp_path, checkpoint_folder)
    for id in ("e1", "e2", "e3"):
        school.send(id)
    school.await_learned(3)
    school.process.stop()
    shutil.rmtree(tmp_path / "learner" / "state")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # the node inherits it
    try:
        school.join()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    status = school.await_status(lambda status: "does not fit into the replay" in status.reason, "the word on it")
    assert status.episodes == 0
    resource.prlimit(school.process.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    status = school.await_status(lambda status: status.episodes == 3 and not status.reason, "all that was recorded")
    assert status.refused == 0
