"""Which action of which chunk is due now. Everything goes by stamps; actions whose interval has passed are dropped and counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import ActionChunk

LONGEST_CHUNK = 256  # actions
FURTHEST_NS = 1_000_000_000  # a chunk stamped later than this from now comes from another clock


class ChunkPlayer:
    """Plays the newest chunk; one that starts later waits while the old one goes on."""

    def __init__(self, action_dim: int) -> None:
        """``action_dim``: numbers in one action."""
        self._action_dim = action_dim
        self.late_actions = 0
        self.refused_chunks = 0
        self.clear()

    def clear(self) -> None:
        """Forgets all chunks; counters stay."""
        self._playing: ActionChunk | None = None
        self._waiting: ActionChunk | None = None

    def add(self, chunk: ActionChunk) -> None:
        """Takes a chunk over; a malformed one, or one older than what is there, is refused and counted."""
        newest = self._waiting or self._playing
        if not self._well_formed(chunk) or (newest is not None and chunk.stamp_ns < newest.stamp_ns):
            self.refused_chunks += 1
            return
        self._waiting = chunk

    def due(self, now_ns: int) -> tuple[ActionChunk, NDArray[np.float32]] | None:
        """Chunk and action (A,) whose interval holds ``now_ns``, or None."""
        self._take_over(now_ns)
        chunk = self._playing
        if chunk is None:
            return None
        index = (now_ns - chunk.stamp_ns) // chunk.period_ns
        return (chunk, chunk.actions[index]) if 0 <= index < len(chunk.actions) else None

    def _take_over(self, now_ns: int) -> None:
        chunk = self._waiting
        if chunk is None:
            return
        if chunk.stamp_ns - now_ns > FURTHEST_NS:
            self.refused_chunks += 1
            self._waiting = None
        elif chunk.stamp_ns <= now_ns:
            self.late_actions += min((now_ns - chunk.stamp_ns) // chunk.period_ns, len(chunk.actions))
            self._playing, self._waiting = chunk, None

    def _well_formed(self, chunk: ActionChunk) -> bool:
        actions = chunk.actions
        shaped = isinstance(actions, np.ndarray) and actions.ndim == 2 and actions.shape[1] == self._action_dim and 0 < len(actions) <= LONGEST_CHUNK
        return shaped and np.issubdtype(actions.dtype, np.floating) and chunk.period_ns > 0
