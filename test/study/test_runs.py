"""Single runs of a study."""

import json
import shutil
from concurrent.futures import Future

import pytest
import torch

from mechanic_rl_ros.algorithms.filtered_iql import FilteredIqlConfig
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import checkpoint_directory
from mechanic_rl_ros.study import runs
from mechanic_rl_ros.study.runs import Run, StudySettings, base_outcomes, make_run, run_all
from mechanic_rl_ros.study.table import read_results
from mechanic_rl_ros.study.tuners import Averaged, Cell, Ruined


@pytest.fixture
def settings(tmp_path, monkeypatch):
    quick = FilteredIqlConfig(warmup_episodes=1, critic_updates=2, updates_per_episode=2, batch_size=8)
    monkeypatch.setattr(FilteredIqlConfig, "from_yaml", lambda: quick)
    return StudySettings(tmp_path, episodes=2, scenes=4, checks=1)


def test_a_policy_that_step_sizes_have_ruined_is_a_result_and_says_why(settings):
    cell = Cell("adamw", 1e6, 1e6)
    record = make_run(settings, Run("lift", cell, 0))
    assert record["success"] == 0.0
    assert set(record["made"]) == {"commit", "machine", "date"}
    assert "weights" in record["ruined"]
    assert read_results(settings.folder)["lift"][cell].successes == (0.0,)
    assert make_run(settings, Run("lift", Cell("relative"), 0))["ruined"] == ""


def test_a_base_policy_of_another_task_is_refused(settings):
    shutil.copytree(checkpoint_directory("lift"), settings.folder / "bases" / "held-out")
    with pytest.raises(UserError, match="held-out is a policy of task lift, not reach"):
        base_outcomes(settings, "held-out", 1)


def test_an_optimizer_that_refuses_to_go_on_has_ruined_its_network():
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], lr=1.0)

    def refuse():
        raise ValueError("NaNs in gradient")

    optimizer.step = refuse
    parameter.grad = torch.ones(3)
    with pytest.raises(Ruined, match="NaNs in gradient"):
        Averaged(optimizer, [parameter], lambda steps: 1.0).step()


@pytest.mark.parametrize("changed", ["base", "config", "problem"])
def test_results_of_another_base_policy_or_other_settings_are_kept_apart(settings, changed, monkeypatch):
    run = Run("lift", Cell("relative"), 0)
    make_run(settings, run)
    run_all(settings, [run], 1, lambda run, record: pytest.fail("it is there"))
    path = settings.folder / "lift" / "base.json" if changed == "base" else run.path(settings.folder)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "settings": {**record["settings"], changed: "0123456789ab"}}))
    with pytest.raises(UserError, match=f"was made with {changed} 0123456789ab"):
        base_outcomes(settings, "lift", 1) if changed == "base" else run_all(settings, [run], 1, lambda run, record: None)


@pytest.mark.parametrize("name", ["lift-batch-512", "lift-gradient-1e3"])
def test_a_condition_of_a_problem_reaches_the_learner(settings, monkeypatch, name):
    seen = []

    def practise(base, config, seed, episodes, latency, watch, factory, begun):
        parameter = torch.nn.Parameter(torch.ones(1))
        tuner = factory([parameter], "critic")
        parameter.grad = torch.ones(1)
        tuner.step()
        seen.append((config.batch_size, float(parameter.grad)))
        raise Ruined("enough was seen")

    monkeypatch.setattr(runs, "practise", practise)
    make_run(settings, Run(name, Cell("relative"), 0))
    assert seen == [(512, 1.0) if name == "lift-batch-512" else (128, 1e3)]


def test_the_average_that_the_authors_of_dog_ask_for_is_theirs():
    dog = pytest.importorskip("dog")
    parameters = [torch.nn.Parameter(torch.full((4,), 0.2))]
    network = torch.nn.ParameterList(parameters)
    theirs, mine = dog.PolynomialDecayAverager(network), runs.factory(Cell("dog"))(parameters, "critic")
    for _ in range(30):
        parameters[0].grad = parameters[0].detach() - 1.0
        mine.step()
        theirs.step()
    torch.testing.assert_close(mine.averages()[0], next(theirs.averaged_model.parameters()).detach())


def test_a_run_is_asked_about_when_its_turn_has_come_and_not_before(settings, monkeypatch):
    done, asked = [], []

    class Now:
        """Makes a run at once, in this process."""

        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, _, __, run):
            future = Future()
            future.set_result({"success": run.seed})
            return future

    monkeypatch.setattr(runs, "ProcessPoolExecutor", Now)

    def wanted(run):
        asked.append((run.seed, list(done)))
        return run.seed != 1

    run_all(settings, [Run("lift", Cell("relative"), seed) for seed in range(4)], 1, lambda run, record: done.append(record["success"]), wanted)
    assert done == [0, 2, 3]
    assert asked == [(0, []), (1, [0]), (2, [0]), (3, [0, 2])]
