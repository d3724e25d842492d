"""The replay in memory-mapped files: the same rows as in memory, also after a kill; damage and full disks are noticed."""

import resource
import shutil
import signal
import subprocess
import sys
from collections import deque, namedtuple

import pytest
import torch

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.tensors import read_tensors
from mechanic_rl_ros.replay import buffer as buffer_module
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.replay.frame_files import FullDiskError
from mechanic_rl_ros.replay.rows import Rows

CONFIG = PolicyConfig.for_embodiment(load_embodiment())
CAPACITY, UNSAVED = 100, 60
CAMERAS = {"front": (6, 8)}


@pytest.fixture(autouse=True)
def short_ring(monkeypatch):
    monkeypatch.setattr(buffer_module, "UNSAVED", UNSAVED)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "replay"


def replay(folder=None, encoder="e", **more) -> ReplayBuffer:
    return ReplayBuffer(CONFIG, CAPACITY, 0.9, folder=folder, encoder=encoder, **more)


def add(buffer: ReplayBuffer, number: int) -> None:
    """Episode ``number``, always the same."""
    random = torch.Generator().manual_seed(number)
    steps = 2 + number * 7 % 19
    frames, actions, rewards = (torch.rand(size, generator=random) for size in ((steps + 1, CONFIG.frame_dim), (steps, 4), (steps,)))
    images = {"front": torch.randint(256, (steps + 1, 6, 8, 3), generator=random, dtype=torch.uint8)} if "images" in buffer._types else None
    buffer.add(frames, actions, rewards, number % 2 == 0, number % 3 == 0, f"e{number}", images)


def twin(numbers, **more) -> ReplayBuffer:
    """A replay in memory with these episodes; capacity does not matter."""
    buffer = ReplayBuffer(CONFIG, 10_000, 0.9, **more)
    for number in numbers:
        add(buffer, number)
    return buffer


def numbers(buffer: ReplayBuffer) -> list[int]:
    return [int(held.id[1:]) for held in buffer._index]


def same(one: ReplayBuffer, other: ReplayBuffer) -> bool:
    """Whether both hold and draw the same rows."""
    generators = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    mine, theirs = one.sample(64, generators[0]), other.sample(64, generators[1])
    names = [name for name in Rows.__dataclass_fields__ if name != "positions"]
    return len(one) == len(other) and all(torch.equal(getattr(mine, name), getattr(theirs, name)) for name in names)


def test_rows_are_those_of_a_replay_in_memory_bit_by_bit_however_often_the_ring_goes_round(folder):
    files, memory = replay(folder), replay()
    for number in range(60):
        add(files, number)
        add(memory, number)
        assert same(files, twin(numbers(files)))
        assert same(memory, twin(numbers(memory)))
        assert CAPACITY // 2 < len(files) + files.episodes <= CAPACITY or number < 8
        files.state()
        files.saved()
    assert files.positions()[0] > 3 * (CAPACITY + UNSAVED)


def test_a_restored_replay_holds_what_was_saved_whatever_was_written_since_and_finds_that_again(folder, tmp_path):
    buffer = replay(folder)
    for number in range(40):
        add(buffer, number)
        if number % 3 == 0:
            state, saved = buffer.state(), numbers(buffer)
            buffer.saved()
        crashed = tmp_path / f"crashed-{number}"
        shutil.copytree(folder, crashed)
        with open(crashed / "episodes.jsonl", "ab") as journal:
            journal.write(b'{"start": 3, "fra')
        again = replay(crashed)
        again.restore(state)
        assert numbers(again) == saved
        assert same(again, twin(saved))
        assert not again.lost
        since = [each for each in numbers(buffer) if each not in saved]
        for each in since:
            frames = again.stored(f"e{each}", 3 + each * 7 % 19)
            assert frames is not None
            add(again, each)
        assert numbers(again) == numbers(buffer)
        assert same(again, buffer)
        if not since:
            add(again, 1000)
            assert replay(crashed).stored("e1000", 3 + 1000 * 7 % 19) is not None
        shutil.rmtree(crashed)


CHILD = """
import sys, torch
from pathlib import Path
from safetensors.torch import save
sys.path.insert(0, sys.argv[1])
from test_replay_files import add, buffer_module, replay, UNSAVED
from mechanic_rl_ros.replay.atomic import write_atomically
buffer_module.UNSAVED = UNSAVED
buffer, folder = replay(Path(sys.argv[2])), Path(sys.argv[2]).parent
for number in range(10**6):
    add(buffer, number)
    if number % 3 == 0:
        write_atomically(folder / "state", save(buffer.state()))
        buffer.saved()
    print(number, flush=True)
"""


