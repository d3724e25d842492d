"""Which action of which chunk is due now. Everything goes by stamps; actions whose interval has passed are dropped and counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import ActionChunk

LONGEST_CHUNK = 256  # actions
FURTHEST_NS = 200_000_000  # a chunk stamped later than this from now comes from another clock


class ChunkPlayer:
    """Plays the newest chunk; one that starts later waits while the old one goes on."""

    def __init__(self, action_dim: int, blend_ns: int = 0) -> None:
        """Makes one that plays nothing.

        Args:
            action_dim: Numbers in one action.
            blend_ns: Around the moment in which one action, also the last one of a chunk, is followed by the next, the two are blended for so long; the
                gripper, the last number, changes at once.
        """
        self._action_dim, self._blend_ns = action_dim, blend_ns
        self.late_actions = 0
        self.refused_chunks = 0
        self.clear()

    def clear(self) -> None:
        """Forgets all chunks; counters stay."""
        self._playing: ActionChunk | None = None
        self._waiting: ActionChunk | None = None
        self._place: tuple[int, int] | None = None  # chunk and action that are played
        self._since_ns = 0  # when that began
        self._before = self._last = np.empty(0, np.float32)  # what was played when it began, and last

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
        if not 0 <= index < len(chunk.actions):
            self._last = np.empty(0, np.float32)
            return None
        return chunk, self._blended(now_ns, (chunk.stamp_ns, index), chunk.actions[index])

    def _blended(self, now_ns: int, place: tuple[int, int], action: NDArray[np.float32]) -> NDArray[np.float32]:
        if place != self._place:
            self._place, self._since_ns, self._before = place, now_ns, self._last
        elapsed = now_ns - self._since_ns
        if len(self._before) and 0 <= elapsed < self._blend_ns and np.isfinite(self._before).all() and np.isfinite(action).all():
            share = min(0.5 + elapsed / self._blend_ns, 1.0)
            self._last = self._before + np.float32(share) * (action - self._before)
            self._last[-1] = action[-1]
        else:
            self._last = action
        return self._last

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
