"""Camera, policy and command node as processes, and what goes wrong around them. Bounds are in the arm's time."""

import signal
from itertools import pairwise

import numpy as np
import pytest

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import Source
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.latency import CHUNK_AGE_S
from mechanic_rl_ros.nodes.base import nanoseconds
from mechanic_rl_ros.nodes.convert import trajectory_from_message
from mechanic_rl_ros.safety.limits import ACCELERATION
from mechanic_rl_ros.sim.trajectory import Trajectory, TrajectoryController

EMBODIMENT = load_embodiment()
RATE = 100.0
PIECE_S = 2.0 / RATE
STOP_S = 0.15
ON_THE_WAY_S = 0.2  # that messages may take on a busy machine
CHUNK_BOUND_S = CHUNK_AGE_S + STOP_S + ON_THE_WAY_S
OBSERVATION_AGE_S = EMBODIMENT.cameras["front"].max_age
UP = (0.0, 0.0, 0.3, -1.0)


def measured(what, value, bound, unit="s"):
    print(f"measured: {what}: {value:.3f} of at most {bound:.3f} {unit}")
    assert value <= bound


def test_a_policy_that_is_killed_leaves_an_arm_that_rests_when_its_last_chunk_is_over(cell):
    cell.practise()
    cell.policy.kill()
    cell.pass_time(3.0)
    measured("policy killed, from its last observation to rest", cell.rest_since(cell.last_observation_ns()), CHUNK_BOUND_S)
    assert cell.holding() == "no action for now"
    cell.start_policy()
    cell.await_motion()


def test_a_command_node_that_is_killed_leaves_an_arm_on_its_way_to_rest(cell):
    cell.practise()
    cell.process.kill()
    since_ns = cell.now_ns
    cell.pass_time(2.0)
    measured("command node killed, to rest", cell.rest_since(since_ns), PIECE_S + STOP_S + ON_THE_WAY_S)
    cell.start_command_node()
    cell.await_motion()


def test_a_camera_that_is_gone_stops_the_arm_and_its_return_lets_it_go_on(cell):
    cell.practise()
    cell.stamps = lambda camera, now_ns: [] if camera == "front" else [now_ns]
    cell.pass_time(3.0)
    measured("camera gone, from the last observation to rest", cell.rest_since(cell.last_observation_ns()), CHUNK_BOUND_S)
    cell.mend()
    cell.await_motion()


@pytest.mark.parametrize("late", [("front",), ("front", "wrist")], ids=["one camera", "both"])
def test_images_half_a_second_late_move_nothing_although_they_arrive_at_full_rate(cell, late):
    cell.practise()
    cell.stamps = lambda camera, now_ns: [now_ns - (camera in late) * 500_000_000]
    cell.pass_time(3.0)
    measured("images 0.5 s late, from the last observation to rest", cell.rest_since(cell.last_observation_ns()), CHUNK_BOUND_S)
    count = len(cell.planned)
    cell.pass_time(1.0)
    assert len(cell.planned) == count
    cell.mend()
    cell.await_motion()


def test_images_that_come_again_or_in_the_wrong_order_are_never_acted_on(cell):
    cell.practise()
    cell.stamps = lambda camera, now_ns: [now_ns, now_ns - EMBODIMENT.period_ns, now_ns]
    cell.pass_time(3.0)
    stamps = [nanoseconds(chunk.header.stamp) for chunk in cell.planned]
    assert len(stamps) > 3, "those in order still count"
    assert stamps == sorted(set(stamps))


def test_a_frozen_camera_is_named(cell):
    cell.practise()
    cell.frozen = True
    cell.diagnostics.clear()

    def named():
        return any("camera front has sent" in s.message and "may be frozen" in s.message for array in cell.diagnostics for s in array.status)

    cell.probe.wait_for(named, "the word on it")


def test_an_inference_that_takes_too_long_is_not_followed_and_the_arm_rests_meanwhile(cell):
    cell.practise()
    cell.policy.process.send_signal(signal.SIGSTOP)
    cell.pass_time(3.0)
    measured("inference hangs, from the last observation to rest", cell.rest_since(cell.last_observation_ns()), CHUNK_BOUND_S)
    known, since_ns = len(cell.planned), cell.now_ns
    cell.policy.process.send_signal(signal.SIGCONT)
    cell.await_motion()
    oldest_ns = min(nanoseconds(chunk.header.stamp) for chunk in cell.planned[known:])
    assert oldest_ns > since_ns - round(1e9 * (OBSERVATION_AGE_S + ON_THE_WAY_S)), "what was seen long ago is not acted on"


