"""Batches from two replays: what was practised and, last, what was shown."""

from __future__ import annotations

import torch

from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.replay.rows import Rows


def mixed_batches(count: int, practice: ReplayBuffer, practised: int, demonstrations: ReplayBuffer, shown: int, generator: torch.Generator) -> list[Rows]:
    """``count`` batches, drawn at once, which takes hardly longer than one.

    Args:
        count: Batches.
        practice: Drawn from uniformly or by priority: demonstrations keep their share of the weights either way.
        practised: Rows of practice in a batch; 0: it may be empty.
        demonstrations: Drawn from uniformly.
        shown: Rows of demonstrations in a batch; 0: there may be none.
        generator: Draws, on the device of both.

    Raises:
        UserError: A replay that is drawn from is empty.
    """
    if not practised:
        return demonstrations.sample(count * shown, generator).split(shown)
    own = practice.sample(count * practised, generator).split(practised)
    if not shown:
        return own
    for rows in own:
        rows.weights = rows.weights / rows.weights.mean()
    return [Rows.join(*pair) for pair in zip(own, demonstrations.sample(count * shown, generator).split(shown), strict=True)]
