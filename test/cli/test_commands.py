"""The commands do what their help says."""

import contextlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mechanic_rl_ros.cli.main import app
from mechanic_rl_ros.replay.store import EpisodeStore


@pytest.mark.parametrize("command", ["collect", "pretrain", "finetune", "distil", "evaluate", "report", "view", "study", "doctor"])
def test_help_says_what_a_command_does_and_shows_examples(command):
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert f"    mechanic-rl {command}" in shown.output
    assert "Examples:" in shown.output


def test_help_of_everything_shows_the_way_from_nothing_to_a_tuned_policy(run):
    done = run("-h")
    assert done.returncode == 0
    places = [done.stdout.index(f"    mechanic-rl {command}") for command in ("doctor", "collect", "pretrain", "finetune", "evaluate", "report")]
    assert places == sorted(places)


def test_demonstrations_become_a_policy_that_can_be_evaluated(run, demonstrations, checkpoint):
    assert len(EpisodeStore(demonstrations)) == 2
    assert sorted(os.listdir(checkpoint)) == ["checkpoint.json", "demonstrations.safetensors", "weights.safetensors"]
    done = run("evaluate", checkpoint, "--episodes", 2, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["task"], result["episodes"], result["seed_first"]) == ("lift", 2, 1_000_000)
    assert 0 <= result["low"] <= result["success"] <= result["high"] <= 1


def test_an_episode_is_drawn_with_what_was_done_or_with_what_a_policy_plans(run, demonstrations, checkpoint, tmp_path):
    file = EpisodeStore(demonstrations).paths()[0]
    for options in ((), ("--checkpoint", checkpoint)):
        done = run("view", file, "--output", "seen.png", *options)
        assert (done.returncode, done.stdout) == (0, "seen.png\n"), done.stderr
        assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / "seen.png").unlink()
    done = run("view", file.parent)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_a_policy_becomes_one_of_a_single_network_evaluation_that_can_be_evaluated(run, checkpoint, quick_config, tmp_path):
    done = run("distil", checkpoint, "--output", "fast", "--config", quick_config)
    assert done.returncode == 0, done.stderr
    assert "1 network evaluation for a chunk instead of 5" in done.stdout
    assert json.loads((tmp_path / "fast" / "checkpoint.json").read_text())["config"]["schedule"]["sampling_steps"] == 1
    assert run("evaluate", "fast", "--episodes", 1).returncode == 0


def test_collecting_stopped_by_ctrl_c_keeps_what_it_has_and_goes_on_later_with_fresh_scenes(start, run, quick_config, tmp_path):
    process = start("collect", "--output", "data", "--episodes", 500, "--config", quick_config)
    store = EpisodeStore(tmp_path / "data")
    _until(lambda: len(store) >= 2, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    kept = [episode.seed for episode in store.load()]
    assert len(kept) >= 2
    assert store.corrupt == {}
    done = run("collect", "--output", "data", "--episodes", len(kept) + 1, "--config", quick_config)
    assert done.returncode == 0, done.stderr
    seeds = [episode.seed for episode in store.load()]
    assert seeds[:-1] == kept
    assert seeds[-1] > max(kept)


@pytest.mark.parametrize("moment", ["the workers start", "the first episode is done"])
def test_ctrl_c_ends_an_evaluation_with_workers_quietly(start, checkpoint, moment):
    """Progress is shown on a terminal only; Ctrl-C in one is heard by the workers as well."""
    terminal, stderr = os.openpty()
    process = start("evaluate", checkpoint, "--episodes", 5000, "--workers", 2, stderr=stderr)
    os.close(stderr)
    shown = b""
    if moment == "the workers start":
        _until(lambda: len(_children(process.pid)) >= 2, process)
    else:
        while not re.search(rb"[1-9]\d*/5000", shown):
            shown += os.read(terminal, 4096)
    os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(OSError):  # the other side is closed
        while more := os.read(terminal, 4096):
            shown += more
    os.close(terminal)
    assert process.wait(60) == 130, shown.decode()
    assert b"Error" not in shown
    assert b"Interrupt" not in shown


def test_a_closed_pipe_ends_a_command_quietly(start, run_folder):
    process = start("report", run_folder)
    process.stdout.close()
    assert process.wait(60) in (0, 1)
    assert "Traceback" not in process.stderr.read()


def test_report_takes_the_newest_run_when_none_is_named(run, run_folder):
    older = run_folder.with_name("two") / "metrics.jsonl"
    older.parent.mkdir()
    older.write_bytes((run_folder / "metrics.jsonl").read_bytes())
    os.utime(older, (1.0, 1.0))
    done = run("report")
    assert done.returncode == 0, done.stderr
    assert (run_folder / "report.png").stat().st_size > 10_000
    assert str(run_folder.name) in done.stdout


@pytest.fixture
def run_folder(tmp_path):
    from mechanic_rl_ros.metrics import MetricsWriter

    with MetricsWriter(tmp_path / "runs" / "one" / "metrics.jsonl") as writer:
        writer.write("sim", real_time_factor=2.0)
    return tmp_path / "runs" / "one"


def test_doctor_tells_what_is_there_and_what_is_missing(run):
    done = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["numpy"]["state"] == "ok"
    assert {"rclpy", "middleware", "interfaces", "ROS 2", "launch_ros", "cv_bridge", "OpenGL", "CUDA", "cores", "ROS_DOMAIN_ID", "run folder"} <= checks.keys()
    assert all(check["remedy"] for check in checks.values() if check["state"] == "missing")
    assert done.returncode == int(any(check["state"] == "missing" for check in checks.values()))


def test_doctor_finds_a_missing_package_a_missing_rclpy_and_a_folder_that_cannot_be_written(run, environment, tmp_path):
    """A Python that finds neither the packages of the environment nor ROS: the same interpreter, with what it imports hidden."""
    hidden = tmp_path / "hidden"
    for name in ("rclpy", "torch"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text(f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')\n")
    hiding = {"PYTHONPATH": f"{hidden}{os.pathsep}{environment['PYTHONPATH']}", "ROS_DOMAIN_ID": "many"}
    done = run("doctor", "--json", "--run-directory", "/proc/runs", env={**environment, **hiding})
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 1
    for name in ("rclpy", "middleware", "interfaces", "run folder", "ROS_DOMAIN_ID"):
        assert checks[name]["state"] == "missing", checks[name]
    assert "No module named 'rclpy'" in checks["interfaces"]["found"]


def _children(pid):
    return (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text().split()


def _until(condition, process):
    """Waits for files to appear, as long as the process lives."""
    while not condition():
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"ended early: {process.communicate()}")
