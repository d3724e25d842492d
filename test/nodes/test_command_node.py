"""command_node between a policy and an arm that the test plays."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import ActionChunk, Source
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds, stamp
from mechanic_rl_ros.nodes.convert import chunk_to_message, trajectory_from_message
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.sim.trajectory import TrajectoryController

EMBODIMENT = load_embodiment()
NAMES = EMBODIMENT.joints.names
TICK_NS = 20_000_000
FORWARD = (0.3, 0.0, 0.0, -1.0)
STOP_S = 1.0  # of the arm's time: the age of a joint state, the slowest stop, and slack for messages on a busy machine
State = msg.EpisodeState


class Arm:
    """Clock, joint states and trajectory controller of an arm, in lockstep with the probe's timer; and the policy that moves it."""

    def __init__(self, ros):
        self.nodes, self.probe = ros
        self.controller = TrajectoryController(EMBODIMENT.joints.home)
        self.kinematics = Kinematics(EMBODIMENT)
        self.now_ns, self.number, self.drive = 100 * 10**9, 0, None
        self.clock_runs = self.joints_flow = True
        self.speeds = []  # of the fastest joint, (arm's time in ns, rad/s)
        hear, publish = self.probe.hear, self.probe.node.create_publisher
        self.trajectories = hear(JointTrajectory, "fr3_arm_controller/joint_trajectory", qos.TRAJECTORY, self._follow)
        self.fingers = hear(Float64MultiArray, "fr3_gripper_controller/commands", qos.TRAJECTORY)
        self.executed = hear(msg.ExecutedAction, "executed_action", qos.COMMAND)
        self.status = hear(msg.CommandStatus, "command_status", qos.STATE)
        self.diagnostics = hear(DiagnosticArray, "/diagnostics", 10)
        self.clock = publish(Clock, "/clock", qos.SENSOR)
        self.joints = publish(JointState, EMBODIMENT.joints.topic, qos.SENSOR)
        self.episodes = publish(State, "episode", qos.STATE)
        self.chunks = publish(msg.ActionChunk, "action_chunk", qos.COMMAND)
        self.operator = publish(msg.Intervention, "intervention", qos.COMMAND)
        self.process = self.join()
        self.probe.every(TICK_NS * 1e-9, self._tick)

    def join(self):
        process = self.nodes.start("command_node", use_sim_time=True)
        listeners = (self.clock, self.joints, self.episodes, self.chunks, self.operator)
        self.probe.wait_for(lambda: all(publisher.get_subscription_count() for publisher in listeners), "command_node")
        return process

    def _follow(self, message):
        self.controller.set_trajectory(trajectory_from_message(message, NAMES), self.now_ns)

    def _tick(self):
        if not self.clock_runs:
            return
        self.now_ns += TICK_NS
        self.clock.publish(Clock(clock=stamp(self.now_ns)))
        positions, velocities = self.controller.sample(self.now_ns)
        self.speeds.append((self.now_ns, float(np.abs(velocities).max())))
        if self.joints_flow:
            message = JointState(name=[*NAMES, EMBODIMENT.joints.finger], position=[*positions, 0.04], velocity=[*velocities, 0.0])
            message.header.stamp = stamp(self.now_ns)
            self.joints.publish(message)
        if self.drive is not None and self.now_ns % 200_000_000 == 0:
            self.send(self.drive)

    def send(self, action, *, episode=None, at_ns=None, **changes):
        chunk = ActionChunk(at_ns or self.now_ns, EMBODIMENT.period_ns, np.tile(np.array(action, np.float32), (8, 1)), 5, False, episode or self.id)
        message = chunk_to_message(chunk, EMBODIMENT.base_frame, 0.01)
        for name, value in changes.items():
            setattr(message, name, value)
        self.chunks.publish(message)

    def announce(self, state):
        message = State(id=self.id, number=self.number, state=state)
        message.header.stamp = stamp(self.start_ns)
        self.episodes.publish(message)

    def begin(self):
        """A new episode from home, as after a reset, in which nobody acts yet."""
        self.controller.hold(EMBODIMENT.joints.home)
        self.number += 1
        self.id, self.start_ns = f"lift_{self.number}", self.now_ns
        self.announce(State.READY)
        self.pass_time(0.5)
        self.start_ns = self.now_ns // EMBODIMENT.period_ns * EMBODIMENT.period_ns + EMBODIMENT.period_ns
        self.announce(State.RUNNING)
        self.executed.clear()

    def end(self):
        self.drive = None
        self.announce(State.ENDED)
        self.probe.wait_for(lambda: self.speed() == 0.0 and self.holding() == "no episode is running", "rest")

    def pass_time(self, seconds):
        until = self.now_ns + round(seconds * 1e9)
        self.probe.wait_for(lambda: self.now_ns >= until, "the arm's time")

    def speed(self):
        return self.speeds[-1][1] if self.speeds else 0.0

    def rests_from(self, since_ns):
        """Whether it moved at no time since then."""
        return not any(speed for at_ns, speed in self.speeds if at_ns >= since_ns)

    def hand(self):
        return self.kinematics.tcp(self.controller.sample(self.now_ns)[0])[0]

    def says(self):
        """Level and message of the node's last diagnostics."""
        return next(((s.level, s.message) for array in reversed(self.diagnostics) for s in array.status if s.name == "command_node"), (b"", ""))

    def holding(self):
        return self.says()[1].removeprefix("holding: ")

    def await_holding(self, reason):
        self.diagnostics.clear()
        self.probe.wait_for(lambda: self.holding() == reason, f"holding because {reason}")

    def await_motion(self):
        before = self.hand()
        self.probe.wait_for(lambda: np.linalg.norm(self.hand() - before) > 0.005, "motion")