def test_a_process_that_is_killed_leaves_what_it_saved_last(folder, request):
    child = subprocess.Popen([sys.executable, "-c", CHILD, request.path.parent, folder], stdout=subprocess.PIPE, text=True)
    try:
        for line in child.stdout:
            if int(line) >= 100:
                break
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    buffer = replay(folder)
    buffer.restore(read_tensors((folder.parent / "state").read_bytes(), "state", ValueError))
    assert not buffer.lost
    assert numbers(buffer)[-1] >= 99
    assert same(buffer, twin(numbers(buffer)))


def test_what_the_last_saved_state_counts_is_not_overwritten(folder):
    buffer = replay(folder)
    for number in range(10):
        add(buffer, number)
    state, saved = buffer.state(), numbers(buffer)
    buffer.saved()
    with pytest.raises(FullDiskError, match="last saved state"):
        deque(add(buffer, number) for number in range(10, 100))
    again = replay(folder)
    again.restore(state)
    assert numbers(again) == saved
    assert same(again, twin(saved))
    with pytest.raises(FullDiskError, match="last saved state"):
        deque(add(again, number) for number in range(10, 100))


def test_a_damaged_episode_is_lost_and_the_others_are_not(folder):
    buffer = replay(folder)
    for number in range(6):
        add(buffer, number)
    state = buffer.state()
    path = folder / "frames.bin"
    data = bytearray(path.read_bytes())
    hurt = next(held for held in buffer._index if held.id == "e2")
    data[(hurt.start + 1) * buffer._types["frames"].itemsize] ^= 1
    path.write_bytes(data)
    again = replay(folder)
    again.restore(state)
    assert again.lost == {"e2"}
    assert "1 of 6 episodes" in again.fault
    assert same(again, twin([0, 1, 3, 4, 5]))
    assert again.stored("e2", hurt.frames) is None
    add(again, 2)
    assert not again.lost
    assert same(again, twin([0, 1, 3, 4, 5, 2]))


@pytest.mark.parametrize("damage", ["encoder", "header", "no header"])
def test_foreign_files_are_set_aside_with_one_line_and_not_used(folder, damage):
    buffer = replay(folder)
    add(buffer, 1)
    state = buffer.state()
    if damage == "header":
        (folder / "header.json").write_text("{")
    if damage == "no header":
        (folder / "header.json").unlink()
    again = replay(folder, encoder="other" if damage == "encoder" else "e")
    assert again.stored("e1", 10) is None
    again.restore(state)
    assert again.lost == {"e1"}
    assert len(again) == 0
    aside = folder.with_name("replay.damaged")
    assert str(aside) in again.fault
    assert "\n" not in again.fault
    assert (aside / "frames.bin").exists()


def test_frames_of_an_earlier_life_are_found_without_a_state(folder):
    buffer = replay(folder)
    for number in range(3):
        add(buffer, number)
    again = replay(folder)
    found = [again.stored(f"e{number}", 3 + number * 7 % 19) for number in range(3)]
    assert torch.equal(torch.cat(found)[:, : CONFIG.feature_dim].half().float(), torch.cat(found)[:, : CONFIG.feature_dim])
    assert again.stored("e1", 5) is None, "of another length"
    for number in range(3):
        add(again, number)
    assert same(again, twin(range(3)))


def test_a_full_disk_loses_nothing(folder, monkeypatch):
    buffer = replay(folder)
    add(buffer, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(FullDiskError, match="free some space"):
            add(buffer, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert same(buffer, twin([0]))
    add(buffer, 1)
    assert same(buffer, twin([0, 1]))
    monkeypatch.setattr("shutil.disk_usage", lambda path: namedtuple("Usage", "free")(100_000_000))
    with pytest.raises(FullDiskError, match="free some space"):
        buffer.reserve(10)


def test_a_place_that_cannot_be_written_is_one_line(folder):
    folder.write_bytes(b"")
    with pytest.raises(UserError, match="cannot use the replay"):
        add(replay(folder), 0)


def test_raw_images_come_with_their_rows(folder):
    buffer, memory = replay(folder, images=CAMERAS), twin(range(5), images=CAMERAS)
    for number in range(5):
        add(buffer, number)
    assert same(buffer, memory)
    mine, theirs = (each.images(each.positions())["front"] for each in (buffer, memory))
    assert mine.shape == (len(buffer), 2, 6, 8, 3)
    assert torch.equal(mine, theirs)
    assert torch.equal(mine[-5:, 0], mine[-6:-1, 1]), "the earlier frame of a row is the newest of the row before"
