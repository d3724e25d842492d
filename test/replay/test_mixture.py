"""Batches of practice and demonstrations, several at once."""

import pytest
import torch

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.replay.mixture import mixed_batches

CONFIG = PolicyConfig.for_embodiment(load_embodiment())
SHOWN_FROM = 1000.0  # in every entry of a demonstration's frames; practice has less


def replay(mark: float, alpha: float = 0.0) -> ReplayBuffer:
    buffer = ReplayBuffer(CONFIG, 200, 0.9, alpha=alpha)
    frames = (mark + torch.arange(51.0))[:, None].expand(-1, CONFIG.frame_dim)
    buffer.add(frames, torch.zeros(50, 4), torch.zeros(50), solved=True, terminal=True)
    return buffer


def batches(count: int, practised: int, shown: int, alpha: float = 0.0):
    practice = replay(0.0, alpha)
    if alpha:
        practice.update_priorities(practice.positions(), torch.linspace(0.1, 2.0, 50))
    return mixed_batches(count, practice, practised, replay(SHOWN_FROM), shown, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("practised", "shown"), [(6, 2), (8, 0), (0, 8)])
def test_every_batch_has_its_share_of_practice_first_and_of_demonstrations_last(practised, shown):
    drawn = batches(3, practised, shown)
    assert len(drawn) == 3
    for rows in drawn:
        assert (rows.frames[:, -1, -1] >= SHOWN_FROM).tolist() == [False] * practised + [True] * shown


def test_batches_that_are_drawn_at_once_have_rows_of_their_own():
    drawn = [rows.positions.tolist() for rows in batches(4, 12, 4)]
    assert len({tuple(positions[:12]) for positions in drawn}) == len({tuple(positions[12:]) for positions in drawn}) == 4


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_every_batch_is_drawn_from_all_of_the_practice_not_from_a_part_of_it_each(alpha):
    for rows in batches(4, 40, 8, alpha):
        early = int((rows.positions[:40] < 25).sum())
        assert 3 <= early <= 30, "of 50 rows, of which the later ones have the higher priority"


def test_demonstrations_keep_their_share_of_the_weights_in_every_batch_that_is_drawn_by_priority():
    for rows in batches(3, 6, 2, alpha=0.9):
        assert rows.weights[:6].std() > 0.0
        assert rows.weights[:6].sum().item() == pytest.approx(6.0)
        assert rows.weights[6:].tolist() == [1.0, 1.0]


def test_nothing_is_drawn_from_a_replay_that_a_batch_has_no_rows_of():
    empty, full, generator = ReplayBuffer(CONFIG, 200, 0.9), replay(0.0), torch.Generator().manual_seed(0)
    assert len(mixed_batches(2, empty, 0, full, 4, generator)) == len(mixed_batches(2, full, 4, empty, 0, generator)) == 2
    with pytest.raises(UserError, match="the replay is empty"):
        mixed_batches(1, empty, 2, full, 2, generator)
