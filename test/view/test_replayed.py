"""A recorded episode as a person would have seen it."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from mechanic_rl_ros.data import Source
from mechanic_rl_ros.embodiment import Channel, load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.rollout import record_episode
from mechanic_rl_ros.safety.kinematics import DOWNWARD, Kinematics
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.sim.environment import Environment
from mechanic_rl_ros.view.colours import OBJECT
from mechanic_rl_ros.view.picture import draw_view
from mechanic_rl_ros.view.replayed import AHEAD, postures, recorded_chunks, scene_at_start, tool_path

EMBODIMENT = load_embodiment()
SEED = 5


@pytest.fixture(scope="module")
def env():
    return Environment("lift", EMBODIMENT)


@pytest.fixture(scope="module")
def episode(env):
    """The expert's, in a scene that demonstrations do not use."""
    return record_episode(env, lambda _: env.expert(), SEED, "lift-expert", source=Source.EXPERT)


def test_a_posture_puts_the_tool_where_it_was_recorded_with_the_hand_pointing_down(episode):
    tool = tool_path(episode)
    kinematics = Kinematics(EMBODIMENT)
    for q, position in zip(postures(EMBODIMENT, tool), tool, strict=True):
        reached, rotation = kinematics.tcp(q)
        assert reached == pytest.approx(position, abs=1e-4)
        assert rotation == pytest.approx(DOWNWARD, abs=1e-3)


def test_an_episode_that_does_not_tell_where_the_tool_was_is_refused(episode):
    blind = replace(EMBODIMENT, state=tuple(Channel(f"force_{index}", "N", "") for index in range(4)))
    with pytest.raises(UserError, match="a view needs tcp_x"):
        tool_path(replace(episode, embodiment=blind))


def test_object_and_goal_are_those_of_the_scene_that_the_first_images_show(env, episode):
    env.reset(SEED)
    true = env.simulation.task_state()
    found = scene_at_start(episode)
    assert found.object_position == pytest.approx(true.object_position)
    assert found.goal == pytest.approx(true.goal)


def test_of_another_scene_nothing_is_claimed(episode):
    assert scene_at_start(replace(episode, seed=SEED + 1)) is None
    assert scene_at_start(replace(episode, task="unscrew_a_jar")) is None


def test_what_was_done_is_cut_into_plans(episode):
    plans = recorded_chunks(episode)
    assert list(plans) == list(range(0, episode.steps, AHEAD))
    assert plans[AHEAD][0].stamp_ns == episode.stamps_ns[AHEAD]
    assert (plans[AHEAD][0].actions == episode.actions[AHEAD : 2 * AHEAD]).all()


def test_the_picture_shows_table_and_object(episode, tmp_path):
    draw_view(episode, recorded_chunks(episode), SafetyLimits(table_height=0.0), tmp_path / "with.png")
    draw_view(replace(episode, seed=SEED + 1), {}, SafetyLimits(), tmp_path / "without.png")
    full, bare = (imread(tmp_path / name)[:, :880, :3] for name in ("with.png", "without.png"))  # left of the camera's images
    brown = [np.mean((picture[..., 0] - picture[..., 2] > 0.05) & (picture[..., 0] - picture[..., 2] < 0.2)) for picture in (full, bare)]
    blue = [np.sum(np.abs(picture - np.array(OBJECT[:3])).max(axis=-1) < 0.1) for picture in (full, bare)]
    assert brown[0] > 0.1 > 0.01 > brown[1]
    assert blue[0] > 2 * blue[1], "one in the legend, one on the table; the executed path is blue, too"
    assert (tmp_path / "with.png").stat().st_size < 300_000
