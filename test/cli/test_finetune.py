"""Practice from the command line: what is left when it ends, however it ends."""

import importlib.util
import io
import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from mechanic_rl_ros.cli.run_folder import default_folder, open_run
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.metrics import MetricsWriter, read_metrics

BUILT = importlib.util.find_spec("mechanic_rl_ros.msg") is not None


def test_a_run_folder_says_how_it_was_made_and_goes_on_only_with_the_same_options(tmp_path):
    folder = open_run(tmp_path / "deep" / "run", {"task": "lift", "seed": 1})
    assert (folder / "config" / "embodiment" / "fr3.yaml").exists()
    assert json.loads((folder / "run.json").read_text())["task"] == "lift"
    assert open_run(folder, {"task": "lift", "seed": 1}) == folder
    with pytest.raises(UserError, match="seed 1, not 2"):
        open_run(folder, {"task": "lift", "seed": 2})
    (folder / "run.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        open_run(folder, {"task": "lift", "seed": 1})


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        open_run(tmp_path, {"task": "lift"})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_runs_of_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        folders.append(default_folder("now"))
        folders[-1].mkdir(parents=True)
    assert [folder.name for folder in folders] == ["now", "now-2", "now-3"]


@pytest.fixture
def finished_run(tmp_path, checkpoint):
    """A run whose learner made three updates, as far as anybody can see."""
    from mechanic_rl_ros.policy.checkpoint import Checkpoint

    folder = open_run(tmp_path / "run", {"task": "lift"})
    tuned = Checkpoint.load(checkpoint)
    tuned.version = 3
    tuned.save(folder / "checkpoint")
    timing = {"period_ms": 20.0, "period_p99_ms": 21.0, "late_actions": 0, "holding": "", "limited": {}, "latency_p50_ms": 40.0}
    with MetricsWriter(folder / "metrics.jsonl") as writer:
        writer.write("run", task="lift", seed=0, checkpoint=str(checkpoint), started=1e9)
        for latency in (0.0, 70.0, 80.0, 90.0):
            writer.write("command", **timing, latency_p99_ms=latency, period_mean_error=0.01 if latency else 0.5, period_deviation=0.03)
        writer.write("policy", version=3, inference_ms=10.0, swap_p99_ms=250.0, refused=0)
    return folder


@pytest.fixture
def printed(monkeypatch):
    from mechanic_rl_ros.cli import finish

    stream = io.StringIO()
    for name in ("out", "err"):
        monkeypatch.setattr(finish, name, Console(file=stream, width=200))
    return stream


def test_at_the_end_base_and_tuned_policy_are_compared_drawn_and_summarised(finished_run, checkpoint, printed):
    from mechanic_rl_ros.cli import finish

    finish.evaluate_both(finished_run, "lift", checkpoint, episodes=1, workers=1)
    finish.draw_and_summarise(finished_run)
    evaluations = [record for record in read_metrics(finished_run / "metrics.jsonl") if record["kind"] == "evaluation"]
    assert [record["name"] for record in evaluations] == ["base", "tuned"]
    assert all(record["seed_first"] == 1_000_000 and record["episodes"] == 1 for record in evaluations)
    assert (finished_run / "report.png").exists()
    assert len(list((finished_run / "tensorboard").iterdir())) >= 1
    text = printed.getvalue()
    for part in ("base policy", "tuned policy", "95 % interval", "mean off by 1.0% (worst 1.0%)", "80 ms simulated (worst 90 ms)", "250 ms", "report.png"):
        assert part in text


def test_a_run_that_was_too_short_to_tune_anything_is_not_evaluated(finished_run, checkpoint, printed):
    from mechanic_rl_ros.cli import finish

    shutil.rmtree(finished_run / "checkpoint")
    shutil.copytree(checkpoint, finished_run / "checkpoint")
    finish.evaluate_both(finished_run, "lift", checkpoint, episodes=1, workers=1)
    assert "not tuned yet" in printed.getvalue()
    assert all(record["kind"] != "evaluation" for record in read_metrics(finished_run / "metrics.jsonl"))


def test_a_run_in_which_nothing_was_recorded_has_no_report(tmp_path, printed):
    from mechanic_rl_ros.cli import finish

    finish.draw_and_summarise(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not BUILT, reason="the nodes are not built: `make` does it")
def test_ctrl_c_during_practice_ends_in_a_report_and_leaves_nothing_running(start, checkpoint, tmp_path):
    process = start("finetune", "--checkpoint", checkpoint, "--episodes", 100, "--run-directory", "run")
    while not any(record["kind"] == "learner" for record in _records(tmp_path / "run" / "metrics.jsonl")):
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"ended early: {process.communicate()}")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert (tmp_path / "run" / "report.png").exists()
    assert (tmp_path / "run" / "checkpoint" / "checkpoint.json").exists()
    assert not _mentioning(str(tmp_path / "run"))


def _records(path):
    return read_metrics(path) if path.exists() else []


def _mentioning(text):
    """Processes with ``text`` in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in process.read_bytes().decode(errors="replace"):
                found.append(process)
        except OSError:
            continue
    return found
