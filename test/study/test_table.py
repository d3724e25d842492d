"""What a study says about its results."""

import json
from dataclasses import replace
from statistics import stdev

import pytest

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.study.picture import draw_study
from mechanic_rl_ros.study.table import TUNER, as_markdown, best_of_grid, claims, controls, read_results, settled, student
from mechanic_rl_ros.study.tuners import CONTROLS, Cell, control, grid

BASE = 0.5
GOOD, POOR = Cell("adamw", 3e-4, 1e-3), Cell("adamw", 1e-2, 1e-3)


def write(folder, problem, cell, successes, lowest=0.5, made=None, choosing=0, checks=3):
    place = folder / problem / cell.name
    place.mkdir(parents=True)
    for seed, success in enumerate(successes):
        record = {"problem": problem, "tuner": cell.tuner, "actor_rate": cell.actor_rate, "critic_rate": cell.critic_rate, "seed": seed, "success": success}
        record |= {"made": made, "settings": {"first_scene": 2_000_000}} if made else {}
        looks = [{"episodes": number, "success": lowest, "base": BASE, "best_of_n": True} for number in (60, 120, 180)[:checks]]
        looks.append({"episodes": 240, "success": success, "base": BASE, "best_of_n": seed < choosing})
        (place / f"seed{seed}.json").write_text(json.dumps({**record, "curve": looks}))


def test_the_table_says_what_it_was_made_with(folder):
    write(folder, "push", TUNER, [0.9] * 12, made={"commit": "0123456789", "machine": "2 cores", "date": "2026-11-23"})
    text = as_markdown(read_results(folder), {"lift": BASE, "push": BASE})
    assert "- 12 runs: commit 0123456789, 2 cores, 2026-11-23; scenes from 2000000" in text
    assert "- 13 runs: not told; scenes from ?" in text


def test_the_table_says_in_how_many_seeds_critics_chose_at_the_end(folder):
    write(folder, "push", TUNER, [0.9] * 5, choosing=2)
    assert "| relative | 0.900 ± 0.000 | 5 | 2 | +0.000 |" in as_markdown(read_results(folder), {})


def test_an_ablation_of_the_tuner_is_no_control(folder):
    write(folder, "push", Cell("no-bettors"), [1.0])
    assert controls(read_results(folder)["push"]) == []


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "lift", TUNER, [0.9, 0.8, 0.85])
    write(tmp_path, "lift", GOOD, [0.86, 0.86, 0.86])
    write(tmp_path, "lift", POOR, [0.1, 0.2, 0.15], lowest=0.05)
    write(tmp_path, "lift", Cell("adamw", 1e-5, 1e-5), [0.99])
    write(tmp_path, "lift", Cell("prodigy"), [0.9, 0.9, 0.9])
    return tmp_path


def test_means_and_intervals_are_over_seeds(folder):
    result = read_results(folder)["lift"][TUNER]
    assert result.mean == pytest.approx(0.85)
    assert result.half_width == pytest.approx(4.303 * 0.05 / 3**0.5)
    assert result.lowest == 0.0


def test_the_best_of_the_grid_is_among_the_cells_with_most_seeds(folder):
    assert best_of_grid(read_results(folder)["lift"]).cell == GOOD, "a lucky single seed is no best"


def test_claims_are_judged_with_their_figures(tmp_path):
    for cell in grid():
        write(tmp_path, "lift", cell, [0.1])
    (tmp_path / "lift" / GOOD.name / "seed0.json").unlink()
    (tmp_path / "lift" / GOOD.name).rmdir()
    write(tmp_path, "lift", GOOD, [0.86] * 5)
    write(tmp_path, "lift", TUNER, [0.9, 0.8, 0.85, 0.9, 0.8])
    for name in CONTROLS:
        write(tmp_path, "lift", Cell(name), [0.9 if name == "prodigy" else 0.3] * 5)
    results = read_results(tmp_path)["lift"]
    assert [held for _, held in claims(results)] == [True, False, True]
    for lowest, held in ((0.45, True), (0.44, False)):
        write(tmp_path, f"lowest {lowest}", TUNER, [0.9, 0.8, 0.85, 0.9, 0.8], lowest=lowest)
        own = read_results(tmp_path)[f"lowest {lowest}"][TUNER]
        assert [held for _, held in claims({**results, TUNER: own})] == [True, False, held], "0.05 is that, rounded"
    text = as_markdown({"lift": results}, {"lift": BASE})
    assert "- yes: 99% of the best of 49 grid cells (adamw_3e-04_1e-03; tuner 0.850, it 0.860, difference -0.010 ± 0.062 over 5 seeds)" in text
    assert "- NO: hardest control is prodigy (tuner 0.850, it 0.900, difference -0.050" in text
    assert "at any of 15 looks since the first update, 5 seeds: +0.000, in the mean of a look over seeds +0.000; wanted at least -0.05" in text


