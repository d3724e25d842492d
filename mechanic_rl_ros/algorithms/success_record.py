"""Whether the robot has become worse: the last episodes against the best period before them."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

PERIOD = 30
"""Episodes of a period, and of what is compared with the best one."""

QUANTILE = 3.5
"""Normal quantile beyond which a difference counts: one look errs with 0.02 %. There is a look after every episode, through a window that slides, at the
luckiest of all periods: that adds up to at most 3.6 % in 500 episodes of constant success (`benchmark/results/guard.md`)."""

Tally = list[tuple[int, int]]
"""Episodes and successes of plain acting, and of best-of-N."""


class Finding(Enum):
    """What an episode has shown."""

    NOTHING = 0
    PERIOD = 1  # a period has ended
    BEST = 2  # a period has ended that is no worse than the best before it
    DROP = 3  # success has dropped


class SuccessRecord:
    """Compares the last ``PERIOD`` episodes with the best of the periods that had ended before them.

    Plain and best-of-N episodes are two ways to act with the same weights, and an immature critic makes one of them poor. So like is compared with
    like: each way with itself, then both added up (Mantel and Haenszel 1959, a 2x2 table for each way). A way that only one side has does not count.

    Nothing is found before two periods are over.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forgets everything."""
        self._best: Tally | None = None
        self._recent: list[tuple[int, int]] = []  # best-of-N or not, success or not; oldest first, none of the best period
        self._count = 0  # episodes of the period that has not ended

    def add(self, success: bool, best_of_n: bool) -> Finding:
        """Counts one episode."""
        self._recent = [*self._recent, (int(best_of_n), int(success))][-PERIOD:]
        self._count += 1
        if self.deviations() > QUANTILE:
            return Finding.DROP
        if self._count < PERIOD:
            return Finding.NOTHING
        self._count = 0
        if self._best is not None and shortfall(self._best, _tally(self._recent))[0] > 0.0:
            return Finding.PERIOD
        self._best, self._recent = _tally(self._recent), []
        return Finding.BEST

    def deviations(self) -> float:
        """By how many deviations the last period's successes are too few; 0 while there is nothing to compare."""
        if self._best is None or len(self._recent) < PERIOD:
            return 0.0
        missing, variance = shortfall(self._best, _tally(self._recent))
        return (missing - 0.5) / math.sqrt(variance) if variance else 0.0

    def story(self) -> str:
        """Both numbers for people."""
        best = sum(successes for _, successes in self._best or [])
        return f"{sum(success for _, success in self._recent)} of the last {len(self._recent)} episodes succeeded, {best} of {PERIOD} in the best period"

    def state(self) -> dict[str, Any]:
        """Plain data for JSON; ``restore`` takes it back."""
        return {"best": self._best, "recent": self._recent, "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what ``state`` gave."""
        best = state["best"]
        self._best = None if best is None else [(int(episodes), int(successes)) for episodes, successes in best]
        self._recent = [(int(way), int(success)) for way, success in state["recent"]]
        self._count = int(state["count"])


def shortfall(before: Tally, after: Tally) -> tuple[float, float]:
    """Successes that ``after`` lacks to be as good as both together, way by way, and the variance of that number if they are (hypergeometric)."""
    missing = variance = 0.0
    for (m, r), (n, s) in zip(before, after, strict=True):
        if m and n:
            total, solved = m + n, r + s
            missing += n * solved / total - s
            variance += m * n * solved * (total - solved) / (total * total * (total - 1))
    return missing, variance


def _tally(episodes: list[tuple[int, int]]) -> Tally:
    return [(sum(own == way for own, _ in episodes), sum(success for own, success in episodes if own == way)) for way in (0, 1)]
