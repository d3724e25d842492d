"""The episode folder survives whatever happens to its writer."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mechanic_rl_ros.embodiment import Embodiment, load_embodiment
from mechanic_rl_ros.replay.episode_file import EpisodeError, encode_episode
from mechanic_rl_ros.replay.store import EpisodeStore


def ids(store):
    return [episode.id for episode in store.load()]


def test_episodes_come_back_in_the_order_in_which_they_were_added(make_episode, tmp_path):
    store = EpisodeStore(tmp_path / "episodes")
    assert ids(store) == []
    for name in ("b", "a", "c_with_underscore.and-more"):
        store.add(make_episode(name))
    assert [path.name for path in store.paths()] == ["000000_b.mcap", "000001_a.mcap", "000002_c_with_underscore.and-more.mcap"]
    assert ids(EpisodeStore(tmp_path / "episodes", load_embodiment())) == ["b", "a", "c_with_underscore.and-more"]
    assert len(store) == 3
    assert store.path("a").name == "000001_a.mcap"
    assert store.path("none") is None


def test_numbers_go_on_after_the_last_one_even_beyond_a_million(make_episode, tmp_path):
    EpisodeStore(tmp_path).add(make_episode("a")).rename(tmp_path / "999999_a.mcap")
    store = EpisodeStore(tmp_path)
    assert store.add(make_episode("b")).name == "1000000_b.mcap"
    assert ids(store) == ["a", "b"]


def test_an_episode_that_is_here_already_is_not_written_again(make_episode, tmp_path):
    store = EpisodeStore(tmp_path)
    first = store.add(make_episode("a", seed=1))
    assert store.add(make_episode("a", seed=2)) == first
    assert [episode.seed for episode in store.load()] == [1]


def test_a_corrupt_file_is_skipped_and_reported_and_stays(make_episode, tmp_path):
    store = EpisodeStore(tmp_path)
    for name in ("a", "b", "c"):
        store.add(make_episode(name))
    path = store.path("b")
    path.write_bytes(path.read_bytes()[:-100])
    (tmp_path / "notes.txt").write_text("other files do not matter")
    assert ids(store) == ["a", "c"]
    assert list(store.corrupt) == [path]
    assert "damaged" in store.corrupt[path]
    assert store.add(make_episode("d")).name == "000003_d.mcap"


def test_the_files_that_can_be_read_are_told_apart_from_those_that_cannot(make_episode, tmp_path):
    store = EpisodeStore(tmp_path)
    whole, damaged = store.add(make_episode("a")), store.add(make_episode("b"))
    damaged.write_bytes(b"")
    assert store.readable() == [whole]
    assert list(store.corrupt) == [damaged]


def test_bytes_are_checked_before_they_are_stored(make_episode, tmp_path):
    store = EpisodeStore(tmp_path)
    data = encode_episode(make_episode("a"))
    with pytest.raises(EpisodeError):
        store.add_bytes(data[:-9])
    assert len(store) == 0
    path, episode = store.add_bytes(data)
    assert path.read_bytes() == data
    assert episode.id == "a"


def test_episodes_of_another_embodiment_are_skipped_and_refused(make_episode, tmp_path):
    changed = load_embodiment().to_dict()
    changed["name"] = "other"
    other = Embodiment.from_dict(changed)
    EpisodeStore(tmp_path).add(replace(make_episode("a"), embodiment=other))
    store = EpisodeStore(tmp_path, load_embodiment())
    assert ids(store) == []
    assert "another embodiment" in next(iter(store.corrupt.values()))
    with pytest.raises(EpisodeError, match="another embodiment"):
        store.add_bytes(encode_episode(replace(make_episode("b"), embodiment=other)))


def test_what_a_dead_writer_left_is_ignored_and_cleaned_but_a_living_writer_is_left_alone(make_episode, tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True).stdout.strip()
    leftover, working = tmp_path / f".000000_a.mcap.{dead}.tmp", tmp_path / f".000000_b.mcap.{os.getpid()}.tmp"
    leftover.write_bytes(b"half")
    working.write_bytes(b"half")
    store = EpisodeStore(tmp_path)
    assert store.paths() == []
    assert store.clean() == [leftover]
    store.add(make_episode("c"))
    assert working.exists()


WRITER = """
import sys
from itertools import count
from conftest import build_episode
from mechanic_rl_ros.replay.store import EpisodeStore
store = EpisodeStore(sys.argv[1])
episode = build_episode("x", steps=30)
print("ready", flush=True)
for number in count():
    episode.id = f"{sys.argv[2]}-{number}"
    store.add(episode)
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_time_loses_nothing_that_it_reported(make_episode, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])}
    reported = []
    for round in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(round)], stdout=subprocess.PIPE, text=True, env=environment) as writer:
            assert writer.stdout.readline() == "ready\n"
            for _ in range(2 + round):
                reported.append(f"{round}-{int(writer.stdout.readline())}")
            writer.send_signal(signal.SIGKILL)
    store = EpisodeStore(tmp_path)
    assert set(reported) <= set(ids(store))
    assert store.corrupt == {}
    store.add(make_episode("last"))
    assert [name for name in os.listdir(tmp_path) if name.endswith(".tmp")] == []
