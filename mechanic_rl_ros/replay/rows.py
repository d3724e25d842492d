"""What is drawn from a replay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Rows:
    """A batch of B rows.

    Attributes:
        frames: (B, T_o, frame_dim), oldest first; what is not yet seen at an episode's start is its first frame.
        chunks: (B, T_p, A), the first past_actions of them before the newest frame; beyond an episode's ends its first and last action go on.
        returns: (B,), sum of gamma^k r over n <= T_a steps.
        discounts: (B,), gamma^n, or 0 where a terminal state (success or failure) is reached within n steps. Time-outs are bootstrapped through.
        next_frames: (B, T_o, frame_dim), n steps later.
        solved: (B,), 1 in episodes that ended in success.
        remaining: (B,), steps until the episode's last frame.
        weights: (B,), importance weights, the largest 1; all are 1 where rows were drawn uniformly.
        positions: (B,), where the rows are in their replay.
    """

    frames: Tensor
    chunks: Tensor
    returns: Tensor
    discounts: Tensor
    next_frames: Tensor
    solved: Tensor
    remaining: Tensor
    weights: Tensor
    positions: Tensor

    @staticmethod
    def join(first: Rows, second: Rows) -> Rows:
        """Rows of both."""
        return Rows(**{name: torch.cat([getattr(first, name), getattr(second, name)]) for name in Rows.__dataclass_fields__})

    def split(self, count: int) -> list[Rows]:
        """The same rows in parts of ``count`` each, the last one smaller where it does not go in."""
        columns = {name: getattr(self, name).split(count) for name in Rows.__dataclass_fields__}
        return [Rows(**dict(zip(columns, parts, strict=True))) for parts in zip(*columns.values(), strict=True)]

    def to(self, device: torch.device) -> Rows:
        """The same rows on ``device``, copied from the host without waiting where they lie there."""
        if self.frames.device.type == device.type:
            return self
        return Rows(**{name: getattr(self, name).pin_memory().to(device, non_blocking=True) for name in Rows.__dataclass_fields__})
