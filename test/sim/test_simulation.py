import numpy as np
import pytest

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.sim.simulation import Simulation
from mechanic_rl_ros.sim.trajectory import Trajectory


def to(positions, seconds):
    return Trajectory(np.array([seconds]), np.array(positions)[None], np.zeros((1, 7)))


def test_at_rest_the_arm_stays_at_home(simulation, embodiment):
    simulation.advance(1.0)
    assert simulation.joint_state().positions == pytest.approx(embodiment.joints.home, abs=1e-3)


def test_the_arm_follows_a_trajectory_closely(simulation, embodiment):
    goal = np.array(embodiment.joints.home) + 0.2
    simulation.set_trajectory(to(goal, 1.0))
    for _ in range(50):
        simulation.advance(0.02)
        desired, velocity = simulation._controller.sample(simulation.time_ns)
        reading = simulation.joint_state()
        assert reading.positions == pytest.approx(desired, abs=0.01)
        assert reading.velocities == pytest.approx(velocity, abs=0.05)
    simulation.advance(0.5)
    assert simulation.joint_state().positions == pytest.approx(goal, abs=0.002)


def test_an_arm_that_is_pushed_away_comes_back(simulation, embodiment):
    simulation.data.qpos[:7] += 0.1
    simulation.advance(0.5)
    assert simulation.joint_state().positions == pytest.approx(embodiment.joints.home, abs=0.002)


def test_torques_stay_within_what_the_joints_have(simulation, embodiment):
    simulation.set_trajectory(to(np.array(embodiment.joints.home) + 1.0, 0.002))
    for _ in range(50):
        simulation.advance(0.002)
        assert (np.abs(simulation.joint_state().efforts) <= limits.TORQUE + 1e-9).all()


def test_time_is_counted_in_nanoseconds_and_never_goes_back(simulation):
    assert simulation.time_ns == 0
    simulation.advance(0.1)
    assert simulation.time_ns == 100_000_000
    simulation.reset(3)
    assert simulation.time_ns == 100_000_000
    simulation.advance(0.02)
    assert simulation.joint_state().stamp_ns == 120_000_000


def test_what_does_not_fill_a_physics_step_is_carried_over(simulation):
    for _ in range(10):
        simulation.advance(0.0033)
    assert simulation.time_ns == 32_000_000
    simulation.advance(0.001)
    assert simulation.time_ns == 34_000_000


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_a_senseless_time_is_refused(simulation, seconds):
    with pytest.raises(UserError, match="cannot advance"):
        simulation.advance(seconds)


def test_the_fingers_close_at_the_speed_of_the_hand_and_stay_within_their_range(simulation):
    simulation.set_finger(-1.0)
    simulation.advance(0.1)
    assert simulation.joint_state().finger == pytest.approx(0.02, abs=0.006)
    simulation.advance(0.4)
    assert simulation.joint_state().finger == pytest.approx(0.0, abs=0.001)
    simulation.set_finger(0.04)
    simulation.advance(0.5)
    assert simulation.joint_state().finger == pytest.approx(0.04, abs=0.001)


def test_a_finger_position_that_is_not_finite_is_refused(simulation):
    with pytest.raises(UserError, match="not finite"):
        simulation.set_finger(float("nan"))


def test_a_reset_brings_the_arm_home_with_an_open_hand_and_forgets_the_trajectory(simulation, embodiment):
    simulation.set_trajectory(to(np.array(embodiment.joints.home) + 0.5, 0.5))
    simulation.set_finger(0.0)
    simulation.advance(0.3)
    simulation.reset(5)
    assert simulation.joint_state().finger == pytest.approx(0.04)
    simulation.advance(1.0)
    reading = simulation.joint_state()
    assert reading.positions == pytest.approx(embodiment.joints.home, abs=1e-3)
    assert reading.finger == pytest.approx(0.04, abs=1e-3)


def test_two_simulations_with_the_same_seed_and_commands_are_equal_to_the_last_bit(simulation, embodiment):
    other = Simulation("lift", embodiment)
    simulation.reset(1)  # an earlier episode leaves no trace
    simulation.advance(0.5)
    for cell in (simulation, other):
        cell.reset(11)
        cell.set_trajectory(to(np.array(embodiment.joints.home) + 0.1, 0.5))
        cell.advance(0.6)
    assert np.array_equal(simulation.data.qpos, other.data.qpos)
    assert np.array_equal(simulation.render("front"), other.render("front"))


def test_an_unknown_task_is_refused_with_the_known_ones(embodiment):
    with pytest.raises(UserError, match="lift, push, reach"):
        Simulation("fold", embodiment)
