import numpy as np
import pytest

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.sim.trajectory import Trajectory, TrajectoryController

S = 1_000_000_000


def trajectory(times, positions, velocities=None):
    return Trajectory(np.array(times), np.array(positions)[:, None], None if velocities is None else np.array(velocities)[:, None])


def sample(controller, seconds):
    position, velocity = controller.sample(round(seconds * S))
    return float(position[0]), float(velocity[0])


def test_a_new_controller_holds_its_position():
    assert sample(TrajectoryController([0.7]), 5.0) == (0.7, 0.0)


def test_with_velocities_a_segment_is_the_cubic_through_its_ends():
    controller = TrajectoryController([0.0])
    controller.set_trajectory(trajectory([2.0], [1.0], [0.0]), 1 * S)
    assert sample(controller, 2.0) == pytest.approx((0.5, 0.75))  # 3 s^2 - 2 s^3 at half way, over 2 s
    assert sample(controller, 1.5) == pytest.approx((0.15625, 0.5625))


def test_without_velocities_a_segment_is_a_straight_line():
    controller = TrajectoryController([0.0])
    controller.set_trajectory(trajectory([2.0, 3.0], [1.0, 0.0]), 0)
    assert sample(controller, 0.5) == pytest.approx((0.25, 0.5))
    assert sample(controller, 2.5) == pytest.approx((0.5, -1.0))


def test_the_last_point_is_held_at_rest():
    controller = TrajectoryController([0.0])
    controller.set_trajectory(trajectory([1.0], [1.0], [0.5]), 0)
    assert sample(controller, 10.0) == (1.0, 0.0)
    assert controller.end_ns == S
    assert controller.final == pytest.approx([1.0])


def test_a_new_trajectory_starts_from_the_desired_state_without_a_jump():
    controller = TrajectoryController([0.0])
    controller.set_trajectory(trajectory([1.0, 2.0], [1.0, 2.0], [1.0, 0.0]), 0)
    before = sample(controller, 0.9)
    controller.set_trajectory(trajectory([0.5], [-1.0], [0.0]), round(0.9 * S))
    assert sample(controller, 0.9) == pytest.approx(before)
    assert sample(controller, 1.4) == pytest.approx((-1.0, 0.0))


def test_before_its_start_a_trajectory_shows_its_first_state():
    controller = TrajectoryController([0.3])
    controller.set_trajectory(trajectory([1.0], [1.0], [0.0]), 5 * S)
    assert sample(controller, 1.0) == pytest.approx((0.3, 0.0))


@pytest.mark.parametrize(
    ("times", "positions", "velocities"),
    [
        ([], np.zeros((0, 1)), None),
        ([0.0], [[1.0]], None),
        ([-1.0], [[1.0]], None),
        ([1.0, 1.0], [[1.0], [2.0]], None),
        ([1.0], [[np.nan]], None),
        ([np.inf], [[1.0]], None),
        ([1.0], [[1.0]], [[np.inf]]),
        ([1.0], [[1.0, 2.0]], None),
        ([1.0], [[1.0]], [[1.0], [2.0]]),
    ],
)
def test_a_malformed_trajectory_is_refused_and_the_old_one_goes_on(times, positions, velocities):
    controller = TrajectoryController([0.0])
    controller.set_trajectory(trajectory([2.0], [1.0], [0.0]), 0)
    with pytest.raises(UserError, match="trajectory"):
        controller.set_trajectory(Trajectory(np.array(times), np.array(positions), None if velocities is None else np.array(velocities)), S)
    assert sample(controller, 1.0) == pytest.approx((0.5, 0.75))
