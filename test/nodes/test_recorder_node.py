"""recorder_node: what was seen and done becomes a file, and the file is served."""

import math
import resource

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import Outcome, Source
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import stamp
from mechanic_rl_ros.nodes.convert import request_to_message
from mechanic_rl_ros.nodes.recorder_node import UNWRITTEN
from mechanic_rl_ros.replay.episode_file import decode_episode
from mechanic_rl_ros.replay.store import EpisodeStore

EMBODIMENT = load_embodiment()
STEPS = 6


class Practice:
    """Everything that a recorder hears of an episode."""

    def __init__(self, ros, play, folder):
        self.nodes, self.probe = ros
        self.play, self.folder = play, folder
        self.feed, self.pupil = play["feed"](self.probe), play["pupil"](self.probe, "episodes", qos.EPISODES)
        self.records = self.probe.hear(msg.EpisodeRecord, "episode_record", qos.EPISODE)
        publish = self.probe.node.create_publisher
        self.executed, self.rewards = publish(msg.ExecutedAction, "executed_action", qos.COMMAND), publish(msg.Reward, "reward", qos.COMMAND)
        self.plans = publish(msg.ActionChunk, "action_chunk", qos.COMMAND)
        self.requests, self.chunks = publish(msg.ChunkRequest, "episodes/request", qos.CHUNKS), self.probe.hear(msg.Chunk, "episodes/chunk", qos.CHUNKS)
        self.join()

    def join(self):
        self.process = self.nodes.start("recorder_node", directory=self.folder, use_sim_time=True)
        self.feed.join()
        self.probe.wait_for(lambda: all(each.get_subscription_count() for each in (self.executed, self.rewards, self.plans)), "the recorder")

    def act(self, at_ns, index):
        message = msg.ExecutedAction(episode_id=self.feed.id, action=[0.1 * index, 0.0, -0.5, 1.0], policy_version=index // 2, source=int(Source.POLICY))
        message.header.stamp, message.best_of_n = stamp(at_ns), True
        self.executed.publish(message)

    def plan(self, at_ns, trace):
        message = msg.ActionChunk(episode_id=self.feed.id, trace=trace)
        message.header.stamp = stamp(at_ns)
        self.plans.publish(message)

    def reward(self, at_ns, value):
        message = msg.Reward(episode_id=self.feed.id, reward=value)
        message.header.stamp = stamp(at_ns)
        self.rewards.publish(message)

    def episode(self, id, outcome="success", steps=STEPS, lost=0, meanwhile=lambda step: None):
        """Plays an episode, a step every 0.1 s, of which the last ``lost`` are neither seen nor done; the first number of its pictures."""
        self.feed.begin(id)
        first, done = self.feed.index + 1, []

        def step():
            at_ns = self.feed.instant()
            if len(done) < steps:
                self.act(at_ns, len(done))
                self.plan(at_ns, [0.5, float(len(done))] if len(done) % 4 == 0 else [])
                meanwhile(len(done))
            if done:
                self.reward(at_ns, float(len(done) == steps))
            done.append(at_ns)
            if len(done) > steps:
                timer.cancel()

        timer = self.probe.every(0.1, step)
        self.probe.wait_for(lambda: len(done) > steps, "the episode")
        self.feed.now_ns += lost * EMBODIMENT.period_ns
        self.feed.end(outcome)
        return first

    def record(self, id):
        """What the recorder says of an episode."""
        return self.probe.wait_for(lambda: next((record for record in self.records if record.id == id), None), f"the record of {id}")

    def told(self, level, words):
        return any(status.level == level and words in status.message for array in self.feed.diagnostics for status in array.status)

    def fence(self):
        """Waits until the recorder has handled what was sent before: it serves a chunk only after that."""
        self.chunks.clear()
        self.requests.publish(request_to_message(self.pupil.completed[-1].manifest, [0]))
        self.probe.wait_for(lambda: self.chunks, "a chunk")

    def received(self, id):
        return next((completed.payload for completed in self.pupil.completed if completed.manifest.id.endswith(id)), None)


@pytest.fixture(scope="module")
def practice(shared_ros, play, tmp_path_factory):
    return Practice(shared_ros, play, tmp_path_factory.mktemp("run") / "episodes")


def test_a_recorded_episode_holds_exactly_what_was_sent(practice):
    first = practice.episode("lift_a")
    payload = practice.probe.wait_for(lambda: practice.received("lift_a"), "the episode")
    episode = decode_episode(payload, EMBODIMENT)
    for key in EMBODIMENT.cameras:
        sent = np.stack([practice.play["pictures"](first + index)[key] for index in range(STEPS + 1)])
        assert np.array_equal(episode.images[key], sent), "byte by byte"
    assert episode.stamps_ns.tolist() == [practice.feed.start_ns + index * EMBODIMENT.period_ns for index in range(STEPS + 1)]
    assert episode.actions[:, 0] == pytest.approx([0.1 * index for index in range(STEPS)])
    assert episode.policy_versions.tolist() == [0, 0, 1, 1, 2, 2]
    assert episode.rewards.tolist() == [0, 0, 0, 0, 0, 1]
    assert set(episode.sources) == {Source.POLICY}
    assert episode.traces[[0, 4]].tolist() == [[0.5, 0.0], [0.5, 4.0]]
    assert np.isnan(episode.traces[[1, 2, 3, 5]]).all()
    assert episode.states[:, 3] == pytest.approx([0.03] * (STEPS + 1))
    assert (episode.outcome, episode.seed, episode.best_of_n, episode.task) == (Outcome.SUCCESS, 7, True, "lift")
    assert practice.record("lift_a").kept


def test_what_is_served_is_the_file(practice):
    (path,) = EpisodeStore(practice.folder).paths()
    assert path.read_bytes() == practice.received("lift_a")


def test_an_aborted_episode_is_not_kept(practice):
    practice.episode("lift_b", outcome="aborted")
    practice.episode("lift_c", outcome="timeout")
    practice.probe.wait_for(lambda: practice.received("lift_c"), "the next episode")
    assert [path.stem for path in EpisodeStore(practice.folder).paths()] == ["000000_lift_a", "000001_lift_c"]
    assert "lift_b discarded" in practice.process.output
    record = practice.record("lift_b")
    assert (record.kept, record.reason) == (False, "aborted")


def test_foreign_and_malformed_actions_are_not_recorded(practice):
    def disturb(count):
        for message in (
            msg.ExecutedAction(episode_id="yesterday", action=[0.9] * 4),
            msg.ExecutedAction(episode_id="lift_d", action=[0.9] * 3),
            msg.ExecutedAction(episode_id="lift_d", action=[float("nan")] * 4),
            msg.ExecutedAction(episode_id="lift_d", action=[0.9] * 4, source=77),
        ):
            message.header.stamp = stamp(practice.feed.start_ns + count * EMBODIMENT.period_ns)
            practice.executed.publish(message)

    practice.episode("lift_d", meanwhile=disturb)
    episode = decode_episode(practice.probe.wait_for(lambda: practice.received("lift_d"), "the episode"), EMBODIMENT)
    assert episode.actions[:, 0] == pytest.approx([0.1 * index for index in range(STEPS)])


def test_what_a_restarted_command_node_says_of_the_time_before_it_does_not_replace_what_is_known(practice):
    def disturb(count):
        message = msg.ExecutedAction(episode_id="lift_f", action=[0.0] * 4, source=int(Source.HOLD))
        message.header.stamp = stamp(practice.feed.start_ns)
        practice.executed.publish(message)

    practice.episode("lift_f", meanwhile=disturb)
    episode = decode_episode(practice.probe.wait_for(lambda: practice.received("lift_f"), "the episode"), EMBODIMENT)
    assert set(episode.sources) == {Source.POLICY}


@pytest.mark.parametrize(
    ("id", "spoil", "words"),
    [
        ("lift_g", lambda practice, index: practice.act(practice.feed.start_ns + (index + 1) * EMBODIMENT.period_ns, 15), "must be normalised"),
        ("lift_h", lambda practice, index: practice.reward(practice.feed.start_ns + max(1, index - 1) * EMBODIMENT.period_ns, math.nan), "reward nan refused"),
        ("lift_i", lambda practice, index: setattr(practice.feed, "finger", math.nan if index == 2 else 0.03), "no finite position of fr3_finger_joint1"),
    ],
    ids=["action", "reward", "joint state"],
)
def test_what_must_not_be_recorded_is_refused_with_the_reason_and_the_episode_is_kept(practice, id, spoil, words):
    practice.feed.diagnostics.clear()
    practice.episode(id, meanwhile=lambda index: spoil(practice, index))
    episode = decode_episode(practice.probe.wait_for(lambda: practice.received(id), "the episode"), EMBODIMENT)
    assert episode.rewards.tolist() == [0, 0, 0, 0, 0, 1]
    assert episode.actions[:, 0] == pytest.approx([0.1 * index for index in range(STEPS)])
    practice.probe.wait_for(lambda: practice.told(DiagnosticStatus.WARN, words), "the word on it")


def test_an_episode_that_is_malformed_all_the_same_is_discarded_with_the_reason_and_recording_goes_on(practice):
    practice.feed.finger = 1e39  # finite, until it becomes a number of 32 bits
    practice.episode("lift_j")
    record = practice.record("lift_j")
    assert not record.kept
    assert "states are not all finite" in record.reason
    practice.feed.finger = 0.03
    practice.episode("lift_k")
    assert practice.record("lift_k").kept


def test_a_recorder_that_was_killed_announces_its_episodes_again(practice):
    practice.process.kill()
    late = practice.play["pupil"](practice.probe, "episodes", qos.EPISODES)
    practice.join()
    practice.probe.wait_for(lambda: len(late.completed) == len(EpisodeStore(practice.folder)), "all episodes")
    assert [completed.payload for completed in late.completed] == [path.read_bytes() for path in EpisodeStore(practice.folder).paths()]


def test_an_episode_of_which_most_was_lost_is_discarded_with_the_reason(practice):
    practice.episode("lift_e", "timeout", lost=20)
    assert "frames and actions are missing" in practice.record("lift_e").reason
    assert EpisodeStore(practice.folder).path("lift_e") is None


def test_an_episode_that_waits_for_its_last_frames_is_written_when_the_process_is_stopped(ros, play, tmp_path):
    practice = Practice(ros, play, tmp_path / "episodes")
    practice.episode("lift_first")
    practice.probe.wait_for(lambda: practice.received("lift_first"), "an episode")
    practice.episode("lift_last", steps=11, lost=1)
    practice.fence()
    assert practice.process.stop() == 0, practice.process.output
    assert EpisodeStore(practice.folder).path("lift_last") is not None


def test_a_recorder_that_was_not_there_when_an_episode_ended_says_whether_it_was_kept(ros, play, tmp_path):
    practice = Practice(ros, play, tmp_path / "episodes")
    for id in ("lift_kept", "lift_lost"):
        practice.episode(id, steps=11, lost=1)
        if id == "lift_kept":
            practice.record(id)
        practice.process.kill()
        practice.join()
    record = practice.record("lift_lost")
    assert (record.kept, record.reason) == (False, "the recorder was not there when it ended")
    assert [record.kept for record in practice.records if record.id == "lift_kept"] == [True]


def test_damaged_files_of_an_earlier_life_are_named_and_not_announced(ros, play, tmp_path):
    store = EpisodeStore(tmp_path / "episodes")
    damaged, _ = (store.add(play["episode"](id, steps=2)) for id in ("a", "b"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    practice = Practice(ros, play, store.folder)
    practice.probe.wait_for(lambda: practice.received("b"), "the whole one")
    assert practice.pupil.inbox.counters["completed"] == 1
    assert practice.process.output.count(damaged.name) == 1


def test_while_the_disk_is_full_episodes_are_kept_and_written_as_soon_as_there_is_room(ros, play, tmp_path):
    practice = Practice(ros, play, tmp_path / "episodes")
    diagnostics = practice.feed.diagnostics
    pid, unlimited = practice.process.process.pid, resource.RLIM_INFINITY
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, unlimited))  # no file may grow beyond 1000 bytes

    names = [f"lift_{number}" for number in range(UNWRITTEN)]
    for name in names:
        diagnostics.clear()
        practice.episode(name, steps=2)
        full = name == names[-1]
        practice.probe.wait_for(
            lambda full=full: practice.told(DiagnosticStatus.ERROR if full else DiagnosticStatus.WARN, "free space in"), f"the word on {name}"
        )
    assert not list(practice.folder.glob("*")), "nothing half-written is left"
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    practice.probe.wait_for(lambda: practice.received(names[-1]), "the last episode")
    assert [path.stem for path in EpisodeStore(practice.folder).paths()] == [f"{index:06d}_{name}" for index, name in enumerate(names)]
    diagnostics.clear()
    practice.probe.wait_for(lambda: practice.told(DiagnosticStatus.OK, f"{UNWRITTEN} episodes written"), "the all-clear")


def test_a_folder_that_cannot_be_written_ends_it_with_one_line(ros, tmp_path):
    (tmp_path / "file").touch()
    line = ros[0].refusal("recorder_node", directory=tmp_path / "file" / "episodes")
    assert "cannot write to" in line
    assert "choose another run directory" in line
