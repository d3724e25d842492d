"""episode_node with a scene, a clock and other nodes that the test plays."""

import signal
from itertools import groupby

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from mechanic_rl_ros.srv import ResetScene
from rosgraph_msgs.msg import Clock

from mechanic_rl_ros import msg
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds, stamp
from mechanic_rl_ros.replay.store import EpisodeStore

State = msg.EpisodeState
OTHERS = ["camera_node", "policy_node", "command_node", "recorder_node", "learner_node"]
TICK_NS, STEP_NS = 20_000_000, 100_000_000


class Scene:
    """Clock, task state, reset service and the diagnostics of the other nodes."""

    def __init__(self, ros, alive=OTHERS):
        self.nodes, self.probe = ros
        self.now_ns, self.resets, self.success, self.broken = 30 * 10**9, 0, False, ""
        self.alive, self.trouble, self.seeds = set(alive), {}, []
        publish = self.probe.node.create_publisher
        self.clock, self.tasks = publish(Clock, "/clock", qos.SENSOR), publish(msg.TaskState, "task_state", qos.STATE)
        self.diagnostics = publish(DiagnosticArray, "/diagnostics", 10)
        self.labels = publish(msg.Label, "label", qos.COMMAND)
        self.executed, self.idle = publish(msg.ExecutedAction, "executed_action", qos.COMMAND), False
        self.records = publish(msg.EpisodeRecord, "episode_record", qos.EPISODE)
        self.states = self.probe.hear(State, "episode", qos.STATE)
        self.rewards = self.probe.hear(msg.Reward, "reward", qos.COMMAND)
        self.probe.every(TICK_NS * 1e-9, self._tick)
        self.probe.every(0.3, self._report)

    def start(self, **parameters):
        self.process = self.nodes.start("episode_node", use_sim_time=True, **parameters)
        self.probe.wait_for(lambda: self.states, "the episode node")
        return self

    def serve(self):
        self.probe.node.create_service(ResetScene, "reset_scene", self._reset)
        return self

    def _tick(self):
        self.now_ns += TICK_NS
        self.clock.publish(Clock(clock=stamp(self.now_ns)))
        if self.now_ns % STEP_NS == 0:
            state = msg.TaskState(task="lift", reset_count=self.resets, success=self.success)
            state.header.stamp = stamp(self.now_ns)
            self.tasks.publish(state)
            self._act()

    def _act(self):
        if self.states and self.states[-1].state == State.RUNNING:
            source = msg.ExecutedAction.HOLD if self.idle else msg.ExecutedAction.POLICY
            executed = msg.ExecutedAction(episode_id=self.states[-1].id, action=[0.0] * 4, source=source)
            executed.header.stamp = stamp(self.now_ns - STEP_NS)
            self.executed.publish(executed)

    def _report(self):
        for name in self.alive:
            level, message = self.trouble.get(name, (DiagnosticStatus.OK, "running"))
            self.diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(name=name, level=level, message=message)]))

    def _reset(self, request, response):
        self.seeds.append(request.seed)
        self.success = False
        self.resets += not self.broken
        response.success, response.message, response.reset_count, response.stamp = not self.broken, self.broken, self.resets, stamp(self.now_ns)
        return response

    def await_state(self, state, number=None):
        def reached():
            return next((s for s in self.states if s.state == state and number in (None, s.number)), None)

        return self.probe.wait_for(reached, f"state {state} of episode {number}")

    def await_reason(self, words):
        return self.probe.wait_for(lambda: next((s for s in reversed(self.states) if words in s.reason), None), f"the reason {words}")


