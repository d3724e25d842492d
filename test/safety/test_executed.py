"""What was executed is told interval by interval."""

import numpy as np
import pytest

from mechanic_rl_ros.data import Source
from mechanic_rl_ros.safety.command import Command
from mechanic_rl_ros.safety.executed import ExecutedActions

STEP, TICK = 100_000_000, 20_000_000
START = 7 * STEP


def command(action, source=Source.POLICY, version=1, best_of_n=False):
    return Command(None, None, np.array(action, np.float32), source, version, best_of_n, 0, "", 0, ())


def hold():
    return command([0, 0, 0, 0], Source.HOLD, 0)


@pytest.fixture
def executed():
    actions = ExecutedActions(4, STEP)
    actions.start(START)
    return actions


def play(executed, commands, start_ns=START):
    """One command per tick; all intervals that were closed."""
    return [interval for index, item in enumerate(commands) for interval in executed.add(start_ns + index * TICK, item)]


def test_velocities_are_the_mean_of_an_interval_and_the_gripper_its_last_value(executed):
    actions = [[0.1 * index, 0, -1, -1.0 if index < 4 else 1.0] for index in range(5)]
    (interval,) = play(executed, [command(action) for action in actions] + [hold()])
    assert interval.stamp_ns == START
    assert interval.action == pytest.approx([0.2, 0.0, -1.0, 1.0])
    assert interval.action.dtype == np.float32


def test_an_interval_is_closed_by_the_first_command_after_it(executed):
    assert play(executed, [command([1, 0, 0, 0])] * 5) == []
    assert len(executed.add(START + STEP, hold())) == 1


def test_holding_inside_an_interval_slows_the_mean(executed):
    (interval,) = play(executed, [command([1, 0, 0, -1])] * 2 + [hold()] * 3 + [hold()])
    assert interval.action[0] == pytest.approx(0.4)
    assert interval.source == Source.HOLD, "it acted longest"


def test_the_gripper_keeps_its_value_while_the_arm_holds(executed):
    intervals = play(executed, [command([0, 0, 0, 1])] * 5 + [hold()] * 11)
    assert [interval.action[3] for interval in intervals] == [1.0, 1.0, 1.0]
    assert intervals[1].source == Source.HOLD


def test_a_new_episode_begins_with_an_open_hand(executed):
    play(executed, [command([0, 0, 0, 1])] * 6)
    executed.start(START)
    (interval,) = play(executed, [hold()] * 6)
    assert interval.action.tolist() == [0, 0, 0, -1]


def test_a_gap_in_time_gives_intervals_in_which_the_arm_held(executed):
    play(executed, [command([1, 0, 0, -1])] * 5)
    intervals = executed.add(START + 4 * STEP, hold())
    assert [interval.stamp_ns for interval in intervals] == [START + index * STEP for index in range(4)]
    assert intervals[0].source == Source.POLICY
    assert all(interval.source == Source.HOLD and not interval.action[:3].any() for interval in intervals[1:])


def test_an_endless_gap_does_not_give_endless_intervals(executed):
    assert len(executed.add(START + 10**6 * STEP, hold())) <= 64
    (interval,) = executed.add(START + (10**6 + 1) * STEP, hold())
    assert interval.stamp_ns == START + 10**6 * STEP, "it goes on where the clock is"


def test_version_and_source_are_those_that_acted_longest(executed):
    commands = [command([0, 0, 0, 0], version=3)] * 2 + [command([0, 0, 0, 0], version=4, best_of_n=True)] * 3
    (interval,) = play(executed, [*commands, hold()])
    assert (interval.policy_version, interval.best_of_n, interval.source) == (4, True, Source.POLICY)
    (interval,) = play(executed, [command([0, 0, 0, 0], Source.HUMAN)] * 4 + [hold()], START + STEP + TICK)
    assert interval.source == Source.HUMAN


def test_what_is_before_the_start_or_after_the_end_does_not_count(executed):
    assert executed.add(START - TICK, command([1, 0, 0, 0])) == []
    (interval,) = play(executed, [hold()] * 6)
    assert not interval.action[:3].any()
    executed.stop()
    assert executed.add(START + 9 * STEP, hold()) == []
