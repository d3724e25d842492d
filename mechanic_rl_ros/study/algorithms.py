"""Every learner beside the others: how fast it gets better on the robot, and how good in the end."""

from __future__ import annotations

import numpy as np

from mechanic_rl_ros.algorithms.registry import DEFAULT, LEARNERS
from mechanic_rl_ros.study.table import TUNER, Result, best_of_grid
from mechanic_rl_ros.study.tuners import Cell

GAINS = (0.2, 0.3)
"""Gains over the base policy whose time is told."""

HAND_PICKED = (3e-4, 1e-3)
"""Learning rates of actor and critics where no grid was run: those that were picked by hand for filtered IQL."""


def cells(results: dict[Cell, Result]) -> list[Cell]:
    """Every learner with the tuner, and with AdamW at the best pair of rates that the grid of a problem has shown."""
    best = best_of_grid(results)
    rates = (best.cell.actor_rate, best.cell.critic_rate) if best else HAND_PICKED
    return [cell for name in LEARNERS for cell in (Cell(TUNER.tuner, learner=name), Cell("adamw", *rates, learner=name))]


def as_markdown(results: dict[str, dict[Cell, Result]], bases: dict[str, float]) -> str:
    """A table for every problem that more than one learner practised on, the best first; empty if there is none."""
    lines = []
    for problem, found in results.items():
        own = [result for cell, result in found.items() if cell.learner != DEFAULT or cell.tuner in (TUNER.tuner, "adamw")]
        if len({result.cell.learner for result in own}) < 2:
            continue
        learners = {result.cell.learner for result in own if result.cell.learner != DEFAULT}
        rates = {(result.cell.tuner, result.cell.actor_rate, result.cell.critic_rate) for result in own if result.cell.learner in learners}
        own = [result for result in own if (result.cell.tuner, result.cell.actor_rate, result.cell.critic_rate) in rates]
        lines += [f"## {problem}, every learner; base policy {bases[problem]:.3f}", "", _head(), "|---|---|---|" + "---|" * len(GAINS)]
        lines += [_row(result, bases[problem]) for result in sorted(own, key=lambda result: -result.mean)] + [""]
    return "\n".join(lines)


def _head() -> str:
    return "| learner | step sizes | success after all episodes | " + " | ".join(f"+{gain} after" for gain in GAINS) + " |"


def _row(result: Result, base: float) -> str:
    width = "" if result.half_width == float("inf") else f" ± {result.half_width:.3f}"
    seeds = len(result.successes)
    step = "tuner" if result.cell.tuner == TUNER.tuner else f"AdamW {result.cell.actor_rate:.0e} / {result.cell.critic_rate:.0e}"
    reached = " | ".join(_reached(result, base + gain) for gain in GAINS)
    return f"| {result.cell.learner} | {step} | {result.mean:.3f}{width} ({seeds} seed{'s' * (seeds > 1)}) | {reached} |"


def _reached(result: Result, wanted: float) -> str:
    """Median over seeds of when a look first showed so much; how many seeds it needed is said where some never did."""
    first = [next((look for look in curve if look["success"] >= wanted), None) for curve in result.curves]
    there = [look for look in first if look is not None]
    if not there:
        return "never"
    episodes, minutes = np.median([look["episodes"] for look in there]), np.median([look.get("minutes", np.nan) for look in there])
    some = "" if len(there) == len(first) else f" ({len(there)} of {len(first)} seeds)"
    return f"{episodes:.0f} episodes, {minutes:.1f} min{some}"
