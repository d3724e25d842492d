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


def test_a_run_folder_keeps_the_parameters_of_its_last_start_also_when_they_are_its_own(tmp_path):
    folder = open_run(tmp_path / "run", {"task": "lift"})
    kept = folder / "config" / "nodes.yaml"
    assert "/**/command_node" in kept.read_text()
    (tmp_path / "mine.yaml").write_text("/**/policy_node: {ros__parameters: {action_horizon: 2}}\n")
    for file in (tmp_path / "mine.yaml", kept):
        open_run(folder, {"task": "lift"}, file)
        assert kept.read_text() == (tmp_path / "mine.yaml").read_text()


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
    period = {"period_ms": 20.0, "period_mean_error": 0.01, "period_deviation": 0.03, "period_p99_ms": 21.0, "period_count": 100}
    command = {**period, "latency_p50_ms": 40.0, "latency_p99_ms": 90.0, "late_actions": 0, "holding": "", "limited": {}}
    figures = (
        "version",
        "episodes",
        "rows",
        "actor_scale",
        "critic_scale",
        "value_scale",
        "actor_loss",
        "critic_loss",
        "update_ms",
        "plain_success",
        "best_success",
    )
    with MetricsWriter(folder / "metrics.jsonl") as writer:
        writer.write("run", task="lift", seed=0, checkpoint=str(checkpoint), started=1e9)
        for number in range(4):
            writer.write("command", **command, latencies_ms=[40.0, 90.0], wall=1e9 + number)
            writer.write("learner", **dict.fromkeys(figures, number), updates=number, prefers_best_of_n=False, wall=1e9 + number)
        writer.write("policy", version=3, inference_ms=10.0, swap_ms=250.0, refused=0)
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
    for part in ("base policy", "tuned policy", "95 % interval", "mean error +1.00%, deviation 3.0% of 20 ms", "median 65 ms", "250 ms", "report.png"):
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


NEEDS_NODES = pytest.mark.skipif(not BUILT, reason="the nodes are not built: `make` does it")


@pytest.fixture
def practise(start, checkpoint, tmp_path):
    """Starts practice with short episodes, long pauses, and a learner that begins after the first episode."""
    learner = {"filtered_iql": {"warmup_episodes": 1, "critic_updates": 2, "updates_per_episode": 2, "batch_size": 8}}
    (tmp_path / "learner.yaml").write_text(json.dumps(learner))  # JSON is YAML
    nodes = {
        "/**/learner_node": {"learner_file": str(tmp_path / "learner.yaml"), "publish_period": 0.5},
        "/**/episode_node": {"step_limit": 10, "pause_time": 9.0},
    }
    (tmp_path / "nodes.yaml").write_text(json.dumps({name: {"ros__parameters": values} for name, values in nodes.items()}))
    options = ["--run-directory", "run", "--parameter-file", "nodes.yaml", "--real-time-factor", 3, "--evaluate-episodes", 1, "--workers", 1]
    return lambda episodes, *more: start("finetune", "--checkpoint", checkpoint, "--episodes", episodes, *options, *more)


@NEEDS_NODES
def test_ctrl_c_during_practice_ends_in_evaluation_and_report_and_leaves_nothing_running(practise, tmp_path):
    process = practise(100)
    _await_record(process, tmp_path, "learner", lambda record: record["version"] > 0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert [record["name"] for record in _records(tmp_path) if record["kind"] == "evaluation"] == ["base", "tuned"]
    assert (tmp_path / "run" / "report.png").exists()
    assert (tmp_path / "run" / "config" / "nodes.yaml").read_text() == (tmp_path / "nodes.yaml").read_text()
    assert not _mentioning(str(tmp_path / "run"))


@NEEDS_NODES
def test_a_second_ctrl_c_leaves_out_the_evaluation_and_says_so_by_the_exit_status(practise, tmp_path):
    process = practise(100)
    _await_record(process, tmp_path, "learner", lambda record: record["version"] > 0)
    process.send_signal(signal.SIGINT)
    assert "stopping the nodes" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert (tmp_path / "run" / "report.png").exists()
    assert not [record for record in _records(tmp_path) if record["kind"] == "evaluation"]


@NEEDS_NODES
def test_a_run_that_was_stopped_goes_on_with_its_episodes_and_what_it_has_learned(practise, tmp_path):
    episodes = tmp_path / "run" / "episodes"
    process = practise(3, "--no-evaluate")
    _await_record(process, tmp_path, "learner", lambda record: record["version"] > 0)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0, process.stderr.read()
    before = {path.name: path.read_bytes() for path in episodes.iterdir()}
    learned = _last(tmp_path, "learner")["updates"]
    assert 1 <= len(before) < 3
    process = practise(3, "--no-evaluate")
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    after = {path.name: path.read_bytes() for path in episodes.iterdir()}
    assert before.items() <= after.items()
    assert len(after) == 3
    assert f"restored {learned} updates" in (tmp_path / "run" / "logs" / "learner_node.log").read_text()
    assert _last(tmp_path, "learner")["updates"] > learned
    assert sorted(record["number"] for record in _records(tmp_path) if record["kind"] == "episode" and record["outcome"] != "aborted") == [1, 2, 3]


def _await_record(process, folder, kind, condition):
    """Waits for a record, as long as the process lives."""
    while not any(record["kind"] == kind and condition(record) for record in _records(folder)):
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"ended early: {process.communicate()}")


def _last(folder, kind):
    return [record for record in _records(folder) if record["kind"] == kind][-1]


def _records(folder):
    path = folder / "run" / "metrics.jsonl"
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