def test_a_cell_of_few_seeds_that_is_not_behind_keeps_the_race_open(tmp_path):
    for cell in grid():
        write(tmp_path, "lift", cell, [0.86] * 5 if cell == GOOD else [0.1])
    write(tmp_path, "lift", TUNER, [0.86] * 5)
    assert claims(read_results(tmp_path)["lift"])[0][1] is True
    other = tmp_path / "other"
    for cell in grid():
        write(other, "lift", cell, [0.86] * 5 if cell == GOOD else [0.95 if cell == POOR else 0.1])
    write(other, "lift", TUNER, [0.86] * 5)
    text, held = claims(read_results(other)["lift"])[0]
    assert held is None
    assert "1 not clearly behind but of fewer than 5 seeds" in text


def test_with_every_seed_less_is_needed_to_be_clearly_behind(tmp_path):
    write(tmp_path, "lift", GOOD, [0.8, 0.8, 0.8, 0.8])
    write(tmp_path, "lift", TUNER, [0.75, 0.75, 0.75, 0.75])
    single, fourfold, other = Cell("adamw", 1e-5, 1e-5), Cell("adamw", 1e-4, 1e-4), Cell("adamw", 1e-3, 1e-3)
    write(tmp_path, "lift", single, [0.66])
    write(tmp_path, "lift", fourfold, [0.72, 0.72, 0.72, 0.72])
    write(tmp_path, "lift", other, [0.64])
    write(tmp_path, "lift", Cell("dog"), [0.55])
    write(tmp_path, "lift", Cell("prodigy"), [0.62, 0.62])
    write(tmp_path, "lift", Cell("trac"), [0.66, 0.66])
    found = read_results(tmp_path)["lift"]
    assert [settled(cell, found) for cell in (GOOD, single, fourfold, other)] == [False, False, True, True]
    assert [settled(Cell(name), found) for name in ("dog", "prodigy", "trac", "mechanic")] == [True, True, False, False], "they are compared with the tuner"
    assert not settled(TUNER, found)


def test_a_pair_of_rates_clearly_behind_the_tuner_needs_no_more_seeds(tmp_path):
    write(tmp_path, "lift", GOOD, [0.7] * 5)
    write(tmp_path, "lift", TUNER, [0.9] * 5)
    for cell in grid():
        if cell != GOOD:
            write(tmp_path, "lift", cell, [0.74])
    found = read_results(tmp_path)["lift"]
    assert settled(POOR, found), "though it is better than the best pair with five seeds"
    assert claims(found)[0][1] is True
    assert claims({**found, GOOD: replace(found[GOOD], successes=(0.7,), seeds=(0,), curves=found[GOOD].curves[:1])})[0][1] is True


def test_learners_are_not_raced_against_each_other(tmp_path):
    write(tmp_path, "lift", TUNER, [0.9] * 5)
    write(tmp_path, "lift", replace(TUNER, learner="ddpg"), [0.1])
    write(tmp_path, "lift", replace(POOR, learner="ddpg"), [0.1])
    assert not any(settled(cell, read_results(tmp_path)["lift"]) for cell in (replace(TUNER, learner="ddpg"), replace(POOR, learner="ddpg")))


def test_one_more_seed_than_wanted_makes_no_pair_of_rates_the_best(tmp_path):
    write(tmp_path, "lift", GOOD, [0.9] * 5)
    write(tmp_path, "lift", POOR, [0.6] * 6)
    assert best_of_grid(read_results(tmp_path)["lift"]).cell == GOOD


def test_how_low_it_went_is_undecided_where_nobody_looked_on_the_way(tmp_path):
    write(tmp_path, "lift", TUNER, [0.9] * 5, checks=2)
    text, held = claims(read_results(tmp_path)["lift"])[-1]
    assert held is None, "one look is before anything was learned"
    assert "any of 10 looks since the first update, 5 seeds" in text
    assert text.endswith("not every run was looked at 2 times on the way")


def test_adamw_at_its_default_rate_is_a_control_and_a_pair_of_the_grid(tmp_path):
    write(tmp_path, "lift", TUNER, [0.9] * 5)
    write(tmp_path, "lift", Cell("adamw", 1e-3, 1e-3), [0.95] * 5)
    found = read_results(tmp_path)["lift"]
    assert [result.cell for result in controls(found)] == [control("adamw")] == [best_of_grid(found).cell]
    assert "hardest control is adamw_1e-03_1e-03" in claims(found)[1][0]


