"""The path that an action chunk leads along."""

from dataclasses import replace

import numpy as np
import pytest

from mechanic_rl_ros.data import ActionChunk
from mechanic_rl_ros.embodiment import Channel, load_embodiment
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.view.planned import PlannedPath

EMBODIMENT = load_embodiment()
HOME = np.array(EMBODIMENT.joints.home)
TOOL = Kinematics(EMBODIMENT).tcp(HOME)[0]
START_NS = 10**9


def chunk_of(actions, embodiment=EMBODIMENT):
    return ActionChunk(START_NS, embodiment.period_ns, np.array(actions, np.float32))


def with_joints(kind, scale):
    channels = [Channel(f"joint{number}_{kind}", "rad", "", scale) for number in range(1, 8)]
    return replace(EMBODIMENT, action=(*channels, EMBODIMENT.action[-1]))


def test_a_constant_chunk_leads_along_a_straight_line_of_the_right_length():
    points, _ = PlannedPath(EMBODIMENT)(chunk_of([[0.5, 0.0, -0.5, -1.0]] * 5), START_NS, HOME)
    step = 0.5 * EMBODIMENT.action[0].scale * EMBODIMENT.period
    assert points == pytest.approx(TOOL + np.arange(6)[:, None] * np.array([step, 0.0, -step]))


def test_the_path_ends_at_the_wall_and_goes_on_along_it():
    points, _ = PlannedPath(EMBODIMENT)(chunk_of([[1.0, 0.2, 0.0, -1.0]] * 16), START_NS, HOME)
    assert points[-1, 0] == EMBODIMENT.workspace.high[0]
    assert (points[:, 0] <= EMBODIMENT.workspace.high[0]).all()
    assert (np.diff(points[:, 1]) > 0.0).all()


def test_outside_of_the_box_the_path_leads_no_further_out():
    inside = replace(EMBODIMENT, workspace=replace(EMBODIMENT.workspace, high=(0.40, 0.30, 0.45)))
    points, _ = PlannedPath(inside)(chunk_of([[1.0, 0.0, 0.0, -1.0]] * 2 + [[-1.0, 0.0, 0.0, -1.0]] * 2), START_NS, HOME)
    assert points[:3, 0] == pytest.approx(TOOL[0])
    assert points[-1, 0] == pytest.approx(TOOL[0] - 0.06)


def test_only_what_is_left_of_a_chunk_is_planned():
    now_ns = START_NS + round(2.25 * EMBODIMENT.period_ns)
    points, _ = PlannedPath(EMBODIMENT)(chunk_of([[1.0, 0.0, 0.0, -1.0]] * 4), now_ns, HOME)
    assert np.diff(points[:, 0]) == pytest.approx([0.75 * 0.03, 0.03])


def test_nothing_is_left_of_a_chunk_that_is_over_or_is_no_number():
    planned = PlannedPath(EMBODIMENT)
    over, _ = planned(chunk_of([[1.0, 0.0, 0.0, -1.0]] * 4), START_NS + 4 * EMBODIMENT.period_ns, HOME)
    broken, _ = planned(chunk_of([[np.nan, 0.0, 0.0, -1.0]] * 4), START_NS, HOME)
    assert len(over) == len(broken) == 1


def test_a_chunk_that_begins_later_is_planned_whole():
    points, _ = PlannedPath(EMBODIMENT)(chunk_of([[1.0, 0.0, 0.0, -1.0]] * 4), START_NS - 10**8, HOME)
    assert len(points) == 5


def test_the_hand_is_closed_where_the_chunk_says_so():
    _, closed = PlannedPath(EMBODIMENT)(chunk_of([[0.1, 0.0, 0.0, -1.0]] * 2 + [[0.1, 0.0, 0.0, 1.0]] * 2), START_NS, HOME)
    assert closed.tolist() == [False, False, False, True, True]


def test_displacements_of_the_tool_are_added_up():
    moved = replace(EMBODIMENT, action=(*(Channel(f"tcp_delta_{axis}", "m", "fr3_link0", 0.02) for axis in "xyz"), EMBODIMENT.action[-1]))
    points, _ = PlannedPath(moved)(chunk_of([[0.5, 0.0, 0.0, -1.0]] * 3), START_NS, HOME)
    assert points[:, 0] == pytest.approx(TOOL[0] + 0.01 * np.arange(4))


def test_joint_velocities_and_positions_lead_where_the_joints_lead():
    goal = HOME + 0.1 * np.ones(7)
    turning = with_joints("velocity", 1.0)
    points, _ = PlannedPath(turning)(chunk_of([[0.5] * 7 + [-1.0]] * 2, turning), START_NS, HOME)
    assert points[-1] == pytest.approx(Kinematics(EMBODIMENT).tcp(goal)[0], abs=1e-6)
    placed = with_joints("position", 0.2)
    points, _ = PlannedPath(placed)(chunk_of([[0.0] * 7 + [-1.0], [0.5] * 7 + [-1.0]], placed), START_NS, HOME)
    assert points == pytest.approx(np.stack([TOOL, TOOL, Kinematics(EMBODIMENT).tcp(goal)[0]]), abs=1e-6)
