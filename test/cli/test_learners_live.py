"""Learners that start from a policy of their own, in the real graph: what they need reaches them, and what they learn acts."""

import importlib.util
import json
import re
import signal
import subprocess

import pytest

from mechanic_rl_ros.metrics import read_metrics
from mechanic_rl_ros.paths import checkpoint_directory
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.replay.store import EpisodeStore

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mechanic_rl_ros.msg") is None, reason="the nodes are not built: `make` does it")

EPISODES = 12
QUICK = {"warmup_episodes": 2, "batch_size": 16}
LEARNERS = {
    "dppo": {**QUICK, "iteration_episodes": 2, "epochs": 1},
    "dsrl": {**QUICK, "critic_updates": 2, "updates_per_episode": 2},
    "sac": {**QUICK, "critic_updates": 2, "updates_per_episode": 2, "head_updates": 20},
}


@pytest.fixture
def practise(start, tmp_path):
    """Starts short practice on ``reach`` with a learner."""

    def call(name):
        (tmp_path / "learner.yaml").write_text(json.dumps({name: LEARNERS[name]}))  # JSON is YAML
        nodes = {"/**/learner_node": {"learner_file": str(tmp_path / "learner.yaml"), "publish_period": 0.5}, "/**/episode_node": {"pause_time": 1.0}}
        (tmp_path / "nodes.yaml").write_text(json.dumps({node: {"ros__parameters": values} for node, values in nodes.items()}))
        options = ["--run-directory", "run", "--parameter-file", "nodes.yaml", "--real-time-factor", 3, "--no-evaluate", "--workers", 1]
        return start("finetune", "--algorithm", name, "--task", "reach", "--episodes", EPISODES, *options)

    return call


def last(folder, kind):
    """The newest record of a kind, or None."""
    path = folder / "metrics.jsonl"
    return next((record for record in reversed(read_metrics(path) if path.exists() else []) if record["kind"] == kind), None)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_with_a_start_of_its_own_learns_from_what_its_policy_did_and_goes_on_from_there(name, practise, tmp_path):
    run, process = tmp_path / "run", practise(name)
    while not ((policy := last(run, "policy")) and policy["version"] > 0):
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0, process.stderr.read()
    assert policy["refused"] == 0
    first = next(iter(EpisodeStore(run / "episodes").load()))
    assert bool(first.traces.size) == (name == "dppo"), "how a chunk was drawn is recorded where somebody learns from it"
    start, tuned = Checkpoint.load(run / "start"), Checkpoint.load(run / "checkpoint")
    assert start.config != Checkpoint.load(checkpoint_directory("reach")).config
    _, err = (process := practise(name)).communicate(timeout=240)
    assert process.returncode == 0, err
    assert len(EpisodeStore(run / "episodes")) == EPISODES
    assert last(run, "learner")["version"] >= tuned.version > 0
    assert int(re.search(r"restored (\d+) updates", (run / "logs" / "learner_node.log").read_text())[1]) >= tuned.version
