"""monitor_node: the record of a run."""

import resource
from typing import get_args, get_origin, get_type_hints

import pytest
from rosgraph_msgs.msg import Clock

from mechanic_rl_ros import msg
from mechanic_rl_ros.metrics import FILE, KINDS, read_metrics
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import stamp

State = msg.EpisodeState


class Record:
    """The monitor, and the nodes that it listens to."""

    def __init__(self, ros, folder):
        nodes, self.probe = ros
        self.file = folder / FILE
        self.process = nodes.start("monitor_node", directory=folder, task="push", seed=3, checkpoint="some/where", use_sim_time=True)
        speak = self.probe.speaker
        self.episodes, self.chunks = speak(State, "episode", qos.STATE), speak(msg.ActionChunk, "action_chunk", qos.COMMAND)
        self.learner, self.policy = speak(msg.LearnerStatus, "learner_status", qos.STATE), speak(msg.PolicyStatus, "policy_status", qos.STATE)
        self.command, self.clock = speak(msg.CommandStatus, "command_status", qos.STATE), speak(Clock, "/clock", qos.COMMAND)

    def of(self, kind):
        return [record for record in read_metrics(self.file) if record["kind"] == kind]

    def after(self, publisher, message, kind):
        """The record that a message gives."""
        count = len(self.of(kind))
        publisher.publish(message)
        self.probe.wait_for(lambda: len(self.of(kind)) > count, f"a record of kind {kind}")
        return self.of(kind)[-1]

    def tell(self, number, state, seconds, **fields):
        message = State(id=f"e{number}", number=number, state=state, **fields)
        message.header.stamp = stamp(round(seconds * 1e9))
        return message


@pytest.fixture(scope="module")
def record(shared_ros, tmp_path_factory):
    return Record(shared_ros, tmp_path_factory.mktemp("run"))


def test_a_run_begins_with_what_it_is(record):
    (run,) = record.of("run")
    assert (run["task"], run["seed"], run["checkpoint"]) == ("push", 3, "some/where")


def test_every_episode_is_written_once_with_its_length_and_who_acted(record):
    record.episodes.publish(record.tell(1, State.RUNNING, 10.0))
    record.chunks.publish(msg.ActionChunk(episode_id="e1", policy_version=4, best_of_n=True))
    # Statuses come after chunks and states on topics of their own: what was sent before is known to be heard once its record is there.
    record.after(record.learner, msg.LearnerStatus(version=4), "learner")
    ended = record.tell(1, State.ENDED, 12.5, outcome="success", return_value=1.0)
    written = record.after(record.episodes, ended, "episode")
    assert (written["number"], written["outcome"], written["steps"], written["return"]) == (1, "success", 25, 1.0)
    assert (written["policy_version"], written["best_of_n"], written["success_20"], written["stamp"]) == (4, True, 1.0, 12.5)
    record.episodes.publish(ended)
    written = record.after(record.episodes, record.tell(2, State.ENDED, 20.0, outcome="timeout"), "episode")
    assert (written["number"], written["success_20"]) == (2, 0.5)
    assert [episode["number"] for episode in record.of("episode")] == [1, 2]


def test_an_aborted_episode_does_not_count_as_a_failure_of_the_policy(record):
    before = record.of("episode")[-1]["success_20"]
    written = record.after(record.episodes, record.tell(3, State.ENDED, 30.0, outcome="aborted"), "episode")
    assert (written["outcome"], written["success_20"]) == ("aborted", before)


def test_an_episode_that_ends_after_the_clock_was_set_back_has_no_negative_length(record):
    record.episodes.publish(record.tell(4, State.RUNNING, 40.0))
    assert record.after(record.episodes, record.tell(4, State.ENDED, 2.0, outcome="aborted"), "episode")["steps"] == 0


def test_states_that_change_quickly_are_all_heard(record):
    before = len(record.of("episode"))
    for number in range(50, 55):
        record.episodes.publish(record.tell(number, State.ENDED, 50.0, outcome="timeout"))
    record.probe.wait_for(lambda: len(record.of("episode")) == before + 5, "five episodes")


