"""The whole graph, as `mechanic-rl finetune` runs it, and what happens when its processes are killed one after the other."""

import os
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import yaml
from sensor_msgs.msg import JointState

from mechanic_rl_ros import msg
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import describe
from mechanic_rl_ros.graph_settings import GraphSettings
from mechanic_rl_ros.metrics import FILE, read_metrics
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds
from mechanic_rl_ros.paths import config_directory
from mechanic_rl_ros.replay.store import EpisodeStore
from mechanic_rl_ros.supervise import Supervisor

EMBODIMENT = load_embodiment()
State = msg.EpisodeState
LEARNING = {"filtered_iql": {"warmup_episodes": 2, "critic_updates": 5, "updates_per_episode": 5, "batch_size": 16}}
STEP_LIMIT = 15
MOVING, RESTING = 0.1, 0.05  # rad/s of the fastest joint; a simulated arm is never as still as its commands
LATE_S = 0.5  # of simulated time, by which a busy machine may delay messages
STOP_S = 0.8 + 0.2 + LATE_S  # a chunk lasts 0.8 s, a stop takes 0.2 s
BOUND_S = 120.0


class Graph:
    """The graph under its supervisor, in a folder and a domain of its own."""

    def __init__(self, ros, folder, checkpoint, **changes):
        nodes, self.probe = ros
        self.folder = folder
        (folder / "learner.yaml").write_text(yaml.safe_dump(LEARNING))
        parameters = yaml.safe_load((config_directory() / "nodes.yaml").read_text())
        changes = {"learner_node": {"learner_file": str(folder / "learner.yaml"), "publish_period": 0.5}, "episode_node": {"step_limit": STEP_LIMIT}, **changes}
        for name, values in changes.items():
            parameters.setdefault(f"/**/{name}", {"ros__parameters": {}})["ros__parameters"].update(values)
        (folder / "nodes.yaml").write_text(yaml.safe_dump(parameters))
        self.settings = GraphSettings(
            run_directory=str(folder), checkpoint=str(checkpoint), episodes=0, real_time_factor=2.0, parameter_file=str(folder / "nodes.yaml")
        )
        environment = {key: nodes.environment[key] for key in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "OMP_NUM_THREADS")}
        self.supervisor = Supervisor(describe(self.settings), self.settings, folder, environment)
        self.store = EpisodeStore(folder / "episodes", EMBODIMENT)

    def listen(self):
        hear = self.probe.hear
        self.states, self.chunks = hear(State, "episode", qos.STATE), hear(msg.ActionChunk, "action_chunk", qos.COMMAND)
        self.policy, self.learner = hear(msg.PolicyStatus, "policy_status", qos.STATE), hear(msg.LearnerStatus, "learner_status", qos.STATE)
        self.joints = hear(JointState, EMBODIMENT.joints.topic, qos.SENSOR)
        return self

    def await_(self, condition, what):
        try:
            return self.probe.wait_for(condition, what, BOUND_S)
        except pytest.fail.Exception as failure:
            logs = "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(self.supervisor.logs.glob("*_node.log")))
            pytest.fail(f"{failure.msg}{logs}")

    def kill(self, name):
        """As a crash would; the supervisor starts it again."""
        pid = self.supervisor.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def await_restart(self, name, old):
        self.await_(lambda: self.supervisor.pid(name) not in (None, old), f"another life of {name}")

    @contextmanager
    def halted(self, name):
        """A process that exists and does nothing."""
        pid = self.supervisor.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def await_moving_episode(self):
        """Waits for a running episode in which the arm moves."""
        self.await_(lambda: self.states and self.states[-1].state == State.RUNNING and self.joints and self.speed() > MOVING, "motion")

    def await_ended(self, number, *outcomes):
        """Waits for the end of an episode from ``number`` on with one of the outcomes."""

        def ended():
            return next((s for s in self.states if s.state == State.ENDED and s.number >= number and s.outcome in outcomes), None)

        return self.await_(ended, f"an end ({', '.join(outcomes)}) of episode {number} or a later one")

    def speed(self, state=None):
        return float(np.abs((state or self.joints[-1]).velocity[:7]).max())

    def now_ns(self):
        return nanoseconds(self.joints[-1].header.stamp)


@pytest.fixture(scope="module")
def graph(shared_ros, tmp_path_factory, checkpoint_folder):
    graph = Graph(shared_ros, tmp_path_factory.mktemp("run"), checkpoint_folder).listen()
    with graph.supervisor:
        yield graph


def test_episodes_are_recorded_and_what_is_learned_from_them_acts(graph):
    graph.await_(lambda: len(graph.store) >= 3, "three recorded episodes")
    status = graph.await_(lambda: graph.learner and graph.learner[-1].version > 0 and graph.learner[-1], "updates")
    assert status.episodes >= 2
    graph.await_(lambda: graph.policy[-1].version > 0, "new weights")
    graph.await_(lambda: graph.chunks[-1].policy_version > 0, "an action of the new weights")
    assert graph.policy[-1].refused == 0
    assert graph.await_ended(1, "timeout", "success").number == 1
    for episode in graph.store.load():
        assert 1 <= episode.steps <= STEP_LIMIT
        assert np.abs(episode.actions[:, :3]).max() > 0.0
    assert not graph.store.corrupt


