"""Prioritised sampling: proportional, with importance weights, and never of what is gone."""

import pytest
import torch

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.replay.priorities import BLOCK, Priorities

CONFIG = PolicyConfig.for_embodiment(load_embodiment())


def replay(episodes: int, capacity=3000, alpha=0.6, folder=None) -> ReplayBuffer:
    buffer = ReplayBuffer(CONFIG, capacity, 0.9, alpha=alpha, folder=folder)
    for number in range(episodes):
        add(buffer, number)
    return buffer


def add(buffer: ReplayBuffer, number: int, steps=9) -> None:
    buffer.add(torch.full((steps + 1, CONFIG.frame_dim), float(number)), torch.zeros(steps, 4), torch.zeros(steps), False, False, str(number))


def random(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rows_are_drawn_in_proportion_to_powers_of_their_priorities_and_weighed_against_it():
    buffer = replay(200)
    positions = buffer.positions()
    wanted = 0.01 + torch.rand(len(positions), generator=random(), dtype=torch.float64) ** 4
    buffer.update_priorities(positions, wanted)
    expected = wanted**0.6 / (wanted**0.6).sum()
    rows = buffer.sample(100_000, random(1), beta=0.7)
    counts = torch.bincount(torch.searchsorted(positions, rows.positions), minlength=len(positions)) / 100_000
    assert float((counts - expected).abs().max()) < 3e-5
    weights = (len(positions) * expected[torch.searchsorted(positions, rows.positions)]) ** -0.7
    torch.testing.assert_close(rows.weights.double(), weights / weights.max(), rtol=1e-3, atol=1e-6)


def test_uniform_rows_weigh_one():
    assert replay(3, alpha=0.0).sample(8, random()).weights.tolist() == [1.0] * 8


def test_new_rows_have_the_highest_priority_so_far_and_those_that_are_gone_are_never_drawn(tmp_path):
    buffer = replay(10, capacity=100, folder=tmp_path / "replay")
    buffer.update_priorities(buffer.positions(), torch.linspace(0.0, 5.0, len(buffer)))
    add(buffer, 10)
    first, *_, last = buffer.positions().tolist()
    drawn = buffer.sample(50_000, random()).positions
    assert first == 10, "the oldest is gone"
    assert set(drawn.tolist()) <= set(buffer.positions().tolist())
    share = {position: float((drawn == position).float().mean()) for position in (last, last - 10)}
    assert share[last] == pytest.approx(share[last - 10], rel=0.01), "the one updated to the highest is in the episode before"
    before = buffer.sample(1000, random(2)).positions
    buffer.update_priorities(torch.tensor([3, 12]), torch.tensor([1e9, torch.nan]))
    assert torch.equal(buffer.sample(1000, random(2)).positions, before), "gone, and not finite"


def test_a_restored_replay_draws_by_the_same_priorities(tmp_path):
    buffer, again = replay(40, folder=tmp_path / "replay"), replay(0, folder=tmp_path / "replay")
    buffer.update_priorities(buffer.positions(), torch.rand(len(buffer), generator=random()))
    again.restore(buffer.state())
    mine, theirs = buffer.sample(64, random()), again.sample(64, random())
    assert torch.equal(mine.positions, theirs.positions)
    assert torch.equal(mine.weights, theirs.weights)


def test_a_slot_of_no_priority_is_never_drawn_wherever_it_lies():
    priorities = Priorities(4 * BLOCK, 1.0)
    few = torch.tensor([0, BLOCK - 1, 2 * BLOCK, 4 * BLOCK - 2])
    priorities[few] = torch.tensor([1e-6, 1.0, 1e6, 1e-6])
    slots, probabilities = priorities.sample(100_000, random())
    assert set(slots.tolist()) <= set(few.tolist())
    assert bool((probabilities > 0).all())


def test_a_replay_that_was_saved_without_priorities_goes_on_with_them(tmp_path):
    folder = tmp_path / "replay"
    saved = replay(5, alpha=0.0, folder=folder).state()
    again = ReplayBuffer(CONFIG, 3000, 0.9, alpha=0.6, folder=folder)
    again.restore(saved)
    counts = torch.bincount(again.sample(20_000, random()).positions)
    assert float(counts[again.positions()].float().std() / counts[again.positions()].float().mean()) < 0.1, "every row counts as new"
