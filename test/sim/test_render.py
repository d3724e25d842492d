from concurrent.futures import ThreadPoolExecutor
from threading import get_ident

import mujoco
import numpy as np
import pytest

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.sim.render import BACKGROUND, MujocoRenderer, RayRenderer, make_renderer

SCENE = """
<mujoco>
  <visual><headlight ambient="0.4 0.4 0.4" diffuse="0.5 0.5 0.5"/></visual>
  <worldbody>
    <light directional="true" dir="0 0 -1" diffuse="0.1 0.1 0.1"/>
    <camera name="top" pos="0 0 2" fovy="90"/>
    <geom type="box" size="0.5 0.25 0.1" pos="0.5 0.25 0.9" rgba="0.5 0.25 0 1"/>
    <geom type="sphere" size="0.3" pos="-1 -1 1" rgba="0 0 1 1" group="3"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def scene():
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_a_surface_appears_where_it_is_with_its_own_colour(scene):
    model, data = scene
    image = RayRenderer(model, 64).render(data, "top")
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    background = (np.array(BACKGROUND) * 255).astype(np.uint8)
    top_right, others = image[16:32, 32:], np.ma.array(image)
    # The top of the box, 1 m below the camera: 1 m of 2 m wide, half a metre of 2 m high, right of and above the middle.
    assert (top_right[4:, 4:28, 0] > 80).all()
    assert np.abs(top_right[..., 0].astype(int) - 2 * top_right[..., 1].astype(int)).max() <= 1
    others[16:33, 31:] = np.ma.masked
    assert (others == background).all()


def test_a_surface_that_is_seen_from_the_front_is_brighter_than_one_seen_from_the_side(scene):
    model, data = scene
    image = RayRenderer(model, 64).render(data, "top")
    facing, oblique = image[30, 34, 0], image[18, 62, 0]
    assert facing == pytest.approx(0.5 * 255, abs=3)  # 0.4 ambient + 0.5 head light + 0.1 lamp, all from straight above
    assert oblique < facing


def test_a_mirror_image_is_not_what_the_camera_sees(simulation):
    simulation.data.qpos[simulation.task._address : simulation.task._address + 2] = [0.5, 0.2]
    mujoco.mj_forward(simulation.model, simulation.data)
    for camera, row_order in (("front", 1), ("wrist", -1)):
        red = _red(simulation.render(camera))
        columns = np.nonzero(red)[1]
        # The front camera looks back at the base and sees the base's left on its right; the wrist camera looks along with it.
        assert (columns.mean() > 32) == (row_order == 1)


def test_cube_fingers_and_table_can_be_told_apart(simulation):
    for camera in ("front", "wrist"):
        image = simulation.render(camera)
        assert _red(image).sum() >= 8
        assert _blue(image).sum() >= 4
        assert _brown(image).sum() > 1000


def test_images_are_the_same_every_time(simulation):
    assert np.array_equal(simulation.render("wrist"), simulation.render("wrist"))


def test_an_unknown_camera_is_refused_with_the_known_ones(simulation):
    with pytest.raises(UserError, match="front, wrist"):
        simulation.render("side")


def test_an_unknown_renderer_is_refused_with_the_known_ones(scene):
    with pytest.raises(UserError, match="mujoco, rays"):
        make_renderer("raytracer", scene[0], 64)


def test_without_a_graphics_library_the_other_renderer_says_what_to_do(scene, monkeypatch):
    def fail(*_):
        raise RuntimeError("no EGL\nsecond line")

    monkeypatch.setattr(mujoco, "Renderer", fail)
    with pytest.raises(UserError, match=r"no EGL\): use renderer=rays"):
        MujocoRenderer(scene[0], 64).render(scene[1], "top")


def test_a_graphics_context_is_opened_and_closed_by_the_thread_that_renders(scene, monkeypatch):
    model, data = scene
    uses = []

    class Recorded:
        def __init__(self, *_):
            uses.append(("open", get_ident()))

        def update_scene(self, *_, **__):
            pass

        def render(self):
            uses.append(("render", get_ident()))
            return np.zeros((64, 64, 3), np.uint8)

        def close(self):
            uses.append(("close", get_ident()))

    def work():
        for _ in range(2):
            renderer.render(data, "top")
        renderer.close()
        return get_ident()

    monkeypatch.setattr(mujoco, "Renderer", Recorded)
    renderer = MujocoRenderer(model, 64)
    workers = []
    for _ in range(2):
        with ThreadPoolExecutor(1) as pool:
            workers.append(pool.submit(work).result())
    assert uses == [(use, worker) for worker in workers for use in ("open", "render", "render", "close")]


def _red(image):
    red, green, blue = image[..., 0].astype(int), image[..., 1].astype(int), image[..., 2].astype(int)
    return red > 2 * np.maximum(green, blue) + 40


def _blue(image):
    red, blue = image[..., 0].astype(int), image[..., 2].astype(int)
    return blue > 2 * red + 20


def _brown(image):
    red, green, blue = image[..., 0].astype(int), image[..., 1].astype(int), image[..., 2].astype(int)
    return (red > blue + 30) & (red < 2 * blue) & (green > blue)
