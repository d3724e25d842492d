"""Which episodes a replay holds, and where: memory in proportion to episodes, not to frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Held(NamedTuple):
    """An episode in a replay.

    Attributes:
        start: Position of its first frame. Positions only grow; an episode of n steps takes n + 1 of them in a row.
        frames: Its frames, n + 1.
        solved: Whether it ended in success.
        terminal: Whether nothing follows its last frame.
        checksum: Of its frames, where they lie in files; else 0.
        id: Its name, or empty.
        before: Frames at its start that are no rows, only what the first row has seen before.
        after: Frames at its end, beyond the one behind the last row, that are no rows: what came of the last rows.
    """

    start: int
    frames: int
    solved: bool
    terminal: bool
    checksum: int = 0
    id: str = ""
    before: int = 0
    after: int = 0

    @property
    def rows(self) -> int:
        """Its rows."""
        return self.frames - 1 - self.before - self.after

    @property
    def end(self) -> int:
        """Position behind its last frame."""
        return self.start + self.frames


class EpisodeIndex:
    """Episodes in the order in which they came; rows are counted in that order, oldest first."""

    def __init__(self, device: torch.device) -> None:
        self._held: deque[Held] = deque()
        self._table = torch.zeros(6, 0, dtype=torch.int64, device=device)  # start, frames, solved, terminal, first row, rows before it
        self._begin = self._end = 0  # the columns in use; those before belong to episodes that are gone
        self._rows_ever = self._rows_gone = 0

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held)

    @property
    def oldest(self) -> Held:
        """The one that goes first. There must be one."""
        return self._held[0]

    @property
    def rows(self) -> int:
        """Number of rows of all episodes."""
        return self._rows_ever - self._rows_gone

    def append(self, held: Held) -> None:
        """Adds an episode that lies behind all others; its time does not depend on how many there are, on average."""
        if self._end == self._table.shape[1]:
            used = self._table[:, self._begin : self._end]
            self._table = torch.cat([used, torch.zeros(6, max(64, used.shape[1]), dtype=torch.int64, device=used.device)], dim=1)
            self._begin, self._end = 0, used.shape[1]
        entry = (held.start, held.frames, held.solved, held.terminal, held.start + held.before, self._rows_ever)
        self._table[:, self._end] = torch.tensor(entry, dtype=torch.int64)
        self._end += 1
        self._rows_ever += held.rows
        self._held.append(held)

    def drop_oldest(self) -> Held:
        """Forgets the oldest episode, and returns it."""
        held = self._held.popleft()
        self._begin += 1
        self._rows_gone += held.rows
        return held

    def positions(self, rows: Tensor) -> Tensor:
        """Positions (B,) of rows (B,) in [0, ``rows``)."""
        first, before = self._table[4:, self._begin : self._end]
        rows = rows + self._rows_gone
        episodes = torch.searchsorted(before, rows, right=True) - 1
        return first[episodes] + rows - before[episodes]

    def at(self, positions: Tensor) -> Tensor:
        """Start, frames, solved and terminal (4, B) of the episodes at positions (B,)."""
        table = self._table[:4, self._begin : self._end]
        return table[:, torch.searchsorted(table[0], positions, right=True) - 1]
