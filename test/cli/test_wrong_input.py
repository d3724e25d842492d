"""Whatever is wrong: one clear line that says what and what to do, an exit status that is not 0, no traceback, nothing lost."""

import dataclasses
import importlib.util
import json
import resource
import shutil
import socket

import pytest

from mechanic_rl_ros.ros_domain import discovery_port


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["colect"], ["colect", "--help"]),
        (["collect"], ["--output", "collect --help"]),
        (["evaluate", "checkpoint", "--episodes", "0"], ["--episodes", "greater"]),
        (["finetune", "--domain", "300"], ["--domain", "less"]),
    ],
)
def test_wrong_usage(refused, arguments, words):
    line = refused(*arguments, status=2)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("command", [["evaluate"], ["finetune", "--checkpoint"]])
def test_a_missing_checkpoint(refused, tmp_path, command):
    line = refused(*command, "nowhere")
    assert "nowhere" in line
    assert "mechanic-rl pretrain" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["evaluate"], ["finetune", "--checkpoint"]])
def test_an_unreadable_checkpoint(refused, checkpoint, tmp_path, command):
    damaged = shutil.copytree(checkpoint, tmp_path / "damaged")
    data = bytearray((damaged / "weights.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / "weights.safetensors").write_bytes(data)
    assert "damaged" in refused(*command, damaged)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_a_checkpoint_of_another_architecture(refused, checkpoint, tmp_path):
    other = shutil.copytree(checkpoint, tmp_path / "other")
    manifest = json.loads((other / "checkpoint.json").read_text())
    manifest["config"]["width"] = 96
    (other / "checkpoint.json").write_text(json.dumps(manifest))
    assert "other" in refused("evaluate", other)


def test_a_learner_that_cannot_start_from_the_policy_is_refused_before_there_is_a_run(refused, checkpoint, tmp_path):
    from mechanic_rl_ros.policy.checkpoint import Checkpoint

    dataclasses.replace(Checkpoint.load(checkpoint), demonstrations=None).save(tmp_path / "bare")
    assert "no demonstrations" in refused("finetune", "--checkpoint", tmp_path / "bare")
    assert "no demonstrations" in refused("finetune", "--checkpoint", tmp_path / "bare", "--algorithm", "sac")
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_a_latency_longer_than_what_is_played_of_a_chunk(refused, checkpoint):
    assert "0.5 s is longer than the 4 actions" in refused("evaluate", checkpoint, "--episodes", "1", "--latency", "0.5", "--latency-mode", "waiting")


def test_a_checkpoint_of_another_robot(refused, checkpoint, tmp_path):
    from mechanic_rl_ros.paths import config_directory

    text = (config_directory() / "embodiment" / "fr3.yaml").read_text()
    (tmp_path / "fast.yaml").write_text(text.replace("policy_rate: 10.0", "policy_rate: 20.0"))
    line = refused("evaluate", checkpoint, "--embodiment", tmp_path / "fast.yaml")
    assert "policy_rate" in line


@pytest.mark.parametrize("command", [["collect", "-o", "data"], ["pretrain", "--demonstrations", "data", "-o", "policy"], ["finetune"], ["evaluate", "policy"]])
def test_an_unknown_task(refused, command):
    line = refused(*command, "--task", "juggle")
    assert "juggle" in line
    assert "lift" in line


def test_a_damaged_demonstration_is_left_out_and_said_and_only_damaged_ones_are_refused(run, demonstrations, quick_config, tmp_path):
    folder = shutil.copytree(demonstrations, tmp_path / "data")
    first, second = sorted(folder.iterdir())
    first.write_bytes(first.read_bytes()[:-50])
    done = run("pretrain", "--demonstrations", folder, "--output", "policy", "--config", quick_config)
    assert done.returncode == 0, done.stderr
    assert first.name in done.stderr
    assert "damaged" in done.stderr
    second.write_bytes(b"no bag")
    done = run("pretrain", "--demonstrations", folder, "--output", "policy2", "--config", quick_config)
    assert done.returncode == 1
    assert "no solved demonstration" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "policy2").exists()


def test_a_parameter_out_of_range(refused, tmp_path):
    (tmp_path / "wrong.yaml").write_text("collection: {noise: 7.0}\n")
    line = refused("collect", "--output", "data", "--config", "wrong.yaml")
    assert "noise" in line
    assert "between" in line


@pytest.mark.parametrize(
    "command",
    [["collect", "--output", "file/data"], ["pretrain", "--demonstrations", "empty", "--output", "file/policy"], ["finetune", "--run-directory", "file/run"]],
    ids=lambda command: command[0],
)
def test_a_folder_that_cannot_be_written_is_found_before_the_work_begins(refused, checkpoint, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "empty").mkdir()  # a complaint about missing demonstrations would come later
    line = refused(*command, *(["--checkpoint", checkpoint] if command[0] == "finetune" else []))
    assert "file" in line
    assert "choose another folder" in line


@pytest.mark.parametrize("name", ["thesis.tex", "thesis"])
def test_what_is_no_checkpoint_is_not_replaced_by_one(refused, tmp_path, name):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    (tmp_path / "thesis.tex").write_text("precious")
    assert "is no checkpoint: choose another folder" in refused("pretrain", "--demonstrations", "thesis", "--output", name)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    ("policy", "words"), [("schedule: {sampling_steps: 1}", "one network evaluation already"), ("{head: {kind: gaussian}, schedule: null}", "gaussian head")]
)
def test_what_cannot_be_distilled(run, refused, demonstrations, quick_config, tmp_path, policy, words):
    (tmp_path / "policy.yaml").write_text(policy)
    done = run("pretrain", "--demonstrations", demonstrations, "--output", "teacher", "--config", quick_config, "--policy", "policy.yaml")
    assert done.returncode == 0, done.stderr
    assert words in refused("distil", "teacher", "--output", "student")
    assert not (tmp_path / "student").exists()


