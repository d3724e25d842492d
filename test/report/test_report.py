"""What a person sees of a run."""

import io
import json

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.metrics import MetricsWriter, read_metrics
from mechanic_rl_ros.report.interval import wilson_interval
from mechanic_rl_ros.report.live import LiveTable
from mechanic_rl_ros.report.picture import draw_report
from mechanic_rl_ros.report.run_data import RunData, rolling_counts


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (84, 200, 0.3537, 0.4893), (0, 0, 0.0, 1.0)],
)
def test_the_wilson_interval_agrees_with_published_values(successes, trials, low, high):
    """Agresti and Coull, The American Statistician 52 (1998), and the prop.test of R without continuity correction."""
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_rolling_counts_look_back_over_the_window_only():
    wins, trials = rolling_counts(np.array([1, 0, 1, 1, 0], bool), 3)
    assert wins.tolist() == [1, 1, 2, 2, 2]
    assert trials.tolist() == [1, 2, 3, 3, 3]


def test_the_columns_of_a_run_are_what_was_written(run_folder):
    data = RunData.load(run_folder)
    assert data.run["task"] == "lift"
    assert len(data.successes) == len([r for r in read_metrics(run_folder / "metrics.jsonl") if r["kind"] == "episode" and r["outcome"] != "aborted"]) < 80
    assert data.evaluations["tuned"]["successes"] == 148
    assert np.isnan(data.column("learner", "best_success")).all()
    assert data.minutes("sim")[[0, -1]].tolist() == pytest.approx([4 / 60, 80 * 4 / 60])


def test_the_scales_of_a_run_are_those_of_every_update_and_of_the_last_time_that_it_was_made(run_folder):
    with MetricsWriter(run_folder / "metrics.jsonl") as writer:
        writer.write("scales", updates=798, scales={"actor": [0.25, None, 0.75]})
    updates, scale = RunData.load(run_folder).scales["actor"]
    assert updates.tolist() == list(range(1, 801))
    assert scale[795] == 0.25
    assert np.isnan(scale[796])
    assert scale[797] == 0.75
    assert scale[798] == pytest.approx(3e-4, rel=0.02)


def test_a_run_that_went_on_began_when_it_was_started_for_the_first_time(run_folder):
    began = RunData.load(run_folder).start
    with MetricsWriter(run_folder / "metrics.jsonl") as writer:
        writer.write("run", task="lift", seed=0, checkpoint="elsewhere", started=began + 5000.0)
        writer.write("sim", real_time_factor=1.0, wall=began + 6000.0)
    data = RunData.load(run_folder)
    assert data.start == began
    assert data.run["checkpoint"] == "elsewhere"
    assert (data.minutes("sim") > 0).all()
    assert data.minutes("sim")[-1] == pytest.approx(100.0)


@pytest.mark.parametrize("case", ["full", "short", "no evaluation", "only a start", "no numbers"])
def test_the_picture_is_drawn_from_whatever_there_is(make_run, tmp_path, case):
    make_run(tmp_path, episodes={"full": 80, "only a start": 0}.get(case, 1), evaluated=case in ("full", "short"))
    if case == "no numbers":
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        empty = [{key: None if isinstance(value, float) and key not in ("wall", "started") else value for key, value in line.items()} for line in lines]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in empty))
    path = draw_report(RunData.load(tmp_path))
    picture = imread(path)
    assert path == tmp_path / "report.png"
    assert picture.shape[0] > 800
    assert picture.std() > 0.02


def test_a_folder_without_a_run_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="give the folder of a run"):
        RunData.load(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no records"):
        RunData.load(tmp_path)


def test_the_live_table_shows_the_newest_of_everything(run_folder):
    table = LiveTable(80, Console(file=io.StringIO()))
    assert set(table.cells().values()) == {"-"}
    table.update(read_metrics(run_folder / "metrics.jsonl"))
    cells = table.cells()
    assert cells["episode"] == "80"
    assert cells["policy version"] == "80"
    assert cells["actor scale"] == "2.95e-04"
    assert cells["critic scale"] == "1.00e-03"
    assert cells["control p99 (ms)"] == "22.1"
    assert cells["real-time factor"] == "1.97"
    assert cells["outcome"] in ("success", "timeout", "aborted")
    assert 0 <= float(cells["success (last 20)"]) <= 1


def test_a_terminal_of_80_columns_shows_every_heading_and_every_figure(run_folder):
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=80)
    table = LiveTable(10_000, terminal)
    table.update(read_metrics(run_folder / "metrics.jsonl"))
    terminal.print(table)
    text = terminal.file.getvalue()
    words = [word for name, value in table.cells().items() for word in (*name.split(), value)]
    assert [word for word in words if word not in text] == []
    assert "…" not in text


def test_on_a_terminal_there_is_a_table_in_a_log_there_are_plain_lines(run_folder):
    records = read_metrics(run_folder / "metrics.jsonl")
    terminal, log = io.StringIO(), io.StringIO()
    for console in (Console(file=terminal, force_terminal=True, width=160), Console(file=log, width=80)):
        with LiveTable(80, console) as table:
            table.update(records)
    completed = sum(record["kind"] == "episode" and record["outcome"] != "aborted" for record in records)
    assert completed < 80
    assert f"{completed}/80" in terminal.getvalue(), "what was aborted is made up for"
    assert "episode 80  outcome" not in terminal.getvalue()
    lines = log.getvalue().splitlines()
    assert len(lines) == 80
    assert lines[-1].startswith("episode 80  outcome ")
    assert "\x1b" not in log.getvalue()


def test_why_practice_waits_is_one_line_below_the_table_and_gone_when_it_goes_on():
    waiting = {"kind": "waiting", "reason": "waiting for camera_node (front: no image [since 3 s])", "wall": 1.0}
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=120)
    table = LiveTable(80, terminal)

    def shown():
        terminal.file.seek(0)
        terminal.file.truncate()
        terminal.print(table)
        return terminal.file.getvalue()

    table.update([waiting])
    assert waiting["reason"] in shown()
    table.update([])
    assert waiting["reason"] in shown()
    table.update([{**waiting, "reason": ""}])
    assert "waiting for" not in shown()
    table.update([waiting, {"kind": "run"}])
    assert "waiting for" not in shown(), "what an earlier start of the run waited for is no news"


def test_in_a_log_each_reason_is_a_line_of_its_own():
    log = io.StringIO()
    reasons = ["", "waiting for policy_node", "waiting for policy_node", "waiting for learner_node", ""]
    with LiveTable(80, Console(file=log, width=80)) as table:
        for reason in reasons:
            table.update([{"kind": "waiting", "reason": reason, "wall": 1.0}])
    assert log.getvalue().splitlines() == ["waiting for policy_node", "waiting for learner_node"]