def test_what_the_learner_says_is_written(record):
    written = record.after(
        record.learner,
        msg.LearnerStatus(version=9, updates=8, episodes=7, rows=6, actor_scale=0.5, skipped_gradients=3, withheld=2, rollbacks=1, update_time=0.004),
        "learner",
    )
    assert [written[key] for key in ("version", "updates", "episodes", "rows", "actor_scale", "skipped_gradients", "withheld", "rollbacks")] == [
        9,
        8,
        7,
        6,
        0.5,
        3,
        2,
        1,
    ]
    assert written["update_ms"] == pytest.approx(4.0)


def test_the_scale_of_every_update_is_written_once(record):
    def told(first, *rows):
        flat = [number for row in rows for number in row]
        return msg.LearnerStatus(updates=first + len(rows) - 1, networks=["actor", "critic"], scales_from=first, scales=flat)

    written = record.after(record.learner, told(11, (1.0, 0.5), (0.9, 0.4)), "scales")
    assert (written["updates"], written["scales"]) == (12, {"actor": [1.0, 0.9], "critic": [0.5, 0.4]})
    record.learner.publish(told(11, (1.0, 0.5), (0.9, 0.4)))
    written = record.after(record.learner, told(12, (0.9, 0.4), (0.8, 0.3)), "scales")
    assert (written["updates"], written["scales"]) == (13, {"actor": [0.8], "critic": [0.3]})
    assert [line["updates"] for line in record.of("scales")] == [12, 13]


def test_a_scale_that_is_no_number_does_not_end_the_record(record):
    written = record.after(record.learner, msg.LearnerStatus(updates=14, networks=["actor"], scales_from=14, scales=[float("nan")]), "scales")
    assert written["scales"] == {"actor": [None]}
    record.learner.publish(msg.LearnerStatus(updates=15, networks=["actor", "critic"], scales_from=15, scales=[1.0]))  # not a whole row
    assert record.after(record.learner, msg.LearnerStatus(updates=16, networks=["actor"], scales_from=16, scales=[0.6]), "scales")["updates"] == 16


def test_a_learner_that_begins_anew_is_heard_anew(record):
    record.learner.publish(msg.LearnerStatus(updates=0, networks=["actor"], scales_from=1))
    written = record.after(record.learner, msg.LearnerStatus(updates=1, networks=["actor"], scales_from=1, scales=[0.7]), "scales")
    assert (written["updates"], written["scales"]) == (1, {"actor": [0.7]})


def test_what_the_policy_says_is_written(record):
    written = record.after(record.policy, msg.PolicyStatus(version=9, inference_time=0.005, swap_time=0.1, refused=2), "policy")
    assert (written["version"], written["refused"]) == (9, 2)
    assert [written["inference_ms"], written["swap_ms"]] == pytest.approx([5.0, 100.0])


def test_what_the_command_node_says_is_written_unless_its_clock_stood_still(record):
    record.command.publish(msg.CommandStatus(period=0.02))
    status = msg.CommandStatus(
        period=0.02, period_count=100, period_p99=0.021, latencies=[0.05, 0.07], late_actions=3, limited=["workspace"], limited_count=[2]
    )
    written = record.after(record.command, status, "command")
    assert (written["period_count"], written["late_actions"], written["limited"]) == (100, 3, {"workspace": 2})
    assert [written["period_ms"], written["period_p99_ms"]] == pytest.approx([20.0, 21.0])
    assert 50.0 <= written["latency_p50_ms"] <= written["latency_p99_ms"] <= 70.0 + 1e-3
    assert len(record.of("command")) == 1


def test_the_speed_of_the_simulation_is_measured(record):
    shown = iter(range(10**9, 10**13, 2 * 10**8))
    timer = record.probe.every(0.1, lambda: record.clock.publish(Clock(clock=stamp(next(shown)))))
    record.probe.wait_for(lambda: record.of("sim"), "a measurement")
    record.probe.node.destroy_timer(timer)
    assert 0.1 < record.of("sim")[0]["real_time_factor"] < 4.0, "twice real time was played; a busy machine gives less"


