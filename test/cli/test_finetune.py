"""Practice from the command line: what is left when it ends, however it ends."""

import importlib.util
import io
import json
import re
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from mechanic_rl_ros.cli.patience import Patience
from mechanic_rl_ros.cli.run_folder import default_folder, open_run
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.metrics import KINDS, MetricsWriter, read_metrics
from mechanic_rl_ros.paths import config_directory

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


def test_a_run_folder_keeps_the_learner_settings_and_the_embodiment_that_are_in_use_wherever_they_came_from(tmp_path):
    (tmp_path / "slow.yaml").write_text("filtered_iql: {warmup_episodes: 7}\n")
    (tmp_path / "mine.yaml").write_text(f"/robot1: {{learner_node: {{ros__parameters: {{learner_file: {tmp_path / 'slow.yaml'}}}}}}}\n")
    (tmp_path / "arm.yaml").write_text((config_directory() / "embodiment" / "fr3.yaml").read_text().replace("policy_rate: 10.0", "policy_rate: 5.0"))
    options = {"embodiment": str(tmp_path / "arm.yaml")}
    folder = open_run(tmp_path / "run", options, tmp_path / "mine.yaml")
    kept = {name: (folder / "config" / name).read_text() for name in ("learner.yaml", "embodiment/arm.yaml")}
    assert kept == {"learner.yaml": (tmp_path / "slow.yaml").read_text(), "embodiment/arm.yaml": (tmp_path / "arm.yaml").read_text()}
    (tmp_path / "mine.yaml").write_text(f"/**/learner_node: {{ros__parameters: {{learner_file: {folder / 'config' / 'learner.yaml'}}}}}\n")
    open_run(folder, options, tmp_path / "mine.yaml")
    assert (folder / "config" / "learner.yaml").read_text() == kept["learner.yaml"], "its own copy, which the package's does not replace"


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
    figures = KINDS["learner"].__required_keys__ - {"kind", "wall", "updates", "prefers_best_of_n"}
    with MetricsWriter(folder / "metrics.jsonl") as writer:
        writer.write("run", task="lift", seed=0, checkpoint=str(checkpoint), started=1e9)
        for number in range(4):
            writer.write("command", **command, latencies_ms=[40.0, 90.0], reactions_ms=[4.0, 9.0], wall=1e9 + number)
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
    whole = 8  # enough that a learner on a busy machine begins before all are over
    process = practise(whole, "--no-evaluate")
    _await_record(process, tmp_path, "learner", lambda record: record["version"] > 0)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0, process.stderr.read()
    before = {path.name: path.read_bytes() for path in episodes.glob("*.mcap")}
    learned = _last(tmp_path, "learner")["updates"]
    assert 1 <= len(before) < whole
    process = practise(whole, "--no-evaluate")
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    after = {path.name: path.read_bytes() for path in episodes.glob("*.mcap")}
    assert before.items() <= after.items()
    assert len(after) == whole
    restored = int(re.search(r"restored (\d+) updates", (tmp_path / "run" / "logs" / "learner_node.log").read_text())[1])
    assert restored >= max(1, learned), "what was learned after the last word on it is not lost either"
    assert _last(tmp_path, "learner")["updates"] > restored
    numbers = [record["number"] for record in _records(tmp_path) if record["kind"] == "episode" and record["outcome"] != "aborted"]
    assert len(numbers) == whole
    assert numbers == sorted(set(numbers)), "no number comes twice; an episode in which a busy policy came too late is aborted and leaves a gap"


@NEEDS_NODES
def test_a_disk_that_is_full_stops_the_run_with_the_reason_that_was_shown_while_it_waited_even_without_room_for_a_report(start, checkpoint, tmp_path):
    """The size limit of files stands in for the end of the disk, a folder in the way for a report that does not fit."""
    (tmp_path / "nodes.yaml").write_text(json.dumps({"/**/episode_node": {"ros__parameters": {"step_limit": 3}}}))
    options = ["--checkpoint", checkpoint, "--run-directory", "run", "--parameter-file", "nodes.yaml", "--real-time-factor", 3, "--patience", 30]
    process = start("finetune", *options)
    _await_record(process, tmp_path, "run", lambda record: True)
    recorder = next(child for child in psutil.Process(process.pid).children(recursive=True) if "recorder_node" in " ".join(child.cmdline()))
    resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    (tmp_path / "run" / "report.png").mkdir()
    out, err = process.communicate(timeout=270)
    assert process.returncode == 1, err
    beside, line = err.splitlines()
    assert beside.startswith("no report: ")
    assert line.startswith("mechanic-rl: practice stood still for ")
    assert "waiting for recorder_node (cannot write episode" in line
    assert "waiting for recorder_node (cannot write episode" in out
    assert not _mentioning(str(tmp_path / "run"))


@pytest.mark.parametrize(("reason", "seconds"), [("waiting for camera_node (nothing heard from it)", 10.0), ("waiting for learner_node (not active)", 50.0)])
def test_patience_ends_when_the_same_reason_has_held_for_so_long_later_for_the_learner(tmp_path, reason, seconds):
    patience = Patience(10.0, tmp_path, now_s=1000.0)
    patience.see([{"kind": "waiting", "reason": "waiting for policy_node (not active)"}], 1000.0)
    patience.see([{"kind": "waiting", "reason": ""}], 1009.0)
    patience.see([{"kind": "waiting", "reason": reason}], 1018.0)
    for second in range(int(seconds) + 1):
        patience.see([{"kind": "learner"}], 1018.0 + second)
    with pytest.raises(UserError, match=rf"stood still for {seconds + 1:.0f} s, {re.escape(reason)}"):
        patience.see([{"kind": "learner"}], 1019.0 + seconds)


def test_patience_ends_when_nothing_at_all_is_recorded_for_so_long(tmp_path):
    patience = Patience(10.0, tmp_path, now_s=1000.0)
    patience.see([], 1009.0)
    patience.see([{"kind": "sim"}], 1010.0)
    patience.see([], 1020.0)
    with pytest.raises(UserError, match=rf"nothing was recorded for 11 s: there are \d+ MB free in {re.escape(str(tmp_path))}"):
        patience.see([], 1021.0)


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
