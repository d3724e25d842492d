"""camera_node against cameras of all kinds."""

import array
import time

import cv2
import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds, stamp
from mechanic_rl_ros.nodes.camera_node import UNUSABLE_FRAMES
from mechanic_rl_ros.observe import Observer

EMBODIMENT = load_embodiment()
FRONT = EMBODIMENT.cameras["front"]
RNG = np.random.default_rng(0)


def picture(rows=64, columns=80):
    ramp = np.linspace(0, 255, rows * columns).reshape(rows, columns)
    return np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1).astype(np.uint8)


def image_message(data, encoding, time_ns, frame=FRONT.frame):
    message = Image(height=data.shape[0], width=data.shape[1], encoding=encoding, step=data.nbytes // data.shape[0])
    message.header.stamp, message.header.frame_id = stamp(time_ns), frame
    message.data = array.array("B", np.ascontiguousarray(data).tobytes())
    return message


class Cameras:
    """Sends raw images to the node and hears what it makes of them."""

    def __init__(self, ros):
        self.nodes, self.probe = ros
        self.process = self.nodes.start("camera_node")
        self.heard = self.probe.hear(Image, FRONT.topic, qos.SENSOR)
        self.raw = self.probe.speaker(Image, FRONT.raw_topic, qos.COMMAND)
        self.probe.wait_for(lambda: self.probe.node.count_publishers(FRONT.topic) > 0, "the camera node's publisher")
        self.now_ns = 10**9
        self._await_active()

    def _await_active(self):
        def say():
            self.now_ns += 10**8
            self.raw.publish(image_message(picture(), "rgb8", self.now_ns))
            self.probe.executor.spin_once(timeout_sec=0.05)
            return self.heard

        self.probe.wait_for(say, "the first image")
        self.probe.wait_for(lambda: nanoseconds(self.heard[-1].header.stamp) == self.now_ns, "the last of the first images")

    def answer(self, data, encoding, **changes):
        """The image that the node makes of ``data``."""
        self.now_ns += 10**8
        count = len(self.heard)
        self.raw.publish(image_message(data, encoding, self.now_ns, **changes))
        self.probe.wait_for(lambda: len(self.heard) > count or self.process.ended(), "an image")
        return self.heard[-1] if len(self.heard) > count else None


@pytest.fixture(scope="module")
def cameras(shared_ros):
    return Cameras(shared_ros)


def pixels(message):
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def test_an_image_is_cropped_and_resized_as_offline_and_keeps_stamp_and_frame(cameras):
    raw = picture()
    message = cameras.answer(raw, "rgb8")
    assert np.array_equal(pixels(message), Observer(EMBODIMENT).image("front", raw))
    assert (message.height, message.width, message.encoding) == (FRONT.height, FRONT.width, "rgb8")
    assert nanoseconds(message.header.stamp) == cameras.now_ns
    assert message.header.frame_id == FRONT.frame


def test_rows_may_be_padded(cameras):
    raw = picture()
    padded = np.concatenate([raw.reshape(64, 240), np.full((64, 16), 77, np.uint8)], axis=1)
    message = image_message(padded, "rgb8", 0)
    cameras.now_ns += 10**8
    message.width, message.header.stamp = 80, stamp(cameras.now_ns)
    count = len(cameras.heard)
    cameras.raw.publish(message)
    cameras.probe.wait_for(lambda: len(cameras.heard) > count, "an image")
    assert np.array_equal(pixels(cameras.heard[-1]), Observer(EMBODIMENT).image("front", raw))


@pytest.mark.parametrize(
    ("encoding", "convert"),
    [
        ("bgr8", lambda rgb: rgb[..., ::-1]),
        ("rgba8", lambda rgb: np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 9, np.uint8)], axis=-1)),
        ("bgra8", lambda rgb: np.concatenate([rgb[..., ::-1], np.full((*rgb.shape[:2], 1), 9, np.uint8)], axis=-1)),
    ],
)
def test_other_orders_of_colours_give_the_same_image(cameras, encoding, convert):
    raw = picture()
    assert np.array_equal(pixels(cameras.answer(convert(raw), encoding)), Observer(EMBODIMENT).image("front", raw))


