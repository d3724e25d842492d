"""command_node between a policy and an arm that the test plays."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import Source
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes.base import nanoseconds

EMBODIMENT = load_embodiment()
FORWARD = (0.3, 0.0, 0.0, -1.0)
SLOWLY = (0.05, 0.0, 0.0, -1.0)
STOP_S = 1.0  # of the arm's time: the age of a joint state, the slowest stop, and slack for messages on a busy machine


@pytest.fixture(scope="module")
def cell(shared_ros, play):
    return play["arm"](shared_ros)


@pytest.fixture
def arm(cell):
    yield cell
    cell.clock_runs = cell.joints_flow = cell.episode_node_lives = True
    cell.finger = 0.04
    cell.step_limit = 600
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


def test_control_and_the_thread_that_shares_its_interpreter_run_before_all_ordinary_programs_where_that_is_permitted(arm):
    arm.begin()
    attempt = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))"
    if subprocess.run([sys.executable, "-c", attempt], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("real-time scheduling is not permitted here")
    threads = map(int, os.listdir(f"/proc/{arm.process.pid}/task"))
    first = sorted(os.sched_getparam(thread).sched_priority for thread in threads if os.sched_getscheduler(thread) == os.SCHED_FIFO)
    assert first == [9, 10], "the executor, and above it control"
    assert os.sched_getparam(arm.process.pid).sched_priority == 9


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
    arm.probe.wait_for(lambda: any(status.holding == "action is not finite" for status in arm.status), "the reason")


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
    timer = arm.probe.every(0.05, lambda: arm.operate((0.0, 0.0, 0.4, -1.0)))
    arm.probe.wait_for(lambda: arm.hand()[2] > before[2] + 0.02, "the operator's motion")
    arm.probe.wait_for(lambda: any(executed.source == Source.HUMAN for executed in arm.executed), "an executed action of the operator")
    arm.probe.node.destroy_timer(timer)
    arm.await_holding("operator's command is stale")
    assert arm.speed() == 0.0, "nobody has the arm until the operator gives it back"
    arm.now_ns -= 2 * 10**9
    arm.pass_time(1.0)
    arm.await_holding("operator's command is stale")
    assert arm.speed() == 0.0, "also when the clock was set back"
    arm.operator.publish(msg.Intervention(active=False))
    arm.await_motion()


def test_what_the_hand_was_told_is_repeated_since_its_controller_may_have_missed_it(arm):
    arm.begin()
    arm.drive = (0.02, 0.0, 0.0, 1.0)
    arm.probe.wait_for(lambda: arm.fingers and arm.fingers[-1].data[0] == 0.0, "a closed hand")
    arm.fingers.clear()
    arm.probe.wait_for(lambda: len(arm.fingers) >= 2, "two repetitions")
    assert {finger.data[0] for finger in arm.fingers} == {0.0}


def test_joint_states_that_are_not_finite_are_refused_with_the_reason_and_stop_the_arm(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    arm.finger, since_ns = float("nan"), arm.now_ns
    arm.probe.wait_for(lambda: "no finite position of fr3_finger_joint1" in arm.says()[1], "the refusal")
    arm.pass_time(2 * STOP_S)
    assert arm.rests_from(since_ns + round(STOP_S * 1e9))
    arm.finger, arm.drive = 0.04, tuple(-x for x in FORWARD)
    arm.await_motion()


def test_a_chunk_counts_once_for_the_latency(arm):
    arm.begin()
    arm.await_fresh_status()
    arm.send(FORWARD)  # any one of its actions that is in time moves the arm
    arm.await_motion()
    seen = len(arm.status)
    arm.probe.wait_for(lambda: len(arm.status) > seen + 1, "the statuses of that time")
    assert sum(len(status.latencies) for status in arm.status) == 1
    assert sum(len(status.reactions) for status in arm.status) == 1


def test_what_an_operator_does_says_nothing_of_the_latency(arm):
    arm.begin()
    arm.await_fresh_status()
    timer = arm.probe.every(0.05, lambda: arm.operate(SLOWLY))
    arm.await_motion()
    seen = len(arm.status)
    arm.probe.wait_for(lambda: len(arm.status) > seen, "the status of that time")
    arm.probe.node.destroy_timer(timer)
    arm.operator.publish(msg.Intervention(active=False))
    assert not any(status.latencies for status in arm.status)


def test_chunks_that_come_out_of_order_are_counted(arm):
    arm.begin()
    before = int(arm.value("refused_chunks"))
    arm.send(SLOWLY)
    arm.send(SLOWLY, at_ns=arm.now_ns - EMBODIMENT.period_ns)
    arm.probe.wait_for(lambda: int(arm.value("refused_chunks")) > before, "the count of refused chunks")


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


def test_silence_of_the_episode_node_stops_the_arm_and_its_return_lets_it_go_on(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    arm.episode_node_lives = False
    arm.await_holding("episode_node is silent")
    since_ns = arm.now_ns
    arm.pass_time(2 * STOP_S)
    assert arm.rests_from(since_ns + round(STOP_S * 1e9))
    arm.episode_node_lives, arm.drive = True, tuple(-x for x in FORWARD)
    arm.await_motion()
    stamps = [nanoseconds(executed.header.stamp) for executed in arm.executed]
    assert stamps == sorted(set(stamps)), "no interval is told twice"


def test_an_episode_that_nobody_ends_stops_soon_after_its_step_limit(arm):
    arm.step_limit = 5
    arm.begin()
    arm.drive = (0.02, 0.0, 0.0, -1.0)
    arm.await_holding("the episode is past its step limit and nobody has ended it")
    assert arm.now_ns >= arm.start_ns + 5 * EMBODIMENT.period_ns
    since_ns = arm.now_ns
    arm.pass_time(2 * STOP_S)
    assert arm.rests_from(since_ns + round(STOP_S * 1e9)), "though the episode node repeats that the episode runs"


def test_a_deactivated_node_moves_nothing_and_an_activated_one_goes_on(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    assert arm.change_state(Transition.TRANSITION_DEACTIVATE)
    since_ns = arm.now_ns
    arm.pass_time(2 * STOP_S)
    assert arm.rests_from(since_ns + round(STOP_S * 1e9))
    assert not arm.change_state(Transition.TRANSITION_CLEANUP), "to configure it anew, it is restarted"
    arm.drive = tuple(-x for x in SLOWLY)  # the walls of the workspace are far
    assert arm.change_state(Transition.TRANSITION_ACTIVATE)
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
    arm.process.process.send_signal(signal.SIGINT)
    arm.probe.wait_for(arm.process.ended, "the end of command_node")
    assert arm.process.status() == 0, arm.process.output
    arm.pass_time(0.5)
    last = arm.trajectories[-1]
    speeds = [np.abs(point.velocities).max() for point in last.points]
    assert speeds == sorted(speeds, reverse=True), "the way to rest is the last thing sent"
    assert speeds[-1] == 0.0
    assert last.points[-1].time_from_start.nanosec <= 150_000_000
    assert arm.speed() == 0.0
    arm.process = arm.join()


@pytest.mark.parametrize("by", ["topic", "service"])
def test_an_emergency_stop_holds_the_arm_through_new_episodes_until_it_is_reset(arm, by):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    if by == "topic":
        arm.emergency.publish(Bool(data=True))
        arm.emergency.publish(Bool(data=False))
    else:
        assert arm.probe.call(Trigger, "emergency_stop", Trigger.Request()).success
    arm.probe.wait_for(lambda: arm.says()[1].startswith("emergency stop"), "the emergency stop in the diagnostics")
    assert arm.says()[0] == DiagnosticStatus.ERROR
    arm.probe.wait_for(lambda: arm.speed() == 0.0, "rest")
    assert not arm.probe.call(Trigger, "go_home", Trigger.Request()).success
    arm.begin()
    since_ns = arm.now_ns
    arm.pass_time(1.0)
    assert arm.rests_from(since_ns)
    assert arm.status[-1].emergency_stop
    assert arm.probe.call(Trigger, "reset_emergency_stop", Trigger.Request()).success
    assert not arm.probe.call(Trigger, "reset_emergency_stop", Trigger.Request()).success
    arm.pass_time(0.5)
    assert arm.rests_from(since_ns), "the reset alone moves nothing"
    arm.begin()
    arm.await_motion()


def test_an_emergency_stop_is_in_the_diagnostics_at_once(arm):
    arm.begin()
    arm.diagnostics.clear()
    arm.probe.wait_for(lambda: arm.says()[1], "what is told once a second")
    since_ns = arm.now_ns
    arm.emergency.publish(Bool(data=True))
    stopped = arm.probe.wait_for(lambda: next((a for a in arm.diagnostics if a.status[0].message.startswith("emergency stop")), None), "the emergency stop")
    assert nanoseconds(stopped.header.stamp) - since_ns < 500_000_000
    assert arm.probe.call(Trigger, "reset_emergency_stop", Trigger.Request()).success


def test_between_episodes_it_drives_the_arm_home_when_asked_and_not_while_one_runs(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    refused = arm.probe.call(Trigger, "go_home", Trigger.Request())
    assert (refused.success, "not now" in refused.message) == (False, True)
    arm.pass_time(0.5)
    arm.end()
    home = np.array(EMBODIMENT.joints.home)
    assert np.abs(arm.controller.sample(arm.now_ns)[0] - home).max() > 0.02
    assert arm.probe.call(Trigger, "go_home", Trigger.Request()).success
    arm.probe.wait_for(lambda: np.abs(arm.controller.sample(arm.now_ns)[0] - home).max() < 0.01 and arm.speed() == 0.0, "home")
    assert arm.fingers[-1].data[0] == pytest.approx(0.04)


def test_a_second_source_of_commands_is_named_and_the_arm_held_until_it_is_gone(arm):
    arm.begin()
    arm.drive = FORWARD
    arm.await_motion()
    second = Node("ghost", context=arm.probe.node.context)
    publisher = second.create_publisher(msg.ActionChunk, "action_chunk", 10)
    arm.probe.wait_for(lambda: "/ghost" in arm.says()[1], "the name of the second source")
    assert arm.says()[0] == DiagnosticStatus.ERROR
    assert "publish action_chunk: stop all but one" in arm.says()[1]
    arm.pass_time(0.3)
    assert arm.speed() == 0.0
    second.destroy_publisher(publisher)
    second.destroy_node()
    since_ns = arm.now_ns
    arm.pass_time(3.0)
    assert arm.rests_from(since_ns), "not in this episode any more"
    arm.begin()
    arm.await_motion()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rate": 20.0}, "between 50.0 and 200.0"),
        ({"rate": "fast"}, "give a float"),
        ({"embodiment": "octopus"}, "octopus"),
        ({"limits": "nowhere"}, "cannot read limits"),
        ({"backend": "octopus"}, "unknown backend"),
    ],
)
def test_a_parameter_that_cannot_be_ends_it_with_one_line(ros, parameters, words):
    assert words in ros[0].refusal("command_node", **parameters)
