"""Figures say what they were measured with."""

import subprocess

import pytest

from mechanic_rl_ros.provenance import commit, provenance


def git(folder, *command):
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, "-C", folder, *command], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "--message", "code")
    return tmp_path


def test_the_commit_is_that_of_the_folder(repository):
    assert git(repository, "rev-parse", "HEAD").startswith(commit(repository))
    assert len(commit(repository)) == 10


def test_code_that_was_changed_since_is_said_but_not_that_results_lie_there(repository):
    (repository / "result.json").write_text("{}")
    assert not commit(repository).endswith("+")
    (repository / "src").mkdir()
    (repository / "src" / "kernel.cpp").write_text("1\n")
    assert commit(repository).endswith("+")
    (repository / "src" / "kernel.cpp").unlink()
    assert not commit(repository).endswith("+")
    (repository / "code.py").write_text("2\n")
    (repository / "install").mkdir()
    assert commit(repository).endswith("+")
    assert commit(repository / "install").endswith("+")


def test_without_git_the_version_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit(tmp_path).startswith("version ") or commit(tmp_path) == "unknown"


def test_machine_and_day_are_said():
    made = provenance()
    assert "cores" in made["machine"]
    assert "torch" in made["machine"]
    assert len(made["date"].split("-")) == 3