def test_a_grey_image_gives_three_equal_colours(cameras):
    grey = picture()[..., 0]
    expected = Observer(EMBODIMENT).image("front", np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(pixels(cameras.answer(grey, "mono8")), expected)


def test_sixteen_bits_per_colour_become_eight(cameras):
    raw = picture()
    result = pixels(cameras.answer(raw.astype(np.uint16) * 257, "rgb16"))
    assert np.abs(result.astype(int) - Observer(EMBODIMENT).image("front", raw)).max() <= 1


def test_single_images_that_cannot_be_used_are_dropped_and_told(cameras):
    levels = cameras.probe.hear(DiagnosticArray, "/diagnostics", 10)
    count = len(cameras.heard)
    for _ in range(3):
        for _ in range(UNUSABLE_FRAMES - 1):
            cameras.now_ns += 10**8
            cameras.raw.publish(image_message(picture(), "rgb8", cameras.now_ns, "some_other_frame"))
        cameras.answer(picture(), "rgb8")
    assert len(cameras.heard) == count + 3
    assert not cameras.process.ended()
    cameras.probe.wait_for(lambda: any("some_other_frame" in status.message for array in levels for status in array.status), "the word on it")


def test_a_frame_that_comes_out_of_order_is_dropped(cameras):
    count = len(cameras.heard)
    late = image_message(picture(), "rgb8", cameras.now_ns - 5 * 10**7)
    again = image_message(picture(), "rgb8", cameras.now_ns)
    cameras.raw.publish(late)
    cameras.raw.publish(again)
    cameras.answer(picture(), "rgb8")
    assert [nanoseconds(message.header.stamp) for message in cameras.heard[count:]] == [cameras.now_ns]


def test_a_clock_that_starts_anew_is_followed(cameras):
    cameras.now_ns = 10**8
    assert nanoseconds(cameras.answer(picture(), "rgb8").header.stamp) == cameras.now_ns


@pytest.mark.parametrize(
    ("data", "encoding", "frame", "words"),
    [
        (picture(), "rgb9", FRONT.frame, ["camera front", "'rgb9'", "set the driver to"]),
        (picture(), "rgb8", "some_other_frame", ["camera front", "'some_other_frame'", FRONT.frame]),
        (picture()[..., 0].astype(np.float32), "32FC1", FRONT.frame, ["camera front", "32FC1", "set the driver to"]),
    ],
    ids=["unknown encoding", "wrong frame", "depth image"],
)
def test_an_image_that_cannot_be_used_ends_the_node_with_one_line(ros, data, encoding, frame, words):
    nodes, probe = ros
    process = nodes.start("camera_node")
    raw = probe.speaker(Image, FRONT.raw_topic, qos.COMMAND)
    sent = iter(range(10**9, 10**12, 10**8))
    probe.every(0.05, lambda: raw.publish(image_message(data, encoding, next(sent), frame)))
    probe.wait_for(process.ended, "the end of camera_node")
    assert process.status() == 1
    line = process.output.strip()
    assert "\n" not in line
    assert line.startswith("camera_node: error: ")
    for word in words:
        assert word in line


class Compressed:
    """A driver that sends compressed images, and the node that gets them."""

    TOPIC = "camera/front/image_raw/compressed"

    def __init__(self, ros, folder):
        nodes, self.probe = ros
        embodiment = EMBODIMENT.to_dict()
        embodiment["cameras"]["front"]["raw_topic"] = self.TOPIC
        (folder / "compressed.yaml").write_text(yaml.safe_dump(embodiment))
        self.process = nodes.start("camera_node", embodiment=folder / "compressed.yaml")
        self.heard = self.probe.hear(Image, FRONT.topic, qos.SENSOR)
        self.raw = self.probe.speaker(CompressedImage, self.TOPIC, qos.COMMAND)
        self.now_ns = 10**9

    def send(self, kind, data):
        self.now_ns += 10**8
        message = CompressedImage(format=kind, data=array.array("B", data))
        message.header.stamp, message.header.frame_id = stamp(self.now_ns), FRONT.frame
        self.raw.publish(message)

    def answer(self, picture, suffix):
        """The image that the node makes of ``picture`` (RGB or grey)."""
        data = cv2.imencode(suffix, picture[..., ::-1] if picture.ndim == 3 else picture)[1].tobytes()
        before = self.now_ns
        timer = self.probe.every(0.05, lambda: self.send(suffix[1:], data))
        image = self.probe.wait_for(lambda: next((image for image in self.heard if nanoseconds(image.header.stamp) > before), None), "an image")
        self.probe.node.destroy_timer(timer)
        return pixels(image)


def test_compressed_images_are_taken_in_colour_and_in_grey(ros, tmp_path):
    compressed = Compressed(ros, tmp_path)
    raw = picture()
    grey = np.repeat(raw[..., :1], 3, axis=2)
    observer = Observer(EMBODIMENT)
    assert np.array_equal(compressed.answer(raw, ".png"), observer.image("front", raw))
    assert np.abs(compressed.answer(raw, ".jpg").astype(int) - observer.image("front", raw)).mean() < 8, "JPEG loses a little"
    compressed.send("png", b"")
    assert np.array_equal(compressed.answer(raw[..., 0], ".png"), observer.image("front", grey))


def test_a_compressed_image_that_cannot_be_read_ends_the_node_with_one_line(ros, tmp_path):
    compressed = Compressed(ros, tmp_path)
    compressed.probe.every(0.05, lambda: compressed.send("jpeg", b"no picture at all"))
    compressed.probe.wait_for(compressed.process.ended, "the end of camera_node")
    assert compressed.process.status() == 1
    line = compressed.process.output.strip().splitlines()[-1]
    assert line.startswith("camera_node: error: camera front: compressed image 'jpeg' cannot be converted")
    assert line.endswith("set the driver to jpeg or png of 8 bits")


def test_the_rate_of_a_camera_is_told_and_one_that_is_too_slow_is_warned_of(ros):
    nodes, probe = ros
    nodes.start("camera_node", use_sim_time=True)
    clock, raw = probe.speaker(Clock, "/clock", qos.SENSOR), probe.speaker(Image, FRONT.raw_topic, qos.COMMAND)
    diagnostics = probe.hear(DiagnosticArray, "/diagnostics", 10)
    now_ns, step_ns = 10**9, 2 * 10**8

    def take_picture():
        nonlocal now_ns
        now_ns += step_ns
        clock.publish(Clock(clock=stamp(now_ns)))
        raw.publish(image_message(picture(), "rgb8", now_ns))

    def told(rate, slow):
        statuses = [
            status for array in diagnostics for status in array.status if {"front_rate": rate}.items() <= {v.key: v.value for v in status.values}.items()
        ]
        return statuses and slow == ("camera front gives 5.0 frames per second, the policy wants 10" in statuses[-1].message)

    probe.every(0.05, take_picture)
    probe.wait_for(lambda: told("5.0", slow=True), "the warning")
    step_ns = 10**8
    probe.wait_for(lambda: told("10.0", slow=False), "the all-clear")


def test_images_from_the_future_are_not_passed_on_and_told_until_the_clocks_agree(ros):
    nodes, probe = ros
    nodes.start("camera_node")
    heard, raw = probe.hear(Image, FRONT.topic, qos.SENSOR), probe.speaker(Image, FRONT.raw_topic, qos.COMMAND)
    diagnostics = probe.hear(DiagnosticArray, "/diagnostics", 10)
    ahead_ns = 30 * 10**9

    def take_picture():
        raw.publish(image_message(picture(), "rgb8", time.time_ns() + ahead_ns))

    def told():
        return next((s for array in diagnostics for s in array.status if "camera front: its images are stamped" in s.message), None)

    probe.every(0.05, take_picture)
    complaint = probe.wait_for(told, "the word on it")
    assert complaint.level == DiagnosticStatus.ERROR, "no episode begins"
    assert "s ahead of this machine's clock: set the clocks of the machines alike" in complaint.message
    assert "front has sent nothing" not in complaint.message
    assert not heard
    ahead_ns = 0
    probe.wait_for(lambda: heard, "an image")
