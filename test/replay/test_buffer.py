"""The replay: rows, n-step returns, episode borders, the ring, and its file."""

from itertools import count

import pytest
import torch

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.replay.rows import Rows

CONFIG = PolicyConfig.for_embodiment(load_embodiment())
GAMMA = 0.9


@pytest.fixture(params=["memory", "files"])
def replay(request, tmp_path):
    """Makes empty replays of a capacity, in memory or each in a folder of its own."""
    folders = (tmp_path / f"replay-{number}" for number in count())
    return lambda capacity: ReplayBuffer(CONFIG, capacity, GAMMA, folder=next(folders) if request.param == "files" else None)


def fill(buffer: ReplayBuffer, steps: int, solved: bool, mark: float = 0.0, failed: bool = False) -> None:
    """An episode whose frame t holds mark + t in every entry, and whose action t is t / 100."""
    count = torch.arange(steps + 1, dtype=torch.float32)
    rewards = torch.zeros(steps)
    rewards[-1] = float(solved)
    buffer.add((mark + count)[:, None].expand(-1, CONFIG.frame_dim), (count[:-1] / 100)[:, None].expand(-1, 4), rewards, solved, solved or failed)


def all_rows(buffer: ReplayBuffer) -> Rows:
    return buffer.rows(buffer.positions())


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_an_empty_replay_says_that_it_is_empty(alpha):
    with pytest.raises(UserError, match="the replay is empty"):
        ReplayBuffer(CONFIG, 10, GAMMA, alpha=alpha).sample(4, torch.Generator())


def test_every_step_is_one_row_and_the_last_frame_is_none(replay):
    buffer = replay(100)
    fill(buffer, 6, True)
    fill(buffer, 3, False)
    assert (len(buffer), buffer.episodes) == (9, 2)


def test_the_window_repeats_the_first_frame_and_never_looks_into_another_episode(replay):
    buffer = replay(100)
    fill(buffer, 3, False)
    fill(buffer, 3, False, mark=50.0)
    windows = all_rows(buffer).frames[:, :, 0]
    assert windows.tolist() == [[0, 0], [0, 1], [1, 2], [50, 50], [50, 51], [51, 52]]


