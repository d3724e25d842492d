"""The table of all learners."""

from mechanic_rl_ros.study.algorithms import HAND_PICKED, as_markdown, cells
from mechanic_rl_ros.study.table import TUNER, Result
from mechanic_rl_ros.study.tuners import Cell


def result(cell: Cell, *curves: list[tuple[float, float]]) -> Result:
    """Of seeds whose looks after 60, 120 ... episodes showed (success, base policy on the same scenes)."""
    looks = tuple([{"episodes": 60 * (k + 1), "minutes": 5.0 * (k + 1), "success": s, "base": b} for k, (s, b) in enumerate(curve)] for curve in curves)
    return Result(cell, tuple(curve[-1]["success"] for curve in looks), tuple(range(len(looks))), 0.0, looks)


def row(*results: Result) -> str:
    other = result(Cell(TUNER.tuner, learner="cloning"), [(0.1, 0.3)])
    table = as_markdown({"push": {each.cell: each for each in (*results, other)}}, {"push": 0.3})
    return next(line for line in table.splitlines() if line.startswith("| filtered_iql"))


def test_a_gain_is_over_what_the_base_policy_solves_of_the_same_scenes():
    assert "| 120 episodes, 10.0 min | never |" in row(result(TUNER, [(0.55, 0.4), (0.6, 0.4), (0.6, 0.45)]))


def test_seeds_that_never_get_there_count_as_later_than_all_that_did():
    early, late, never = [(0.6, 0.3), (0.7, 0.3)], [(0.3, 0.3), (0.5, 0.3)], [(0.3, 0.3), (0.3, 0.3)]
    assert "| 120 episodes (60 to never, 2 of 3 seeds), 10.0 min | most never (earliest 60, 1 of 3 seeds) |" in row(result(TUNER, early, late, never))
    assert "| 60 episodes (60 to 120), 5.0 min |" in row(result(TUNER, early, early, late))


def test_every_learner_runs_with_the_tuner_and_with_the_best_rates_of_the_grid():
    best, poor = Cell("adamw", 1e-4, 1e-3), Cell("adamw", 1e-2, 1e-2)
    found = {cell: result(cell, [(success, 0.3)]) for cell, success in ((best, 0.9), (poor, 0.2))}
    rates = {cell.learner: (cell.actor_rate, cell.critic_rate) for cell in cells(found) if cell.tuner == "adamw"}
    assert set(rates.values()) == {(1e-4, 1e-3)}
    assert {cell.learner for cell in cells({}) if cell.tuner == TUNER.tuner} == set(rates)
    assert {(cell.actor_rate, cell.critic_rate) for cell in cells({}) if cell.tuner == "adamw"} == {HAND_PICKED}


def test_the_tuner_comes_first_so_that_a_study_that_is_stopped_has_every_learner():
    order = [cell.tuner for cell in cells({})]
    assert order == sorted(order, key=lambda tuner: tuner != TUNER.tuner)