def test_the_tuner_is_compared_with_every_cell_over_all_problems(tmp_path):
    for problem, own in (("lift", [0.9, 0.8]), ("push", [0.7, 0.5, 0.6]), ("lift-batch-64", [0.0])):
        write(tmp_path, problem, TUNER, own)
        write(tmp_path, problem, GOOD, [0.6] * len(own))
    write(tmp_path, "lift", POOR, [0.1])
    text = as_markdown(read_results(tmp_path), {})
    gains = [0.3, 0.2, 0.1, -0.1, 0.0]  # conditions of a problem are no problems of their own
    width = student(4) * stdev(gains) / 5**0.5
    assert f"| adamw_3e-04_1e-03 | +0.100 ± {width:.3f} | 5 |" in text.split("## All problems together")[1]
    assert "adamw_1e-02_1e-03" not in text.split("## All problems together")[1], "one pair of runs says nothing"


def test_controls_that_are_clearly_behind_the_tuner_need_no_more_seeds(tmp_path):
    write(tmp_path, "lift", TUNER, [0.9] * 5)
    for name in CONTROLS:
        write(tmp_path, "lift", control(name), [0.5] if name != "dog" else [0.8])
    found = read_results(tmp_path)["lift"]
    _, (text, held), _ = claims(found)
    assert (text.endswith("not clearly behind but of fewer than 5 seeds: dog"), held) == (True, None)
    assert claims({**found, Cell("dog"): found[Cell("trac")]})[1][1] is True


def test_what_too_little_was_run_for_is_undecided(folder):
    results = read_results(folder)["lift"]
    assert [held for _, held in claims(results)] == [None, None, None]
    text = as_markdown({"lift": results}, {"lift": BASE})
    assert (
        "- undecided: 99% of the best of 3 grid cells, 49 are wanted, 2 not clearly behind but of fewer than 5 seeds (adamw_3e-04_1e-03; tuner 0.850, it 0.860"
        in text
    )
    assert "- undecided: hardest control is prodigy (tuner 0.850, it 0.900" in text
    assert "not clearly behind but of fewer than 5 seeds: mechanic, schedule-free, prodigy, d-adaptation, dog, trac, adamw" in text
    assert [result.cell.name for result in controls(results)] == ["prodigy"]


def test_cells_are_compared_on_the_seeds_that_both_have(tmp_path):
    write(tmp_path, "lift", TUNER, [0.5, 0.9, 0.9])
    write(tmp_path, "lift", GOOD, [0.6])
    write(tmp_path, "lift", Cell("prodigy"), [0.4, 0.8, 0.8])
    write(tmp_path, "lift", Cell("dog"), [0.99])
    grid, control, _ = claims(read_results(tmp_path)["lift"])
    assert grid[0].startswith("83% of the best of 1 grid cells")
    assert "tuner 0.500, it 0.600, difference -0.100, one seed" in grid[0]
    assert "hardest control is dog (tuner 0.500, it 0.990" in control[0], "one that lacks seeds is not forgotten"


def test_quantiles_of_student_are_right_beyond_the_table():
    assert [round(student(freedom), 2) for freedom in (1, 4, 9, 10, 20, 100)] == [12.71, 2.78, 2.26, 2.23, 2.09, 1.98]


def test_a_condition_is_compared_with_the_usual_one_seed_by_seed(tmp_path):
    usual = [0.9, 0.8, 0.85, 0.9, 0.8]
    write(tmp_path, "lift", TUNER, usual)
    write(tmp_path, "lift-batch-64", TUNER, [0.92, 0.78, 0.86, 0.88, 0.82])
    write(tmp_path, "lift-gradient-1e3", TUNER, [success - 0.3 for success in usual])
    write(tmp_path, "lift-gradient-1e-3", TUNER, [0.2, 0.95, 0.95, 0.2, 0.95])
    write(tmp_path, "lift-batch-512", TUNER, [0.85])
    text = as_markdown(read_results(tmp_path), {})
    assert "- yes: compared with lift: 0.852 against 0.850, +0.002 ± 0.025 over 5 seeds; wanted within their noise" in text
    assert "- NO: compared with lift: 0.550 against 0.850, -0.300 ±" in text
    assert "- undecided: compared with lift: 0.650 against 0.850, -0.200 ±" in text, "an interval as wide as that holds everything"
    assert "- undecided: compared with lift: 0.850 against 0.900, -0.050 ± inf over 1 seeds" in text


def test_the_picture_is_drawn_also_from_few_results(folder, tmp_path):
    path = draw_study(read_results(folder), {"lift": 0.5}, tmp_path / "study.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    write(tmp_path / "few", "push", TUNER, [0.5])
    assert draw_study(read_results(tmp_path / "few"), {}, tmp_path / "few.png").exists()


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UserError, match="mechanic-rl study"):
        read_results(tmp_path)


def test_results_of_an_earlier_version_are_refused_with_one_line(folder):
    path = next(folder.glob("lift/prodigy/seed0.json"))
    path.write_text(path.read_text().replace('"base"', '"other"'))
    with pytest.raises(UserError, match=r"seed0\.json was made by an earlier version"):
        read_results(folder)