def test_chunks_go_on_with_the_last_action(replay):
    buffer = replay(100)
    fill(buffer, 10, False)
    fill(buffer, 10, False)
    chunks = (all_rows(buffer).chunks[:, :, 0] * 100).round()
    assert chunks[1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert chunks[7].tolist() == [7, 8, 9, 9, 9, 9, 9, 9]


def test_returns_are_discounted_and_a_success_is_not_bootstrapped(replay):
    buffer = replay(100)
    fill(buffer, 6, True)
    rows = all_rows(buffer)
    torch.testing.assert_close(rows.returns, torch.tensor([0.0, 0.0, GAMMA**3, GAMMA**2, GAMMA, 1.0]))
    torch.testing.assert_close(rows.discounts, torch.tensor([GAMMA**4, GAMMA**4, 0.0, 0.0, 0.0, 0.0]))
    assert rows.next_frames[:2, :, 0].tolist() == [[3, 4], [4, 5]]


def test_rewards_of_the_next_episode_do_not_leak(replay):
    buffer = replay(100)
    fill(buffer, 2, False)
    fill(buffer, 1, True)
    assert all_rows(buffer).returns.tolist() == [0.0, 0.0, 1.0]


def test_a_timeout_is_bootstrapped_from_its_last_frame(replay):
    buffer = replay(100)
    fill(buffer, 6, False)
    rows = all_rows(buffer)
    torch.testing.assert_close(rows.discounts, torch.tensor([GAMMA**4, GAMMA**4, GAMMA**4, GAMMA**3, GAMMA**2, GAMMA]))
    assert rows.next_frames[-1, :, 0].tolist() == [5, 6]
    assert float(rows.returns.abs().sum()) == 0.0
    assert float(rows.solved.sum()) == 0.0


def test_a_failure_is_terminal_and_worth_nothing(replay):
    buffer = replay(100)
    fill(buffer, 6, False, failed=True)
    rows = all_rows(buffer)
    torch.testing.assert_close(rows.discounts, torch.tensor([GAMMA**4, GAMMA**4, 0.0, 0.0, 0.0, 0.0]))
    assert float(rows.returns.abs().sum() + rows.solved.sum()) == 0.0


def test_the_oldest_episodes_make_room(replay):
    buffer = replay(20)
    for number in range(7):
        fill(buffer, 5, number % 2 == 0, mark=100.0 * number)
    rows = all_rows(buffer)
    assert buffer.episodes == 3
    assert len(buffer) == 15
    assert set((rows.frames[:, 1, 0] // 100).tolist()) == {4.0, 5.0, 6.0}
    for first, second in rows.frames[:, :, 0].tolist():
        assert first // 100 == second // 100
    for solved, episode in zip(rows.solved.tolist(), (rows.frames[:, 1, 0] // 100).tolist(), strict=True):
        assert solved == float(episode % 2 == 0)


def test_an_episode_that_does_not_fit_is_refused(replay):
    buffer = replay(5)
    for steps in (0, 5):
        with pytest.raises(UserError, match="does not fit"):
            buffer.add(torch.zeros(steps + 1, CONFIG.frame_dim), torch.zeros(steps, 4), torch.zeros(steps), False, False)


def test_a_restored_replay_draws_the_same_rows():
    buffer, again = ReplayBuffer(CONFIG, 20, GAMMA), ReplayBuffer(CONFIG, 20, GAMMA)
    for number in range(5):
        fill(buffer, 5, number % 2 == 0, mark=10.0 * number)
    again.restore(buffer.state())
    fill(buffer, 4, True)
    fill(again, 4, True)
    mine, theirs = buffer.sample(16, torch.Generator().manual_seed(0)), again.sample(16, torch.Generator().manual_seed(0))
    assert all(torch.equal(getattr(mine, name), getattr(theirs, name)) for name in Rows.__dataclass_fields__)


def test_a_replay_whose_end_was_left_free_is_restored():
    buffer, again = ReplayBuffer(CONFIG, 100, GAMMA), ReplayBuffer(CONFIG, 100, GAMMA)
    for steps in (44, 44, 19):  # the last one goes to the beginning of the ring, ten slots before its end
        fill(buffer, steps, True, mark=float(steps))
    again.restore(buffer.state())
    assert again.end == buffer.end
    assert torch.equal(again.positions(), buffer.positions())
    mine, theirs = (held.rows(held.positions()) for held in (buffer, again))
    assert torch.equal(mine.frames, theirs.frames)


def test_a_replay_of_another_size_is_refused():
    buffer = ReplayBuffer(CONFIG, 50, GAMMA)
    fill(buffer, 30, False)
    with pytest.raises(UserError, match="another size"):
        ReplayBuffer(CONFIG, 20, GAMMA).restore(buffer.state())


@pytest.mark.parametrize("part", [(0, 12), (5, 7), (0, 3), (9, 12)])
def test_a_part_of_an_episode_has_the_rows_that_the_whole_has_there(replay, part):
    whole, stretch = replay(100), replay(100)
    fill(whole, 12, True)
    fill(stretch, 4, False)
    count = torch.arange(13, dtype=torch.float32)
    rewards = torch.zeros(12)
    rewards[-1] = 1.0
    stretch.add(count[:, None].expand(-1, CONFIG.frame_dim), (count[:-1] / 100)[:, None].expand(-1, 4), rewards, True, True, part=part)
    wanted, found = whole.rows(whole.positions()[slice(*part)]), stretch.rows(stretch.positions()[4:])
    assert len(stretch) == 4 + part[1] - part[0]
    for name in ("frames", "chunks", "returns", "discounts", "next_frames"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), msg=name)
    leaves = stretch.as_demonstrations()["lengths"].tolist()
    assert leaves == ([part[1] - part[0] + 1] if part[1] == 12 else [])


def test_a_part_of_an_episode_is_the_same_after_a_restart():
    buffer, again = (ReplayBuffer(CONFIG, 100, GAMMA) for _ in range(2))
    buffer.add(torch.randn(13, CONFIG.frame_dim), torch.randn(12, 4), torch.zeros(12), True, True, part=(5, 7))
    again.restore(buffer.state())
    assert len(again) == 2
    torch.testing.assert_close(all_rows(again).chunks, all_rows(buffer).chunks)


def test_rows_of_a_part_are_drawn_by_priority_and_its_context_never():
    buffer = ReplayBuffer(CONFIG, 100, GAMMA, alpha=0.6)
    count = torch.arange(13, dtype=torch.float32)
    for _ in range(9):  # around the ring
        buffer.add(count[:, None].expand(-1, CONFIG.frame_dim), torch.zeros(12, 4), torch.zeros(12), True, True, part=(5, 7))
    drawn = buffer.sample(200, torch.Generator().manual_seed(0))
    assert set(drawn.frames[:, -1, 0].tolist()) == {5.0, 6.0}