@pytest.mark.parametrize("jump_s", [5.0, -5.0], ids=["ahead", "back"])
def test_a_clock_that_jumps_makes_no_burst_and_no_negative_age(cell, jump_s):
    cell.practise()
    cell.now_ns += round(jump_s * 1e9)
    cell.controller.hold(cell.controller.final)
    cell.commands.clear()
    cell.status.clear()
    since_ns = cell.now_ns
    cell.pass_time(2.0)
    commands, lasted_s = list(cell.commands), (cell.now_ns - since_ns) * 1e-9
    measured("commands after a jump of the clock", len(commands) / lasted_s, 1.1 * RATE, "Hz")
    anew = next(index for index, command in enumerate(commands) if not any(any(point.velocities) for point in command.points))
    measured("commands until the arm is followed from rest anew", anew, ON_THE_WAY_S * RATE, "commands")
    assert largest_jump(commands[anew:]) <= ACCELERATION / RATE
    cell.probe.wait_for(lambda: cell.status, "a status")
    assert min((latency for status in cell.status for latency in status.latencies), default=0.0) >= 0.0
    cell.practise()


def test_a_takeover_during_a_swap_of_weights_makes_no_jump_and_no_gap(cell):
    version = cell.policy_status[-1].version + 1
    weights = cell.teacher.prepare(version)
    cell.practise()
    cell.commands.clear()
    timer = cell.probe.every(0.02, lambda: cell.operate(UP))
    cell.probe.wait_for(lambda: sum(e.source == Source.HUMAN for e in cell.executed) >= 3, "the operator's actions")
    cell.teacher.sender.announce(weights)
    cell.probe.wait_for(lambda: cell.planned[-1].policy_version == version, "a chunk of the new weights")
    cell.probe.node.destroy_timer(timer)
    cell.operator.publish(msg.Intervention(active=False))
    cell.probe.wait_for(lambda: cell.executed[-1].source == Source.POLICY and cell.executed[-1].policy_version == version, "an action of the new weights")
    stamps = [nanoseconds(e.header.stamp) for e in cell.executed]
    assert set(np.diff(stamps)) == {EMBODIMENT.period_ns}, "no interval is missing"
    acting = [Source(e.source) for e in cell.executed if e.source != Source.HOLD]  # a busy machine lets the played clock stand, and the arm holds
    turns = [source for source, before in zip(acting, [None, *acting], strict=False) if source != before]
    assert turns == [Source.POLICY, Source.HUMAN, Source.POLICY]
    steps = [
        way.state(BEGUN_NS + 1_000_000)[2] / RATE for command in cell.commands if (way := begun(trajectory_from_message(command, EMBODIMENT.joints.names)))
    ]
    measured("takeover and return, change of the commanded velocity from command to command", float(np.abs(steps).max()), ACCELERATION / RATE, "rad/s")
    measured("takeover and return, jump of the commanded velocity", largest_jump(cell.commands), ACCELERATION / RATE, "rad/s")


def largest_jump(messages):
    """rad/s by which the beginning of a command differs from the way of the command before, where that passes the same place."""
    ways = [begun(trajectory_from_message(message, EMBODIMENT.joints.names)) for message in messages]
    worst = 0.0
    for before, after in pairwise(ways):
        if before is None or after is None:
            continue
        q, v = after.sample(BEGUN_NS)
        passed = [before.sample(BEGUN_NS + at_ns) for at_ns in range(0, 100_000_000, 500_000)]
        away = np.array([np.abs(place - q).max() for place, _ in passed])
        # A way that turns around passes a place twice, there and back; the times looked at are as far apart as SAME_PLACE takes.
        there = [speed for (_, speed), distance in zip(passed, away, strict=True) if distance <= away.min() + SAME_PLACE]
        worst = max(worst, min(float(np.abs(speed - v).max()) for speed in there))
    return worst


BEGUN_NS = 1_000
SAME_PLACE = 1e-4  # rad


def begun(trajectory):
    """A controller on the way of a command that begins with a piece; None for other commands.

    The message does not hold the state at its beginning. Acceleration is constant in the piece and then linear in time, so the
    first two points tell it.
    """
    h = np.diff(trajectory.times_s)[0]
    if abs(trajectory.times_s[0] - PIECE_S) > 1e-6 or h > PIECE_S:
        return None
    (q1, q2), (v1, v2) = trajectory.positions[:2], trajectory.velocities[:2]
    a = 6.0 * (q2 - q1 - h * v1) / h**2 - 2.0 * (v2 - v1) / h
    q, v = q1 - PIECE_S * v1 + 0.5 * PIECE_S**2 * a, v1 - PIECE_S * a
    controller = TrajectoryController(q)
    times = BEGUN_NS * 1e-9 + np.concatenate([[0.0], trajectory.times_s])
    controller.set_trajectory(Trajectory(times, np.concatenate([q[None], trajectory.positions]), np.concatenate([v[None], trajectory.velocities])), 0)
    return controller
