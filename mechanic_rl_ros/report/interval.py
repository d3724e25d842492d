"""How sure a success rate is."""

from __future__ import annotations

from math import sqrt

Z_95 = 1.959963984540054
"""Standard normal quantile at 0.975."""


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, 95 % by default; (0, 1) without trials.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if trials == 0:
        return 0.0, 1.0
    rate, square = successes / trials, z * z
    centre = (rate + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def success_line(successes: int, trials: int) -> str:
    """A success rate with its interval, in words."""
    low, high = wilson_interval(successes, trials)
    return f"success {successes / max(1, trials):.3f} (95 % interval {low:.3f} to {high:.3f}), {successes} of {trials} episodes"
