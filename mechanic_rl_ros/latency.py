"""What the arm does while an action chunk is computed, and how long that takes."""

from __future__ import annotations

import math
from collections import deque
from enum import Enum

import numpy as np

REMEMBERED = 50  # chunks
QUANTILE = 0.95
CHUNK_AGE_S = 0.8  # age of the newest observation that a chunk was computed from, beyond which it is no longer followed


class LatencyMode(str, Enum):
    """What the arm does between an observation and the chunk that was computed from it."""

    WAITING = "waiting"
    """It holds still; then T_a actions are played (synchronous inference). For comparison."""

    OVERLAPPING = "overlapping"
    """It plays the previous chunk on; actions of the new one whose time has passed are dropped."""

    INPAINTING = "inpainting"
    """Likewise, and the new chunk is made to continue the previous one: see ``policy.inpainting``."""


class MeasuredLatency:
    """From the latencies of the last chunks: how many actions of the next one will be over before it takes effect."""

    def __init__(self, period_s: float) -> None:
        """``period_s``: time that one action is played."""
        self._period_s = period_s
        self._recent: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        """Takes the time from an observation until its chunk was ready."""
        self._recent.append(seconds)

    @property
    def actions(self) -> int:
        """A high quantile, in actions, rounded up: an action that begins before the chunk is ready is over. 0 before anything was measured."""
        latency = float(np.quantile(self._recent, QUANTILE)) if self._recent else 0.0
        return max(math.ceil(latency / self._period_s), 0)
