"""Whether choosing among N samples helps yet: an A/B comparison that runs while the robot practises."""

from __future__ import annotations

import math
from typing import Any

LEAST_SHARE = 0.1  # of the variance that no promise is believed to take away
SUMS = 5  # of an arm: successes, failures, promise, its square, promise of the successes


def alternates(number: int) -> bool:
    """Whether practice episode ``number`` lets the critics choose, so that half of the episodes act plainly: the two arms of the comparison."""
    return number % 2 == 1


class Gate:
    """Compares the success of plain and best-of-N episodes over a sliding memory.

    An immature critic chooses worse than chance, so best-of-N starts off. It is switched on when its success is higher with a probability of ``on``
    (normal approximation to two Beta posteriors), and off again below ``off``; in between the last decision holds. Somebody who looks after every
    episode is fooled by luck more often than ``1 - on`` says, hence the least number of episodes and the long memory. The policy gets better all the
    time: only episodes of the same time are compared, those from before critics chose in any are forgotten.

    Most of what decides an episode is its scene, whichever way the policy acts. What the critics expect of a scene before it is acted in, its promise,
    tells some of that, and what it tells is taken out of the difference and out of its variance: CUPED (Deng, Xu, Kohavi, Walker: Improving the
    sensitivity of online controlled experiments by utilizing pre-experiment data, WSDM 2013), which is an analysis of covariance with one slope. With a
    correlation of 0.7 half as many episodes are enough. A promise that tells nothing changes nothing.
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
        self._arms = [[0.0] * SUMS, [0.0] * SUMS]  # plain, best-of-N

    def add(self, success: bool, best_of_n: bool, promise: float = 0.0) -> None:
        """Counts one episode.

        Args:
            success: Whether it was solved.
            best_of_n: Whether critics chose in it.
            promise: What was expected of its scene before anything was learned from it, in any unit; finite.
        """
        if best_of_n and not any(self._arms[1]):
            self._arms[0] = [0.0] * SUMS
        kept, seen = 1.0 - 1.0 / self.memory, (float(success), float(not success), promise, promise**2, promise * success)
        self._arms[best_of_n] = [kept * old + new for old, new in zip(self._arms[best_of_n], seen, strict=True)]
        probability, enough = self.probability(), min(map(_episodes, self._arms)) >= self.least
        if probability < self.off or (probability > self.on and enough):
            self.prefers_best_of_n = probability > self.on

    def success(self, best_of_n: bool) -> float | None:
        """Recent success of one arm; None before its first episode."""
        arm = self._arms[best_of_n]
        return arm[0] / _episodes(arm) if _episodes(arm) else None

    def probability(self) -> float:
        """Probability that best-of-N succeeds more often; 0.5 while one arm has no episode."""
        if not all(map(_episodes, self._arms)):
            return 0.5
        (plain, plain_variance), (best, best_variance) = (_posterior(*arm[:2]) for arm in self._arms)
        lead, share = self._told()
        return 0.5 * (1.0 + math.erf((best - plain - lead) / math.sqrt(2.0 * share * (plain_variance + best_variance))))

    def _told(self) -> tuple[float, float]:
        """By how much best-of-N should have succeeded more often for its scenes' promise alone, and what part of the variance promise leaves."""
        episodes = sum(map(_episodes, self._arms))
        spread, together, outcome = (sum(parts) for parts in zip(*map(_within, self._arms), strict=True))
        if spread <= 1e-9 * episodes or outcome <= 0.0 or episodes <= max(self.least, 3.0):
            return 0.0, 1.0
        plain, best = (arm[2] / _episodes(arm) for arm in self._arms)
        left = (1.0 - together**2 / (spread * outcome)) * (episodes - 2.0) / (episodes - 3.0)  # a slope is one number more that was fitted
        unsure = (best - plain) ** 2 / spread / sum(1.0 / _episodes(arm) for arm in self._arms)  # of the slope, where promises differ
        return together / spread * (best - plain), min(max(left * (1.0 + unsure), LEAST_SHARE), 1.0)

    def state(self) -> dict[str, Any]:
        """Plain data for JSON; ``restore`` takes it back."""
        return {"arms": self._arms, "prefers_best_of_n": self.prefers_best_of_n}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what ``state`` gave. An earlier version counted something else: its decision stands until there is evidence again."""
        self._arms = [list(arm) for arm in state.get("arms", [[0.0] * SUMS] * 2)]
        self.prefers_best_of_n = bool(state["prefers_best_of_n"])


def _episodes(arm: list[float]) -> float:
    return arm[0] + arm[1]


def _within(arm: list[float]) -> tuple[float, float, float]:
    # Sums of squares of one arm around its means: of promise, of promise and success, of success.
    successes, episodes, promise, square, both = arm[0], _episodes(arm), *arm[2:]
    return square - promise**2 / episodes, both - promise * successes / episodes, successes - successes**2 / episodes


def _posterior(successes: float, failures: float) -> tuple[float, float]:
    # Mean and variance of the Beta posterior under a uniform prior.
    a, b = successes + 1.0, failures + 1.0
    return a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1.0))
