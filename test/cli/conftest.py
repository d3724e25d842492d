"""Real processes, and a small checkpoint for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "mechanic_rl_ros.cli.main"]


PATH = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(REPOSITORY)]))  # what is built comes first: it has the interfaces too
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATH, "COLUMNS": "200", "TERM": "xterm", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def environment():
    return ENVIRONMENT


@pytest.fixture
def run(tmp_path):
    """Runs ``mechanic-rl`` in an empty folder, to its end."""

    def call(*arguments, **options):
        options = {"cwd": tmp_path, "env": ENVIRONMENT, **options}
        return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=240, check=False, **options)

    return call


@pytest.fixture
def start(tmp_path):
    """Starts ``mechanic-rl`` in a session of its own, as a terminal would."""
    started = []

    def call(*arguments, **options):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        started.append(subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=tmp_path, env=ENVIRONMENT, start_new_session=True, **pipes))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def refused(run):
    """Runs ``mechanic-rl``, expects one line on stderr and nothing else, and returns that line."""

    def call(*arguments, status=1, **options):
        done = run(*arguments, **options)
        assert done.returncode == status, done
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("mechanic-rl: ")
        assert done.stdout == ""
        return lines[0]

    return call


@pytest.fixture(scope="session")
def quick_config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "quick.yaml"
    path.write_text(
        "collection: {episodes: 2}\nbehaviour_cloning: {encoder_updates: 1, denoiser_updates: 2}\nconsistency: {updates: 2}\nfiltered_iql: {warmup_episodes: 1}\n"
    )
    return path


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory, quick_config):
    """Two demonstrations of ``lift``, made by the command line."""
    folder = tmp_path_factory.mktemp("data") / "lift"
    subprocess.run([*COMMAND, "collect", "--output", str(folder), "--config", str(quick_config)], env=ENVIRONMENT, check=True, capture_output=True, timeout=240)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, quick_config, demonstrations):
    """A checkpoint cloned from them in three updates, made by the command line."""
    folder = tmp_path_factory.mktemp("checkpoint") / "lift"
    arguments = ["pretrain", "--demonstrations", str(demonstrations), "--output", str(folder), "--config", str(quick_config)]
    subprocess.run([*COMMAND, *arguments], env=ENVIRONMENT, check=True, capture_output=True, timeout=240)
    return folder
