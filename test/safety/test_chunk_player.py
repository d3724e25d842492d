import numpy as np
import pytest

from mechanic_rl_ros.data import ActionChunk
from mechanic_rl_ros.safety.chunk_player import ChunkPlayer

PERIOD = 100_000_000


def chunk(stamp_ns, first=0.0, steps=8, **kwargs):
    actions = np.zeros((steps, 4), dtype=np.float32)
    actions[:, 0] = first + np.arange(steps)
    return ActionChunk(stamp_ns, PERIOD, actions, **kwargs)


def due(player, now_ns):
    found = player.due(now_ns)
    return None if found is None else float(found[1][0])


def test_each_action_is_played_in_its_own_interval():
    player = ChunkPlayer(4)
    player.add(chunk(1000))
    assert [due(player, 1000 + offset) for offset in (0, PERIOD - 1, PERIOD, 8 * PERIOD - 1, 8 * PERIOD)] == [0.0, 0.0, 1.0, 7.0, None]


def test_a_late_action_is_dropped_and_counted():
    player = ChunkPlayer(4)
    player.add(chunk(0))
    assert due(player, 3 * PERIOD + 5) == 3.0
    assert player.late_actions == 3


def test_a_chunk_that_is_too_late_altogether_plays_nothing():
    player = ChunkPlayer(4)
    player.add(chunk(0))
    assert due(player, 100 * PERIOD) is None
    assert player.late_actions == 8


def test_the_old_chunk_plays_until_the_new_one_begins():
    player = ChunkPlayer(4)
    player.add(chunk(0))
    assert due(player, PERIOD) == 1.0
    player.add(chunk(4 * PERIOD, first=100.0))
    assert due(player, 3 * PERIOD) == 3.0
    assert due(player, 4 * PERIOD) == 100.0


def test_a_new_chunk_replaces_the_old_one_from_its_first_action_that_is_not_late():
    player = ChunkPlayer(4)
    player.add(chunk(0))
    assert due(player, 2 * PERIOD) == 2.0
    player.add(chunk(PERIOD, first=100.0))
    assert due(player, 2 * PERIOD) == 101.0
    assert player.late_actions == 2 + 1  # the first chunk was two late when it was first played


def test_a_chunk_older_than_the_one_that_plays_is_refused():
    player = ChunkPlayer(4)
    player.add(chunk(5 * PERIOD, first=100.0))
    assert due(player, 5 * PERIOD) == 100.0
    player.add(chunk(PERIOD))
    assert due(player, 5 * PERIOD) == 100.0
    assert player.refused_chunks == 1


def test_a_chunk_from_the_far_future_is_refused_and_does_not_block_the_next():
    player = ChunkPlayer(4)
    player.add(chunk(10**15))
    assert due(player, 0) is None
    player.add(chunk(0))
    assert due(player, 0) == 0.0
    assert player.refused_chunks == 1


@pytest.mark.parametrize(
    "bad",
    [
        ActionChunk(0, PERIOD, np.zeros((8, 3), dtype=np.float32)),
        ActionChunk(0, PERIOD, np.zeros(4, dtype=np.float32)),
        ActionChunk(0, PERIOD, np.zeros((0, 4), dtype=np.float32)),
        ActionChunk(0, PERIOD, np.zeros((10_000, 4), dtype=np.float32)),
        ActionChunk(0, PERIOD, np.zeros((8, 4), dtype=np.int64)),
        ActionChunk(0, 0, np.zeros((8, 4), dtype=np.float32)),
        ActionChunk(0, -PERIOD, np.zeros((8, 4), dtype=np.float32)),
    ],
)
def test_a_malformed_chunk_is_refused_and_counted(bad):
    player = ChunkPlayer(4)
    player.add(bad)
    assert player.due(0) is None
    assert player.refused_chunks == 1


def test_actions_are_blended_but_the_gripper_changes_at_once():
    player = ChunkPlayer(4, blend_ns=20_000_000)
    first, second = chunk(0, steps=20), chunk(4 * PERIOD, first=10.0)
    first.actions[:, 0], second.actions[:, 3] = 0.0, 1.0
    player.add(first)
    player.due(4 * PERIOD - 1)
    player.add(second)
    played = [player.due(4 * PERIOD + offset)[1] for offset in (0, 5_000_000, 10_000_000, 50_000_000)]
    assert [float(action[0]) for action in played] == pytest.approx([5.0, 7.5, 10.0, 10.0])
    assert {float(action[3]) for action in played} == {1.0}


def test_after_a_pause_and_beside_what_is_no_number_nothing_is_blended():
    player = ChunkPlayer(4, blend_ns=20_000_000)
    player.add(chunk(0, first=1.0, steps=2))
    assert due(player, 0) == 1.0
    assert due(player, 5 * PERIOD) is None
    broken = chunk(6 * PERIOD, first=3.0)
    broken.actions[1] = np.nan
    player.add(broken)
    assert due(player, 6 * PERIOD) == 3.0
    assert np.isnan(due(player, 7 * PERIOD))
    assert due(player, 8 * PERIOD) == 5.0
