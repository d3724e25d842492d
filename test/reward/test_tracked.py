"""Tasks judged by a tracked object."""

import numpy as np
import pytest

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.reward.tracked import MAX_AGE_NS, TrackedTask
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.sim.simulation import Simulation

EMBODIMENT = load_embodiment()
HOME = EMBODIMENT.joints.home
TCP = Kinematics(EMBODIMENT).tcp(HOME)[0]
UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


def see(task, place, turn=UPRIGHT, stamp_ns=0):
    task.object(np.array(place), np.array(turn), stamp_ns)


def test_lift_is_solved_when_the_object_is_up_and_in_the_hand():
    task = TrackedTask("lift", EMBODIMENT, [0, 0, 0])
    see(task, TCP)
    assert not task.judge(0).success, "nothing is known of the hand"
    task.joints(HOME)
    see(task, TCP - [0, 0, 0.07])
    task.start(0)
    assert not task.judge(0).success
    see(task, TCP - [0, 0, 0.005])
    assert task.judge(0).success
    see(task, TCP - [0.1, 0, 0])
    assert not task.judge(0).success, "up, but not in the hand"


def test_an_object_that_is_hidden_when_a_scene_begins_rests_where_it_is_seen_next():
    task = TrackedTask("lift", EMBODIMENT, [0, 0, 0])
    task.joints(HOME)
    see(task, TCP - [0, 0, 0.2])
    task.start(2 * MAX_AGE_NS)
    assert not task.judge(0).success
    see(task, TCP, stamp_ns=2 * MAX_AGE_NS)
    assert not task.judge(2 * MAX_AGE_NS).success, "it has not been lifted from there"


def test_an_object_that_has_not_been_seen_for_long_solves_nothing():
    task = TrackedTask("push", EMBODIMENT, [0.5, 0.0, 0.0])
    task.joints(HOME)
    see(task, [0.5, 0.01, 0.02], stamp_ns=10**9)
    assert task.judge(10**9 + MAX_AGE_NS).success
    assert not task.judge(10**9 + MAX_AGE_NS + 1).success
    see(task, [0.5, 0.01, 0.02], turn=[0.5**0.5, 0.5**0.5, 0.0, 0.0], stamp_ns=10**9)
    assert not task.judge(10**9).success, "it has tipped over"
    see(task, [0.5, np.nan, 0.02], stamp_ns=10**9)
    assert not task.judge(10**9).success


@pytest.mark.parametrize("name", ["lift", "push", "reach"])
def test_it_judges_as_the_simulation_does(name):
    simulation = Simulation(name, EMBODIMENT)
    for seed in range(5):
        simulation.reset(seed)
        reading, joints = simulation.task_state(), simulation.joint_state()
        task = TrackedTask(name, EMBODIMENT, reading.goal.tolist())
        task.joints(joints.positions)
        see(task, reading.object_position, reading.object_quaternion)
        judgement = task.judge(0)
        np.testing.assert_allclose(task.goal[2], reading.goal[2], atol=1e-3)
        assert (judgement.success, judgement.progress) == (reading.success, pytest.approx(reading.progress, abs=1e-3))


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(UserError, match="task 'juggle' cannot be judged by poses"):
        TrackedTask("juggle", EMBODIMENT, [0, 0, 0])
    with pytest.raises(UserError, match="is no point"):
        TrackedTask("push", EMBODIMENT, [0, 0])
