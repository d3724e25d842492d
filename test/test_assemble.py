"""Images and joint states of one instant become one observation."""

import numpy as np
import pytest

from mechanic_rl_ros.assemble import PENDING, ObservationAssembler
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.observe import Observer
from mechanic_rl_ros.safety.reading import JointReading

EMBODIMENT = load_embodiment()
STEP = EMBODIMENT.period_ns
MS = 1_000_000
HOME = np.array(EMBODIMENT.joints.home)


def image(value):
    return np.full((48, 48, 3), value, np.uint8)


def reading(stamp_ns, finger=0.04):
    return JointReading(stamp_ns, HOME, np.zeros(7), np.zeros(7), finger, 0.0)


@pytest.fixture
def assembler():
    return ObservationAssembler(EMBODIMENT)


def test_two_cameras_and_a_joint_state_of_one_stamp_make_an_observation(assembler):
    assert assembler.add_reading(reading(STEP, 0.02)) is None
    assert assembler.add_image("front", STEP, image(1)) is None
    observation = assembler.add_image("wrist", STEP, image(2))
    assert observation.stamp_ns == STEP
    assert [observation.images[key][0, 0, 0] for key in ("front", "wrist")] == [1, 2]
    assert np.array_equal(observation.state, Observer(EMBODIMENT).state(reading(STEP, 0.02)))
    assert assembler.add_reading(reading(STEP + 1)) is None, "it is handed out once"


def test_cameras_that_are_a_little_apart_belong_together_and_the_first_gives_the_stamp(assembler):
    assembler.add_image("front", STEP, image(1))
    assembler.add_image("wrist", STEP + 30 * MS, image(2))
    assert assembler.add_reading(reading(STEP + 40 * MS)).stamp_ns == STEP


def test_cameras_half_a_period_apart_do_not_belong_together(assembler):
    assembler.add_reading(reading(5 * STEP))
    assembler.add_image("front", STEP, image(1))
    assert assembler.add_image("wrist", STEP + STEP // 2, image(2)) is None


def test_an_observation_waits_for_the_joint_state_of_its_instant(assembler):
    assembler.add_reading(reading(STEP - 20 * MS, 0.01))
    assembler.add_image("front", STEP, image(1))
    assert assembler.add_image("wrist", STEP, image(2)) is None, "a better joint state may still come"
    observation = assembler.add_reading(reading(STEP, 0.03))
    assert observation.state[3] == pytest.approx(0.03)


def test_of_many_joint_states_the_newest_that_is_not_newer_than_the_image_counts(assembler):
    for index in range(10):
        assembler.add_reading(reading(index * 20 * MS, 0.001 * index))
    assembler.add_image("front", STEP + 5 * MS, image(1))
    assert assembler.add_image("wrist", STEP + 5 * MS, image(2)).state[3] == pytest.approx(0.005)


def test_a_joint_state_that_is_a_little_too_new_is_better_than_none(assembler):
    assembler.add_reading(reading(STEP + 40 * MS, 0.02))
    assembler.add_image("front", STEP, image(1))
    assert assembler.add_image("wrist", STEP, image(2)).state[3] == pytest.approx(0.02)


def test_an_instant_of_which_an_image_never_came_is_dropped_and_counted(assembler):
    assembler.add_reading(reading(2 * STEP))
    assembler.add_image("front", STEP, image(1))
    assembler.add_image("front", 2 * STEP, image(2))
    observation = assembler.add_image("wrist", 2 * STEP, image(3))
    assert observation.stamp_ns == 2 * STEP
    assert assembler.dropped == 1


def test_a_camera_that_is_silent_does_not_fill_the_memory(assembler):
    for index in range(100):
        assert assembler.add_image("front", index * STEP, image(0)) is None
    assert assembler.dropped == 100 - PENDING


def test_every_instant_is_handed_out_once_and_in_order(assembler):
    stamps = []
    for index in range(1, 30):
        for part in (
            assembler.add_image("wrist", index * STEP, image(2)),
            assembler.add_reading(reading(index * STEP)),
            assembler.add_image("front", index * STEP, image(1)),
        ):
            stamps += [part.stamp_ns] if part else []
    assert stamps == [index * STEP for index in range(1, 30)]
    assert assembler.dropped == 0


def test_after_the_clock_went_back_new_observations_come_again(assembler):
    for index in (100, 101):
        assembler.add_image("front", index * STEP, image(1))
        assembler.add_image("wrist", index * STEP, image(1))
        assembler.add_reading(reading(index * STEP, 0.01))
    assembler.add_image("front", 102 * STEP, image(1))
    assembler.add_image("front", STEP, image(3))
    assembler.add_image("wrist", STEP, image(3))
    observation = assembler.add_reading(reading(STEP, 0.03))
    assert observation is not None
    assert (observation.stamp_ns, observation.state[3]) == (STEP, pytest.approx(0.03))


def test_an_image_from_before_the_clock_went_back_is_not_joined_with_one_from_after(assembler):
    assembler.add_reading(reading(9 * STEP))
    assembler.add_image("wrist", 10 * STEP, image(1))
    for index in range(1, 11):
        assembler.add_reading(reading(index * STEP))
    assert assembler.add_image("front", 10 * STEP, image(3)) is None
    assert assembler.add_image("wrist", 10 * STEP, image(3)).images["wrist"][0, 0, 0] == 3


def test_a_joint_state_of_another_time_is_not_taken(assembler):
    assembler.add_reading(reading(100 * STEP))
    assembler.add_image("front", STEP, image(1))
    assert assembler.add_image("wrist", STEP, image(2)) is None


def test_an_image_from_before_the_clock_went_back_meets_no_joint_state_from_after(assembler):
    assembler.add_image("front", 100 * STEP, image(1))
    assembler.add_image("wrist", 100 * STEP, image(1))
    assert assembler.add_reading(reading(STEP)) is None