def test_why_practice_waits_is_written_when_it_changes_and_when_it_goes_on(record):
    """The heartbeat of the episode node and the clock are played by the test."""
    seconds = iter(range(10_000, 10_000_000))
    state = record.tell(90, State.RUNNING, 1.0)
    ticking = True

    def beat():
        record.episodes.publish(state)
        if ticking:
            record.clock.publish(Clock(clock=stamp(next(seconds) * 10**8)))

    def await_reason(words):
        record.probe.wait_for(lambda: record.of("waiting") and words in record.of("waiting")[-1]["reason"], f"the reason {words!r}")

    def await_none():
        record.probe.wait_for(lambda: record.of("waiting")[-1]["reason"] == "", "no reason any more")

    await_reason("nothing heard")
    timer = record.probe.every(0.1, beat)
    await_none()
    state = record.tell(90, State.WAITING, 1.0, reason="waiting for recorder_node (7 episodes: free space)")
    await_reason("7 episodes")
    count = len(record.of("waiting"))
    state = record.tell(90, State.WAITING, 1.0, reason="waiting for recorder_node (8 episodes: free space)")
    looks = len(record.of("sim"))
    record.probe.wait_for(lambda: len(record.of("sim")) >= looks + 2, "two more looks")
    assert len(record.of("waiting")) == count, "only a count has changed"
    state = record.tell(91, State.RESETTING, 2.0)
    looks = len(record.of("sim"))
    record.probe.wait_for(lambda: len(record.of("sim")) >= looks + 2, "two more looks")
    assert len(record.of("waiting")) == count, "a reset may fail like the one before it"
    state = record.tell(91, State.RUNNING, 3.0)
    await_none()
    ticking = False
    await_reason("/clock stands still")
    record.probe.node.destroy_timer(timer)
    await_reason("episode_node (nothing heard from it)")


def test_a_folder_that_cannot_be_written_ends_it_with_one_line(ros, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot write to" in ros[0].refusal("monitor_node", directory=tmp_path / "file" / "run")


def test_every_record_has_the_declared_fields_with_values_of_the_declared_types(record):
    written = {kind: record.of(kind)[-1] for kind in KINDS if kind != "evaluation"}  # that one is not the monitor's
    for kind, fields in written.items():
        declared = get_type_hints(KINDS[kind])
        assert fields.keys() == declared.keys()
        assert [name for name, value in fields.items() if not _is_a(value, declared[name])] == []


def _is_a(value, declared):
    if get_origin(declared) is dict:
        return all(_is_a(item, get_args(declared)[1]) for item in value.values())
    if get_origin(declared) is list:
        return all(_is_a(item, get_args(declared)[0]) for item in value)
    return isinstance(value, (int, float) if declared is float else declared)


def test_without_room_for_tensorboard_the_record_goes_on(ros, tmp_path):
    (tmp_path / "tensorboard").touch()
    record = Record(ros, tmp_path)
    assert record.after(record.learner, msg.LearnerStatus(version=1), "learner")["version"] == 1
    record.probe.wait_for(lambda: "cannot write the record of the run" in record.process.output, "a warning")
    assert record.process.stop() == 0


def test_a_disk_that_is_full_at_the_end_is_no_crash(ros, tmp_path):
    """The size limit of files stands in for the end of the disk: the events, which are larger than the record, reach it first."""
    record = Record(ros, tmp_path)

    def events():
        return sum(path.stat().st_size for path in (tmp_path / "tensorboard").iterdir())

    version = 0
    while version == 0 or events() < record.file.stat().st_size + 500:
        version += 1
        record.after(record.learner, msg.LearnerStatus(version=version), "learner")
    resource.prlimit(record.process.pid, resource.RLIMIT_FSIZE, (events(), resource.RLIM_INFINITY))
    record.after(record.learner, msg.LearnerStatus(version=version + 1), "learner")
    record.probe.wait_for(lambda: "cannot write the record of the run" in record.process.output, "a warning")
    assert record.process.stop() == 0, record.process.output
    assert "Traceback" not in record.process.output