def test_it_waits_for_every_node_by_name_and_then_runs_the_requested_episodes(ros):
    scene = Scene(ros, alive=[]).start(episodes=2, seed_first=40, step_limit=3)
    for index, name in enumerate(OTHERS):
        assert scene.await_reason(f"waiting for {name} (nothing heard from it)").state == State.WAITING
        scene.trouble[name] = (DiagnosticStatus.ERROR, f"trouble {index}")
        scene.alive.add(name)
        scene.await_reason(f"waiting for {name} (trouble {index})")
        scene.trouble[name] = (DiagnosticStatus.WARN, "not active")
        scene.await_reason(f"waiting for {name} (not active)")
        del scene.trouble[name]
    scene.await_reason("waiting for the service reset_scene")
    assert scene.states[-1].number == 0
    scene.serve()

    running = scene.await_state(State.RUNNING, 1)
    assert scene.seeds == [40]
    assert (running.seed, running.task, running.step_limit, running.outcome) == (40, "lift", 3, "")
    assert nanoseconds(running.header.stamp) % STEP_NS == 0
    scene.success = True
    ended = scene.await_state(State.ENDED, 1)
    assert (ended.outcome, ended.return_value, ended.id) == ("success", 1.0, running.id)
    scene.probe.wait_for(lambda: scene.rewards and scene.rewards[-1].terminal, "the reward")
    assert (scene.rewards[-1].reward, scene.rewards[-1].header.stamp, scene.rewards[-1].episode_id) == (1.0, ended.header.stamp, ended.id)

    ended = scene.await_state(State.ENDED, 2)
    assert (ended.outcome, ended.return_value, ended.seed) == ("timeout", 0.0, 41)
    second = next(s for s in scene.states if s.state == State.RUNNING and s.number == 2)
    assert nanoseconds(ended.header.stamp) - nanoseconds(second.header.stamp) == 3 * STEP_NS
    assert second.id != running.id
    scene.probe.wait_for(lambda: sum(reward.episode_id == ended.id for reward in scene.rewards) >= 3, "three rewards")
    rewards = [(reward.reward, reward.terminal) for reward in scene.rewards if reward.episode_id == ended.id]
    assert rewards == [(0.0, False)] * 3
    scene.await_state(State.FINISHED)
    order = [state for state, _ in groupby(s.state for s in scene.states if s.number == 2)]
    assert order == [State.RESETTING, State.READY, State.RUNNING, State.ENDED, State.FINISHED]

    scene.alive.discard("learner_node")
    scene.probe.wait_for(scene.process.ended, "the end of the process after the last episode")
    assert scene.process.status() == 0
    assert scene.seeds == [40, 41]


def test_practice_survives_faults_of_the_others(ros):
    scene = Scene(ros).serve()
    scene.broken = "the object fell off the table"
    scene.start(step_limit=600, seed_first=7)
    scene.await_reason("reset failed 1 times: the object fell off the table")
    scene.broken = ""
    scene.await_state(State.RUNNING, 1)
    assert set(scene.seeds) == {7}, "the number is not lost"

    scene.alive.discard("policy_node")
    ended = scene.await_state(State.ENDED, 1)
    assert (ended.outcome, ended.reason) == ("aborted", "lost policy_node (nothing heard from it)")
    scene.await_reason("waiting for policy_node (nothing heard from it)")
    scene.alive.add("policy_node")

    scene.await_state(State.RUNNING, 2)
    scene.alive.discard("learner_node")
    scene.probe.wait_for(lambda: scene.labels.get_subscription_count(), "a listener of labels")
    until_ns = scene.now_ns + 5 * 10**9
    scene.probe.wait_for(lambda: scene.now_ns > until_ns, "time without a learner")
    assert (scene.states[-1].state, scene.states[-1].number) == (State.RUNNING, 2), "without the learner practice goes on"
    scene.labels.publish(msg.Label(success=True))
    ended = scene.await_state(State.ENDED, 2)
    assert (ended.outcome, ended.return_value) == ("success", 1.0), "an operator judges"
    scene.probe.wait_for(lambda: scene.rewards[-1].episode_id == ended.id and scene.rewards[-1].terminal, "the reward of the operator's judgement")
    assert (scene.rewards[-1].reward, scene.rewards[-1].header.stamp) == (1.0, ended.header.stamp)

    scene.await_state(State.RUNNING, 3)
    scene.trouble["camera_node"] = (DiagnosticStatus.ERROR, "camera front has been silent for 2.0 s")
    assert scene.await_state(State.ENDED, 3).reason == "lost camera_node (camera front has been silent for 2.0 s)"
    del scene.trouble["camera_node"]

    scene.await_state(State.RUNNING, 4)
    scene.idle = True
    ended = scene.await_state(State.ENDED, 4)
    assert (ended.outcome, ended.reason) == ("aborted", "neither policy nor operator moves the arm")


def test_the_state_is_repeated_so_that_others_notice_when_it_is_gone(ros):
    scene = Scene(ros, alive=[]).start()
    scene.await_reason("waiting for camera_node")
    state = scene.states[-1]
    scene.states.clear()
    scene.probe.wait_for(lambda: len(scene.states) >= 3, "three repetitions")
    assert all(repetition == state for repetition in scene.states)


def test_in_a_namespace_only_the_nodes_of_that_namespace_count(ros):
    nodes, probe = ros
    diagnostics, clock = probe.node.create_publisher(DiagnosticArray, "/diagnostics", 10), probe.node.create_publisher(Clock, "/clock", qos.SENSOR)
    states = probe.hear(State, "/left/episode", qos.STATE)
    nodes.start("episode_node", namespace="left", use_sim_time=True)
    ours, others = DiagnosticStatus(name="left/camera_node", message="running"), ["policy_node", "right/policy_node"]
    fault = DiagnosticStatus(name="camera_node", level=DiagnosticStatus.ERROR, message="trouble")
    array = DiagnosticArray(status=[ours, fault, *(DiagnosticStatus(name=name, message="running") for name in others)])
    probe.every(0.05, lambda: clock.publish(Clock(clock=stamp(30 * 10**9))))
    probe.every(0.1, lambda: diagnostics.publish(array))
    probe.wait_for(lambda: any(s.reason == "waiting for policy_node (nothing heard from it)" for s in states), "the next node to wait for")