def test_a_full_disk_loses_nothing_that_was_complete(refused, demonstrations, tmp_path):
    """The size limit of files stands in for the end of the disk: root may fill a real one, a limit stops everybody."""
    data = shutil.copytree(demonstrations, tmp_path / "data")
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    limit = 20_000
    arguments = ["collect", "--output", data, "--episodes", 3, "--config", _config(tmp_path)]
    line = refused(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert "free some space" in line
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_a_policy_that_does_not_fit_the_disk_leaves_nothing_half_written(refused, demonstrations, quick_config, tmp_path):
    arguments = ["pretrain", "--demonstrations", demonstrations, "--output", "policy", "--config", quick_config]
    line = refused(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert "policy" in line
    assert "free some space" in line
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_does_not_fit_the_disk(refused, tmp_path):
    from mechanic_rl_ros.metrics import MetricsWriter

    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("sim", real_time_factor=1.0)
    line = refused("report", tmp_path, "--output", "/dev/full")
    assert "No space left" in line
    assert "/dev/full" in line


def test_a_folder_without_a_run(refused):
    assert "mechanic-rl finetune" in refused("report")


def test_a_busy_ros_domain(refused, checkpoint, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("0.0.0.0", discovery_port(77)))
        line = refused("finetune", "--domain", 77, "--checkpoint", checkpoint)
    assert "77 is in use" in line
    assert "--domain" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", [None, "rate: 50.0\n", "a: [\n"])
def test_a_parameter_file_that_is_none_is_refused_before_anything_is_written(refused, checkpoint, tmp_path, text):
    if text is not None:
        (tmp_path / "mine.yaml").write_text(text)
    line = refused("finetune", "--checkpoint", checkpoint, "--parameter-file", "mine.yaml")
    assert "mine.yaml" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(importlib.util.find_spec("mechanic_rl_ros.msg") is None, reason="the nodes are not built: `make` does it")
def test_a_mistake_in_a_parameter_file_is_one_line_of_the_node_that_finds_it_and_its_traceback_is_in_the_log_with_debug(run, checkpoint, tmp_path):
    (tmp_path / "mine.yaml").write_text("/**/learner_node: {ros__parameters: {learner_file: nowhere.yaml}}\n")
    done = run("finetune", "--debug", "--checkpoint", checkpoint, "--parameter-file", "mine.yaml", "--run-directory", "run")
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("mechanic-rl: learner_node: ")
    assert "nowhere.yaml" in line
    assert "Traceback" in (tmp_path / "run" / "logs" / "learner_node.log").read_text()


def test_a_traceback_is_shown_with_debug_and_only_then(run, refused):
    assert "Traceback" not in refused("report", "nowhere")
    for arguments in (["--debug", "report", "nowhere"], ["report", "nowhere", "--debug"]):
        done = run(*arguments)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("mechanic-rl: ")


def _config(folder):
    path = folder / "quick.yaml"
    path.write_text("collection: {}\n")
    return path