@pytest.fixture(scope="module")
def cell(shared_ros):
    return Arm(shared_ros)


@pytest.fixture
def arm(cell):
    yield cell
    cell.clock_runs = cell.joints_flow = True
    if cell.number:
        cell.end()


def test_it_is_silent_while_there_is_no_episode(arm):
    arm.probe.wait_for(lambda: arm.status, "a status")
    assert not arm.trajectories
    assert not arm.fingers
    assert arm.status[-1].holding == "not started"


def test_a_chunk_moves_the_hand_as_it_says(arm):
    arm.begin()
    before = arm.hand()
    arm.drive = FORWARD
    arm.await_motion()
    arm.pass_time(0.5)
    way = arm.hand() - before
    assert way[0] > 0.01
    assert np.abs(way[1:]).max() < 0.2 * way[0]
    assert arm.fingers[-1].data[0] == pytest.approx(0.04), "gripper below 0 opens"
    assert [point.velocities[-1] for point in arm.trajectories[-1].points][-1] == 0.0


def test_what_was_executed_is_told_on_the_grid_of_the_episode(arm):
    arm.begin()
    arm.drive = (0.2, 0.0, 0.0, 1.0)
    acted = arm.probe.wait_for(lambda: len(arm.executed) >= 6 and [e for e in arm.executed if e.source == Source.POLICY][2:], "executed actions")
    stamps = [nanoseconds(executed.header.stamp) for executed in arm.executed]
    assert stamps[0] == arm.start_ns
    assert set(np.diff(stamps)) == {EMBODIMENT.period_ns}
    assert acted[0].action == pytest.approx([0.2, 0.0, 0.0, 1.0], abs=1e-6)
    assert (acted[0].policy_version, acted[0].episode_id) == (5, arm.id)


def test_silence_of_the_policy_stops_the_arm(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    arm.drive, since_ns = None, arm.now_ns
    arm.pass_time(0.8 + 2 * STOP_S)  # the last chunk lasts 0.8 s
    assert arm.rests_from(since_ns + round((0.8 + STOP_S) * 1e9))
    assert arm.holding() == "no action for now"


def test_silence_of_the_joint_states_stops_the_arm_and_their_return_lets_it_go_on(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    arm.joints_flow, since_ns = False, arm.now_ns
    arm.pass_time(2 * STOP_S)
    assert arm.rests_from(since_ns + round(STOP_S * 1e9))
    arm.await_holding("joint state is stale or missing")
    arm.joints_flow, arm.drive = True, tuple(-x for x in FORWARD)
    arm.await_motion()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action_dim": 3, "horizon": 8, "actions": [0.1] * 24}, "claims 8 actions of 3"),
        ({"actions": [0.1] * 31}, "action chunk of 31 values"),
        ({"horizon": 0, "actions": []}, "claims 0 actions"),
        ({"period": 0.2}, "period of 0.2 s"),
        ({"period": float("nan")}, "period of nan s"),
    ],
    ids=["width", "length", "empty", "period", "no period"],
)
def test_a_malformed_chunk_is_refused_with_the_reason_and_moves_nothing(arm, changes, words):
    arm.begin()
    since_ns = arm.now_ns
    arm.diagnostics.clear()
    arm.send(FORWARD, **changes)
    arm.probe.wait_for(lambda: words in arm.says()[1], "the refusal")
    assert arm.rests_from(since_ns)


