"""Where cameras and links are, compared with MuJoCo's own reading of the scene."""

import mujoco
import numpy as np
import pytest

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.sim.environment import Environment
from mechanic_rl_ros.view.cameras import load_cameras
from mechanic_rl_ros.view.colours import planned_colours
from mechanic_rl_ros.view.links import in_base, link_frames, quaternion
from mechanic_rl_ros.view.overlay import SMALLEST, Overlay

EMBODIMENT = load_embodiment()


@pytest.fixture(scope="module")
def env():
    return Environment("lift", EMBODIMENT)


@pytest.fixture(scope="module")
def poses(env):
    """Of the frames of an arm somewhere, as we compute them; MuJoCo's are in ``env``."""
    simulation = env.simulation
    simulation.reset(0)
    simulation.data.qpos[:7] = [0.3, 0.4, -0.5, -1.9, 0.6, 1.2, -0.7]
    mujoco.mj_kinematics(simulation.model, simulation.data)
    mujoco.mj_camlight(simulation.model, simulation.data)
    reading = simulation.joint_state()
    return in_base(link_frames(EMBODIMENT, reading.positions, reading.finger))


def test_every_link_is_where_mujoco_has_it(env, poses):
    data, model = env.simulation.data, env.simulation.model
    bodies = [f"fr3_link{number}" for number in range(1, 9)] + ["fr3_hand", "fr3_leftfinger", "fr3_rightfinger"]
    for name in bodies:
        body = model.body(name).id
        assert poses[name][:3, 3] == pytest.approx(data.xpos[body], abs=1e-6), name
        assert poses[name][:3, :3] == pytest.approx(data.xmat[body].reshape(3, 3), abs=1e-6), name
        x, y, z, w = quaternion(poses[name][:3, :3])
        assert abs(np.dot([w, x, y, z], data.xquat[body])) == pytest.approx(1.0, abs=1e-6), name
    assert poses["fr3_hand_tcp"][:3, 3] == pytest.approx(data.site("fr3_hand_tcp").xpos, abs=1e-6)


def test_the_cameras_of_the_file_are_those_of_the_simulation(env, poses):
    data, model = env.simulation.data, env.simulation.model
    for key, view in load_cameras("fr3").items():
        camera = model.camera(key).id
        pose = poses[view.parent] @ view.pose
        assert pose[:3, 3] == pytest.approx(data.cam_xpos[camera], abs=1e-4)
        optical = data.cam_xmat[camera].reshape(3, 3) * [1.0, -1.0, -1.0]
        assert pose[:3, :3] == pytest.approx(optical, abs=1e-3)
        assert np.degrees(view.field_of_view) == pytest.approx(model.cam_fovy[camera])


def test_a_point_is_projected_to_where_the_camera_sees_it(env):
    """The red cube, found in the rendered image by its colour."""
    observation = env.reset(3)
    poses = in_base(link_frames(EMBODIMENT, env.simulation.joint_state().positions, 0.04))
    for key, view in load_cameras("fr3").items():
        image = observation.images[key].astype(int)
        rows, columns = np.nonzero(image[..., 0] - image[..., 1:].max(axis=-1) > 60)
        pixels, ahead = view.project(env.simulation.task_state().object_position[None], poses[view.parent], *image.shape[:2])
        assert ahead.all()
        assert pixels[0] == pytest.approx([columns.mean() + 0.5, rows.mean() + 0.5], abs=1.5), key


def test_what_is_behind_a_camera_is_not_seen():
    view = load_cameras("fr3")["front"]
    _, ahead = view.project(np.array([[1.5, 0.0, 0.6], [0.5, 0.0, 0.1]]), np.eye(4), 48, 48)
    assert ahead.tolist() == [False, True]


@pytest.mark.parametrize(
    "text", ["front: 3", "front: {parent: a}", "front: {parent: a, position: [0, 0, 0], right: [0, 1, 0], up: [0, 1, 0], field_of_view: 60}", "- 1", "a: ["]
)
def test_a_malformed_file_of_cameras_is_refused_with_one_line(tmp_path, text):
    (tmp_path / "cameras.yaml").write_text(text)
    with pytest.raises(UserError, match=r"are malformed .*compare them with|is not valid YAML") as caught:
        load_cameras(tmp_path / "cameras.yaml")
    assert "\n" not in str(caught.value)


def test_an_embodiment_without_a_file_of_cameras_has_none():
    assert load_cameras("somebody_elses_robot") == {}


def test_the_overlay_keeps_what_the_camera_sees_and_draws_the_path_over_it():
    image = np.full((48, 48, 3), 90, np.uint8)
    path = np.stack([np.linspace(10.0, 40.0, 8), np.full(8, 24.0)], axis=1)
    overlay = Overlay()
    plain = overlay.draw(image, ["episode 3: running"])
    drawn = overlay.draw(image, ["episode 3: running"], "limits: jerk", path, planned_colours(np.zeros(8, bool)))
    assert plain.shape == drawn.shape
    assert (plain[:SMALLEST] == 90).all()
    changed = (drawn[:SMALLEST] != 90).any(axis=-1)
    assert changed[115:126, 60:190].any(axis=0).all()
    assert not changed[:110].any()
    contrast = np.abs(drawn[:SMALLEST].astype(int) - 90).sum(axis=-1).max(axis=0)
    assert contrast[60] > contrast[190] > 0, "it fades towards the future"
    assert (drawn[SMALLEST:, :, 0].astype(int) - drawn[SMALLEST:, :, 1] > 100).any(), "limits in red"
