"""Frames in memory, with the interface of ``FrameFiles``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.replay.episode_index import Held


class FrameMemory:
    """A ring of slots on one device, gone with the process; its state is all of it.

    Attributes:
        columns: Field of a record -> tensor (slots so far, ...).
        fault: Always empty.
        end: Always 0: nothing was here before.
    """

    fault, end = "", 0

    def __init__(self, types: Mapping[str, np.dtype[np.void]], slots: int, device: torch.device) -> None:
        """Takes no memory yet."""
        self._slots = slots
        fields = [(field, kind[field]) for kind in types.values() for field in kind.names or ()]
        self.columns: dict[str, Tensor] = {field: torch.from_numpy(np.zeros(0, kind)).to(device) for field, kind in fields}

    def write(self, held: Held, values: Mapping[str, Tensor]) -> Held:
        """Takes the frames of an episode, field by field."""
        first = held.start % self._slots
        self._grow(self._slots if held.start >= self._slots else first + held.frames)  # what an episode that did not fit at the end has left out as well
        for field, column in self.columns.items():
            column[first : first + held.frames] = values[field]
        return held

    def reserve(self, held: Held) -> None:
        """There is room."""

    def known(self, id: str) -> Held | None:
        """None: nothing outlives the process."""
        return None

    def intact(self, held: Held) -> bool:
        """Memory is believed."""
        return True

    def prefetch(self, file: str, slots: Tensor, count: int) -> None:
        """All of it is in memory."""

    def release(self, start: int) -> None:
        """Nothing is kept for a saved state, which has a copy of its own."""

    def state(self, end: int) -> dict[str, Tensor]:
        """The frames that were ever written, given the position behind the newest."""
        return {field: column[: min(end, self._slots)].cpu() for field, column in self.columns.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what ``state`` gave.

        Raises:
            UserError: It was saved by a replay of other sizes.
        """
        head = int(state["head"][0])
        for field, column in self.columns.items():
            used = len(state[field])
            same_ring = used == self._slots or head <= used < self._slots
            if not same_ring or state[field].shape[1:] != column.shape[1:]:
                raise UserError("the saved replay has another size: use the checkpoint and the replay_frames that it was saved with")
        self.columns = {field: state[field].to(column.device, copy=True) for field, column in self.columns.items()}

    def _grow(self, slots: int) -> None:
        for field, column in self.columns.items():
            if slots > len(column):
                more = min(max(slots, 2 * len(column)), self._slots) - len(column)
                self.columns[field] = torch.cat([column, column.new_zeros(more, *column.shape[1:])])
