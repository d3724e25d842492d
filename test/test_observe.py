from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.observe import Observer, crop, resize
from mechanic_rl_ros.safety.reading import JointReading

EMBODIMENT = load_embodiment()
sizes = st.integers(1, 70)


def noise(rows, columns):
    return np.random.default_rng(rows * 1000 + columns).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


def test_an_image_of_the_right_size_is_left_as_it_is():
    image = noise(48, 48)
    assert np.array_equal(resize(image, 48, 48), image)


def test_half_the_size_is_the_mean_of_two_by_two_pixels():
    image = noise(96, 96)
    means = image.reshape(48, 2, 48, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(resize(image, 48, 48) - means).max() <= 0.5


@given(sizes, sizes, sizes, sizes)
@settings(max_examples=60, deadline=None)
def test_resizing_weighs_every_pixel_by_the_area_that_it_covers(rows, columns, height, width):
    image = noise(rows, columns)
    tall = np.repeat(image.astype(float), height, axis=0).reshape(height, rows, columns, 3).mean(axis=1)
    exact = np.repeat(tall, width, axis=1).reshape(height, width, columns, 3).mean(axis=2)
    assert np.abs(resize(image, height, width) - exact).max() <= 0.501


@given(sizes, sizes, st.integers(0, 255))
@settings(max_examples=30, deadline=None)
def test_a_plain_image_stays_plain(rows, columns, value):
    assert (resize(np.full((rows, columns, 3), value, dtype=np.uint8), 48, 48) == value).all()


def test_a_wide_image_is_cropped_about_its_centre():
    image = np.zeros((480, 640, 3), dtype=np.uint8)
    image[:, 80:560] = 200
    assert crop(image, 48, 48).shape == (480, 480, 3)
    assert (crop(image, 48, 48) == 200).all()
    assert crop(image.transpose(1, 0, 2), 48, 48).shape == (480, 480, 3)
    assert crop(image, 48, 64).shape == (480, 640, 3)


def test_the_state_is_the_tool_centre_point_and_the_finger():
    reading = JointReading(0, np.array(EMBODIMENT.joints.home), np.zeros(7), np.zeros(7), 0.031, 0.0)
    state = Observer(EMBODIMENT).state(reading)
    assert state == pytest.approx([0.47, 0.0, 0.25, 0.031], abs=1e-5)
    assert state.dtype == np.float32


def test_an_observation_has_every_camera_in_its_size_and_the_stamp_of_the_images():
    reading = JointReading(5, np.array(EMBODIMENT.joints.home), np.zeros(7), np.zeros(7), 0.04, 0.0)
    observation = Observer(EMBODIMENT).observation(7, {"wrist": noise(64, 64), "front": noise(480, 640)}, reading)
    assert observation.stamp_ns == 7
    assert {key: image.shape for key, image in observation.images.items()} == {"front": (48, 48, 3), "wrist": (48, 48, 3)}


@pytest.mark.parametrize("image", [np.zeros((64, 64, 3)), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((0, 64, 3), np.uint8)])
def test_what_is_not_an_rgb_image_of_8_bits_is_refused(image):
    with pytest.raises(UserError, match="RGB"):
        Observer(EMBODIMENT).image("front", image)


def test_an_unknown_camera_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="front, wrist"):
        Observer(EMBODIMENT).image("side", noise(64, 64))


def test_a_camera_that_is_not_square_keeps_its_proportions():
    cameras = {**EMBODIMENT.cameras, "front": replace(EMBODIMENT.cameras["front"], height=36, width=64)}
    image = Observer(replace(EMBODIMENT, cameras=cameras)).image("front", noise(480, 640))
    assert image.shape == (36, 64, 3)