def test_when_the_learner_is_killed_practice_goes_on_and_the_learner_too(graph):
    graph.await_moving_episode()
    running, before = graph.states[-1], graph.learner[-1]
    acting = graph.policy[-1].version
    graph.learner.clear()
    pid = graph.kill("learner_node")
    assert graph.await_ended(running.number, "timeout", "success", "aborted").outcome != "aborted", "the running episode does not notice"
    graph.await_(lambda: graph.chunks[-1].policy_version >= acting, "an action of the weights that acted")
    graph.await_restart("learner_node", pid)
    status = graph.await_(lambda: graph.learner and graph.learner[-1], "the learner")
    assert status.episodes >= before.episodes, "no episode is lost"
    assert status.version >= before.version
    graph.await_(lambda: graph.policy[-1].version > max(acting, before.version), "weights that were learned after the crash")
    assert graph.policy[-1].refused == 0


def test_when_the_policy_is_killed_the_arm_stops_until_the_policy_is_back(graph):
    graph.await_moving_episode()
    pid = graph.kill("policy_node")
    since_ns, number = graph.now_ns(), graph.states[-1].number
    graph.joints.clear()
    graph.await_restart("policy_node", pid)
    with graph.halted("policy_node"):  # a new process cannot act yet; what acted first could only be known from messages, and the first ones go unheard
        graph.await_(lambda: graph.joints and graph.now_ns() > since_ns + (STOP_S + LATE_S) * 1e9, "simulated time")
        still = [state for state in graph.joints if nanoseconds(state.header.stamp) > since_ns + STOP_S * 1e9]
    assert max(map(graph.speed, still)) < RESTING, f"since {since_ns}: {graph.states[-3:]}"
    graph.await_ended(number + 1, "timeout", "success")
    graph.await_(lambda: graph.policy[-1].version > 0, "the newest weights, which are announced to whoever joins late")


def test_when_the_command_node_is_killed_the_arm_stops_and_moves_again(graph):
    graph.await_moving_episode()
    pid = graph.kill("command_node")
    since_ns = graph.now_ns()
    graph.joints.clear()
    graph.await_restart("command_node", pid)
    graph.await_(lambda: graph.joints and graph.now_ns() > since_ns + 0.5e9, "simulated time")
    assert min(map(graph.speed, graph.joints)) < RESTING, "the last trajectory ends at rest"
    graph.await_moving_episode()


def test_when_the_recorder_is_killed_its_files_stay_whole_and_later_episodes_are_recorded(graph):
    graph.await_moving_episode()
    count = len(graph.store)
    pid = graph.kill("recorder_node")
    graph.await_restart("recorder_node", pid)
    graph.await_(lambda: len(graph.store) >= count + 2, "more episodes")
    assert len(list(graph.store.load())) >= count + 2
    assert not graph.store.corrupt
    episodes = len(graph.store)
    graph.await_(lambda: graph.learner[-1].episodes >= episodes, "what was recorded reaches the learner")


def test_when_the_simulation_is_killed_and_time_starts_anew_practice_goes_on(graph):
    graph.await_moving_episode()
    number = graph.states[-1].number
    before_ns = graph.now_ns()
    pid = graph.kill("sim_node")
    graph.await_restart("sim_node", pid)
    graph.joints.clear()
    graph.await_(lambda: graph.joints and graph.now_ns() < before_ns, "the new clock")
    graph.await_moving_episode()
    assert graph.await_ended(number + 1, "timeout", "success").number > number


def test_no_episode_that_was_aborted_is_stored(graph):
    aborted = {state.id for state in graph.states if state.state == State.ENDED and state.outcome == "aborted"}
    assert aborted, "the processes that were killed have cost episodes"
    assert not aborted & {path.stem for path in graph.store.paths()}


def test_what_happened_is_in_the_record(graph):
    records = read_metrics(graph.folder / FILE)
    assert {"run", "episode", "learner", "command", "policy", "sim"} <= {record["kind"] for record in records}
    numbers = [record["number"] for record in records if record["kind"] == "episode"]
    assert numbers == list(range(1, len(numbers) + 1))


def test_after_the_stop_nothing_runs_and_the_tuned_policy_is_there(graph):
    pids = [state.pid for state in graph.supervisor.states().values()]
    graph.supervisor.stop()
    assert not [pid for pid in pids if pid and os.path.exists(f"/proc/{pid}")]
    assert (graph.folder / "checkpoint" / "checkpoint.json").exists()


def test_a_parameter_that_cannot_be_ends_the_run_with_its_name_and_range(ros, tmp_path, checkpoint_folder):
    graph = Graph(ros, tmp_path, checkpoint_folder, sim_node={"camera_size": 8})
    with graph.supervisor, pytest.raises(UserError) as caught:
        graph.supervisor.wait(lambda: None, until=lambda states: False)
    assert "\n" not in str(caught.value)
    for word in ("sim_node", "camera_size", "8", "between 16 and 1024"):
        assert word in str(caught.value)
