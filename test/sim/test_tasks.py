import numpy as np
import pytest

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.sim.environment import Environment
from mechanic_rl_ros.sim.simulation import Simulation
from mechanic_rl_ros.sim.tasks import REGIONS, TASKS, load_task

SEEDS = range(500_000, 500_200)


@pytest.fixture(scope="module", params=sorted(TASKS))
def cell(request, embodiment):
    return Simulation(request.param, embodiment)


def scene(simulation, seed, region="all"):
    simulation.reset(seed, region)
    state = simulation.task_state()
    return np.concatenate([state.object_position, state.object_quaternion, state.goal])


def test_a_seed_always_gives_the_same_scene_and_another_seed_another_one(cell):
    assert np.array_equal(scene(cell, 3), scene(cell, 3))
    assert not np.allclose(scene(cell, 3), scene(cell, 4))


def test_objects_are_spread_over_the_whole_region_and_narrow_is_its_left_half(cell):
    wide = np.array([scene(cell, seed)[:2] for seed in SEEDS])
    narrow = np.array([scene(cell, seed, "narrow")[:2] for seed in SEEDS])
    assert wide[:, 1].min() < -0.1 < 0.1 < wide[:, 1].max()
    assert 0.3 < (wide[:, 1] < 0.0).mean() < 0.7
    assert narrow[:, 1].min() >= 0.0
    assert narrow[:, 1].max() > 0.1


def test_no_scene_is_solved_at_its_start_and_everything_is_within_reach(cell, embodiment):
    low, high, above = np.array(embodiment.workspace.low), np.array(embodiment.workspace.high), np.array([0.0, 0.0, 0.02])
    for seed in SEEDS:
        cell.reset(seed)
        state = cell.task_state()
        assert not state.success
        assert 0.0 <= state.progress < 1.0
        assert ((low - above <= state.object_position) & (state.object_position <= high)).all()
        assert ((low - above <= state.goal) & (state.goal <= high)).all()


def test_what_lies_on_the_table_stays_where_it_is(cell):
    before = scene(cell, 7)
    cell.advance(2.0)
    assert cell.task_state().object_position == pytest.approx(before[:3], abs=0.001)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_expert_solves_the_task_in_time_also_when_its_actions_are_noisy(task, region, embodiment):
    environment = Environment(task, embodiment)
    solved = [_solve(environment, seed, region, noise=0.3) for seed in range(500_000, 500_020)]
    assert sum(solved) >= 19


def test_a_cube_in_the_air_that_nobody_holds_is_not_lifted(embodiment):
    cell = Simulation("lift", embodiment)
    cell.data.qpos[cell.task._address + 2] = 0.15
    cell._update_frames()
    assert cell.task_state().progress == 1.0
    assert not cell.task_state().success


def test_a_puck_that_lies_on_its_side_has_not_arrived(embodiment):
    cell = Simulation("push", embodiment)
    goal = cell.task_state().goal
    address = cell.task._address
    cell.data.qpos[address : address + 7] = [goal[0], goal[1], 0.04, np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0]
    cell._update_frames()
    assert not cell.task_state().success
    cell.data.qpos[address + 3 : address + 7] = [1.0, 0.0, 0.0, 0.0]
    cell._update_frames()
    assert cell.task_state().success


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="lift, push, reach"):
        load_task("fold")


def test_an_unknown_region_is_refused_with_the_known_ones(cell):
    with pytest.raises(UserError, match="all, narrow"):
        cell.reset(0, "wide")


def _solve(environment, seed, region, noise):
    environment.reset(seed, region)
    while True:
        result = environment.step(environment.expert(noise))
        if result.terminated or result.truncated:
            return result.success
