"""Measured latency, in actions."""

import pytest

from mechanic_rl_ros.latency import MeasuredLatency


@pytest.mark.parametrize(("seconds", "actions"), [(0.0, 0), (0.001, 1), (0.099, 1), (0.101, 2), (0.2, 2)])
def test_an_action_that_begins_before_its_chunk_is_ready_is_over(seconds, actions):
    measured = MeasuredLatency(0.1)
    assert measured.actions == 0
    measured.add(seconds)
    assert measured.actions == actions


def test_late_chunks_count_unless_they_are_very_rare_and_what_was_long_ago_is_forgotten():
    measured = MeasuredLatency(0.1)
    for _ in range(200):
        measured.add(0.05)
    measured.add(0.35)
    assert measured.actions == 1, "one in fifty"
    for _ in range(4):
        measured.add(0.35)
    assert measured.actions == 4, "one in ten"
    for _ in range(50):
        measured.add(0.05)
    assert measured.actions == 1


def test_a_stamp_ahead_of_the_clock_is_no_delay():
    measured = MeasuredLatency(0.1)
    measured.add(-0.25)
    assert measured.actions == 0
