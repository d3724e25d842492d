"""Whether choosing among N samples helps yet: an A/B comparison that runs while the robot practises."""

from __future__ import annotations

import math
from typing import Any


def alternates(number: int) -> bool:
    """Whether practice episode ``number`` lets the critics choose, so that half of the episodes act plainly: the two arms of the comparison."""
    return number % 2 == 1


class Gate:
    """Compares the success of plain and best-of-N episodes over a sliding memory.

    An immature critic chooses worse than chance, so best-of-N starts off. It is switched on when its success is higher with a probability of ``on``
    (normal approximation to two Beta posteriors), and off again below ``off``; in between the last decision holds. Somebody who looks after every
    episode is fooled by luck more often than ``1 - on`` says, hence the least number of episodes and the long memory. The policy gets better all the
    time: only episodes of the same time are compared, those from before critics chose in any are forgotten.
    """

    def __init__(self, memory: float = 200.0, least: float = 20.0, on: float = 0.95, off: float = 0.5) -> None:
        """Starts with best-of-N off.

        Args:
            memory: Episodes of one arm that count, exponentially forgotten.
            least: Remembered episodes of each arm before best-of-N may be switched on.
            on: Probability above which best-of-N is switched on.
            off: Probability below which it is switched off.
        """
        self.memory, self.least, self.on, self.off = memory, least, on, off
        self.prefers_best_of_n = False
        self._counts = [[0.0, 0.0], [0.0, 0.0]]  # plain, best-of-N: successes, failures

    def add(self, success: bool, best_of_n: bool) -> None:
        """Counts one episode."""
        if best_of_n and not any(self._counts[1]):
            self._counts[0] = [0.0, 0.0]
        arm = self._counts[int(best_of_n)]
        kept = 1.0 - 1.0 / self.memory
        arm[0], arm[1] = kept * arm[0] + float(success), kept * arm[1] + float(not success)
        probability, enough = self.probability(), min(map(sum, self._counts)) >= self.least
        if probability < self.off or (probability > self.on and enough):
            self.prefers_best_of_n = probability > self.on

    def success(self, best_of_n: bool) -> float | None:
        """Recent success of one arm; None before its first episode."""
        successes, failures = self._counts[int(best_of_n)]
        return successes / (successes + failures) if successes + failures else None

    def probability(self) -> float:
        """Probability that best-of-N succeeds more often; 0.5 while one arm has no episode."""
        if not all(sum(arm) for arm in self._counts):
            return 0.5
        (plain, plain_variance), (best, best_variance) = (_posterior(*arm) for arm in self._counts)
        return 0.5 * (1.0 + math.erf((best - plain) / math.sqrt(2.0 * (plain_variance + best_variance))))

    def state(self) -> dict[str, Any]:
        """Plain data for JSON; ``restore`` takes it back."""
        return {"counts": self._counts, "prefers_best_of_n": self.prefers_best_of_n}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what ``state`` gave."""
        self._counts, self.prefers_best_of_n = [list(arm) for arm in state["counts"]], bool(state["prefers_best_of_n"])


def _posterior(successes: float, failures: float) -> tuple[float, float]:
    # Mean and variance of the Beta posterior under a uniform prior.
    a, b = successes + 1.0, failures + 1.0
    return a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1.0))