def test_a_chunk_that_is_not_a_number_stops_the_arm_and_is_told(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    arm.drive, since_ns = (float("nan"),) * 4, arm.now_ns
    arm.pass_time(0.2 + 2 * STOP_S)
    assert arm.rests_from(since_ns + round((0.2 + STOP_S) * 1e9))
    arm.status.clear()
    arm.probe.wait_for(lambda: arm.status, "a status")
    assert arm.status[-1].holding == "action is not finite"


def test_a_chunk_of_another_episode_is_ignored(arm):
    arm.begin()
    since_ns = arm.now_ns
    for _ in range(5):
        arm.send(FORWARD, episode="lift_of_yesterday")
        arm.pass_time(0.1)
    assert arm.rests_from(since_ns)


def test_actions_that_come_too_late_are_dropped_and_counted(arm):
    arm.begin()
    arm.probe.wait_for(lambda: arm.status, "a status")
    before = arm.status[-1].late_actions
    arm.send(FORWARD, at_ns=arm.now_ns - 10 * EMBODIMENT.period_ns)
    arm.pass_time(0.1)
    arm.probe.wait_for(lambda: arm.status[-1].late_actions >= before + 8, "the count of late actions")
    assert arm.speed() == 0.0


def test_an_operator_has_precedence_until_he_lets_go(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    before = arm.hand()

    def operate():
        message = msg.Intervention(active=True, action=[0.0, 0.0, 0.4, -1.0])
        message.header.stamp = stamp(arm.now_ns)
        arm.operator.publish(message)

    timer = arm.probe.every(0.05, operate)
    arm.probe.wait_for(lambda: arm.hand()[2] > before[2] + 0.02, "the operator's motion")
    arm.probe.wait_for(lambda: any(executed.source == Source.HUMAN for executed in arm.executed), "an executed action of the operator")
    arm.probe.node.destroy_timer(timer)
    arm.await_holding("operator's command is stale")
    assert arm.speed() == 0.0, "nobody has the arm until the operator gives it back"
    arm.operator.publish(msg.Intervention(active=False))
    arm.await_motion()


def test_a_clock_that_stands_still_stops_all_commands_and_one_that_goes_on_starts_them(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    arm.clock_runs = False
    arm.await_holding("the clock stands still")
    count = len(arm.trajectories)
    arm.await_holding("the clock stands still")
    assert len(arm.trajectories) == count
    arm.clock_runs = True
    arm.await_motion()


def test_a_node_that_was_killed_rejoins_the_running_episode(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    arm.process.kill()
    since_ns = arm.now_ns
    arm.pass_time(2 * STOP_S)
    assert arm.rests_from(since_ns + round(STOP_S * 1e9)), "every trajectory ends at rest, so a crash stops the arm"
    arm.drive = tuple(-x for x in FORWARD)
    arm.process = arm.join()
    arm.await_motion()


def test_sigint_in_full_motion_brings_the_arm_to_rest(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    count = len(arm.trajectories)
    assert arm.speed() > 0.0
    arm.process.process.send_signal(2)
    arm.probe.wait_for(arm.process.ended, "the end of command_node")
    assert arm.process.status() == 0, arm.process.output
    arm.pass_time(0.5)
    assert len(arm.trajectories) > count, "it slows the arm down itself, before it ends"
    last = arm.trajectories[-1].points[-1]
    assert list(last.velocities) == [0.0] * 7
    assert arm.speed() == 0.0
    arm.process = arm.join()


@pytest.mark.parametrize(
    ("parameters", "words"), [({"rate": 20.0}, "between 50.0 and 200.0"), ({"rate": "fast"}, "give a float"), ({"embodiment": "octopus"}, "octopus")]
)
def test_a_parameter_that_cannot_be_ends_it_with_one_line(ros, parameters, words):
    assert words in ros[0].refusal("command_node", **parameters)
