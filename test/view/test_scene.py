"""What is known now, as shapes."""

from dataclasses import replace

import numpy as np
import pytest

from mechanic_rl_ros.data import ActionChunk
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.safety.limits import KeepOut, SafetyLimits
from mechanic_rl_ros.view.colours import LIMIT_WALL
from mechanic_rl_ros.view.executed import LONGEST, ExecutedPath
from mechanic_rl_ros.view.scene import NAMESPACES, Now, Scene, box_edges
from mechanic_rl_ros.view.shapes import FOREVER, Board, Kind, Shape
from mechanic_rl_ros.view.words import Words

EMBODIMENT = load_embodiment()
HOME = np.array(EMBODIMENT.joints.home)
BOUNDS = SafetyLimits(table_height=0.0, keep_out=(KeepOut("stand", (0.9, -0.1, 0.0), (1.1, 0.1, 0.6)), KeepOut("wall", (-0.6, -1.0, 0.0), (-0.5, 1.0, 1.0))))


def shapes_of(now, embodiment=EMBODIMENT):
    return {shape.key: shape for shape in Scene(embodiment, BOUNDS).shapes(now)}


def test_before_anything_is_heard_there_are_the_box_the_table_and_the_words():
    shapes = shapes_of(Now(words=Words(state="nothing heard yet")))
    assert {namespace for namespace, _ in shapes} == {"workspace", "table", "keep_out", "episode"}
    assert {shape.frame for shape in shapes.values()} == {"fr3_link0"}
    edges = shapes["workspace", 0].points
    assert (edges.min(axis=0).tolist(), edges.max(axis=0).tolist()) == ([*EMBODIMENT.workspace.low], [*EMBODIMENT.workspace.high])


def test_everything_that_is_known_is_shown_in_a_namespace_of_its_own():
    chunk = ActionChunk(0, EMBODIMENT.period_ns, np.full((8, 4), 0.3, np.float32))
    path = ExecutedPath()
    path.add(0, np.array([0.4, 0.0, 0.2]))
    path.add(10**9, np.array([0.5, 0.0, 0.2]))
    words = Words(3, "running", recent=[True, False], version=7, scales={"actor": 0.0125}, limited=["workspace", "jerk"])
    wide = replace(EMBODIMENT, workspace=replace(EMBODIMENT.workspace, high=(0.475, 0.30, 0.45)))
    shapes = shapes_of(Now(10**8, HOME, chunk, path, 0, 2 * 10**9, np.zeros(3), np.ones(3), words), wide)
    assert {namespace for namespace, _ in shapes} == set(NAMESPACES)
    assert shapes["episode", 100].text.splitlines() == ["episode 3: running", "1 of the last 2 solved", "policy version 7", "tuner: actor 0.013"]
    assert shapes["limits", 100].text == "limits: workspace, jerk"
    ahead = shapes["planned", 0]
    assert len(ahead.points) == len(ahead.colours) == 8, "one of eight actions is over"
    assert (np.diff(ahead.colours[:, 3]) < 0.0).all(), "it fades towards the future"


def test_the_wall_that_the_tool_is_at_acts_red_and_no_other():
    near = replace(EMBODIMENT, workspace=replace(EMBODIMENT.workspace, low=(0.46, -0.30, 0.018)))
    shapes = shapes_of(Now(joints=HOME, words=Words(limited=["workspace"])), near)
    walls = [shape for (namespace, _), shape in shapes.items() if namespace == "limits" and shape.kind is Kind.BOX]
    assert len(walls) == 1
    assert (walls[0].colour, walls[0].position[0]) == (LIMIT_WALL, pytest.approx(0.46))
    assert not any(shape.kind is Kind.BOX for (namespace, _), shape in shapes_of(Now(joints=HOME), near).items() if namespace == "limits")


def test_the_table_and_the_nearest_box_act_red():
    shapes = shapes_of(Now(joints=HOME, words=Words(limited=["table", "keep_out"])))
    red = {shape.position for shape in shapes.values() if shape.colour == LIMIT_WALL}
    assert red == {shapes["table", 0].position, shapes["keep_out", 0].position}


def test_a_box_has_twelve_edges_of_its_lengths():
    edges = box_edges(np.zeros(3), np.array([1.0, 2.0, 3.0])).reshape(12, 2, 3)
    assert sorted(np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1).tolist()) == [1.0] * 4 + [2.0] * 4 + [3.0] * 4


def test_a_long_episode_is_drawn_more_coarsely_and_whole():
    path = ExecutedPath()
    for index in range(1000):
        path.add(index, np.array([0.01 * index, 0.0, 0.0]))
    assert len(path.points) <= LONGEST
    assert (path.points[0, 0], path.stamps_ns[0]) == (0.0, 0)
    assert path.points[-1, 0] > 9.8
    path.start()
    assert len(path.points) == 0


def test_an_arm_that_rests_adds_no_points():
    path = ExecutedPath()
    for index in range(10):
        path.add(index, np.array([0.4, 0.0, 1e-4 * index]))
    assert len(path.points) == 1


def a_shape(number, lifetime_s):
    return Shape(Kind.SPHERE, "tool", number, "fr3_link0", (1.0, 1.0, 1.0, 1.0), lifetime_s=lifetime_s)


def test_what_is_no_longer_there_is_deleted_once():
    board = Board(repeat=100)
    board.update([a_shape(0, FOREVER), a_shape(1, 1.0)])
    assert board.update([a_shape(1, 1.0)])[1] == [("tool", 0)]
    assert board.update([a_shape(1, 1.0)])[1] == []


def test_what_stays_is_told_again_only_now_and_then():
    board = Board(repeat=3)
    sent = [[shape.id for shape in board.update([a_shape(0, FOREVER), a_shape(1, 1.0)])[0]] for _ in range(4)]
    assert sent == [[0, 1], [1], [1], [0, 1]]