def test_without_a_clock_it_says_what_it_waits_for(ros):
    nodes, probe = ros
    states = probe.hear(State, "episode", qos.STATE)
    nodes.start("episode_node", use_sim_time=True)
    probe.wait_for(lambda: states and "nothing heard on /clock" in states[-1].reason, "the reason")


def test_on_sigint_a_running_episode_is_aborted(ros):
    scene = Scene(ros).serve().start(step_limit=600)
    running = scene.await_state(State.RUNNING, 1)
    scene.process.process.send_signal(signal.SIGINT)
    ended = scene.await_state(State.ENDED, 1)
    assert (ended.id, ended.outcome) == (running.id, "aborted")


def test_a_run_that_was_stopped_goes_on_with_the_next_number_and_seed(ros, play, tmp_path):
    store = EpisodeStore(tmp_path / "episodes")
    for number in (1, 3):  # the second one was aborted
        store.add(play["episode"](f"lift_old_{number}", steps=2))
    scene = Scene(ros).serve().start(directory=store.folder, episodes=3, seed_first=40, step_limit=2)
    assert scene.await_state(State.RUNNING).number == 4
    assert scene.seeds == [43]
    scene.await_state(State.FINISHED)


def test_an_episode_that_the_recorder_discarded_is_made_up_for_with_a_new_scene(ros):
    scene = Scene(ros).serve().start(episodes=1, seed_first=40, step_limit=2)
    finished = scene.await_state(State.FINISHED, 1)
    scene.records.publish(msg.EpisodeRecord(id=finished.id, kept=True))
    scene.records.publish(msg.EpisodeRecord(id=finished.id, kept=False, reason="frames are missing"))
    scene.await_state(State.FINISHED, 2)
    assert scene.seeds == [40, 41]


def test_no_scene_is_practised_twice_even_if_nothing_of_it_was_kept(ros, tmp_path):
    scene = Scene(ros).serve().start(directory=tmp_path, seed_first=40, step_limit=600)
    scene.await_state(State.RUNNING, 1)
    scene.process.kill()
    scene.states.clear()
    scene.start(directory=tmp_path, seed_first=40, step_limit=600)
    scene.await_state(State.RUNNING, 2)  # a last word of the killed node may still have come
    assert scene.seeds == [40, 41]


def test_a_folder_that_does_not_take_the_number_is_told_and_practice_goes_on(ros, tmp_path):
    scene = Scene(ros).serve().start(directory=tmp_path / "nowhere", step_limit=600)
    scene.await_state(State.RUNNING, 1)
    assert "a run that goes on from here may repeat a scene" in scene.process.output


def test_damaged_files_do_not_count_as_completed_episodes_and_their_numbers_are_not_used_again(ros, play, tmp_path):
    store = EpisodeStore(tmp_path)
    store.add(play["episode"]("lift_old_1", steps=2))
    damaged = store.add(play["episode"]("lift_old_2", steps=2))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    scene = Scene(ros).serve().start(directory=store.folder, episodes=2, step_limit=2)
    assert scene.await_state(State.RUNNING).number == 3
    scene.await_state(State.FINISHED, 3)


def test_a_reset_that_is_not_answered_is_given_up_after_the_patience_that_was_asked_for(ros):
    scene = Scene(ros)
    deaf = rclpy.create_node("deaf", context=scene.probe.context, use_global_arguments=False)  # nobody spins it
    deaf.create_service(ResetScene, "reset_scene", lambda request, response: response)
    scene.start(reset_patience=0.2)
    scene.await_reason("reset failed 2 times: the service reset_scene does not answer")
    deaf.destroy_node()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"step_limit": 1}, "between 2 and 100000"),
        ({"episodes": -1}, "between 0 and 1000000"),
        ({"ready_time": "soon"}, "give a float"),
        ({"task": 3}, "give a str"),
        ({"reset_patience": 0.0}, "between 0.1 and 3600.0"),
    ],
    ids=["step limit", "episodes", "not a number", "not a string", "reset patience"],
)
def test_a_parameter_that_cannot_be_ends_it_with_one_line(ros, parameters, words):
    line = ros[0].refusal("episode_node", **parameters)
    assert words in line
    assert next(iter(parameters)) in line
