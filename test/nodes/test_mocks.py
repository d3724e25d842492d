"""Mocks do what their help says."""

import subprocess

import numpy as np
import pytest
from ament_index_python.packages import get_package_prefix
from sensor_msgs.msg import Image

from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds

TOPIC, FRAME = "camera/front/image_raw", "camera_front_optical_frame"


def frames(ros, count=4, **parameters):
    """The first images of a camera, and how old each was when it arrived, s."""
    ages = []
    images = ros[1].hear(
        Image, TOPIC, qos.SENSOR, lambda image: ages.append((ros[1].node.get_clock().now().nanoseconds - nanoseconds(image.header.stamp)) * 1e-9)
    )
    ros[0].start("mock_camera", **parameters)
    ros[1].wait_for(lambda: len(images) >= count, "images")
    return images, ages


def pixels(image):
    return np.frombuffer(image.data, np.uint8)


def test_a_camera_without_faults_shows_a_moving_picture(ros):
    images, _ = frames(ros, size=32)
    assert (images[0].height, images[0].width, images[0].encoding, images[0].header.frame_id) == (32, 32, "rgb8", FRAME)
    assert not np.array_equal(pixels(images[0]), pixels(images[1]))


def test_a_frozen_camera_shows_one_picture_with_live_stamps(ros):
    images, _ = frames(ros, freeze=True)
    assert np.array_equal(pixels(images[0]), pixels(images[-1]))
    assert nanoseconds(images[0].header.stamp) < nanoseconds(images[-1].header.stamp)


def test_stamps_may_lie_in_the_past_or_in_the_future(ros):
    assert min(frames(ros, delay=100.0)[1]) >= 100.0
    ros[0].stop()
    assert max(frames(ros, ahead=1000.0)[1]) < 0.0


def test_frames_may_be_of_another_camera(ros):
    images, _ = frames(ros, wrong_frame=True, wrong_size=True)
    assert images[0].header.frame_id != FRAME
    assert images[0].height == 32


@pytest.mark.parametrize("mock", ["mock_franka", "mock_controllers", "mock_camera"])
def test_help_says_what_there_is_to_set(mock):
    text = subprocess.run([f"{get_package_prefix('mechanic_rl_ros')}/lib/mechanic_rl_ros/{mock}", "--help"], capture_output=True, text=True, check=True).stdout
    assert text.startswith(f"{mock}: plays ")
    assert "Parameters" in text
