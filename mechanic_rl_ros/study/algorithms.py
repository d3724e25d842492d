"""Every learner beside the others: how fast it gets better on the robot, and how good in the end."""

from __future__ import annotations

from mechanic_rl_ros.algorithms.registry import DEFAULT, LEARNERS
from mechanic_rl_ros.study.table import ROUNDING, TUNER, Result, best_of_grid, made
from mechanic_rl_ros.study.tuners import Cell

GAINS = (0.2, 0.3)
"""Gains over the base policy whose time is told."""

NOTE = (
    "Times are those of the first look at the policy that showed the gain, on the scenes of that look: looks are few and each of them is noisy. AdamW has, for "
    "every learner, the best pair of rates of the default learner's grid on the problem, or where there is no grid, the pair picked by hand for it."
)

HAND_PICKED = (3e-4, 1e-3)
"""Learning rates of actor and critics where no grid was run: those that were picked by hand for filtered IQL."""


def cells(results: dict[Cell, Result]) -> list[Cell]:
    """Every learner with the tuner, then with AdamW at the best pair of rates that the grid of a problem has shown."""
    best = best_of_grid(results)
    rates = (best.cell.actor_rate, best.cell.critic_rate) if best else HAND_PICKED
    return [Cell(TUNER.tuner, learner=name) for name in LEARNERS] + [Cell("adamw", *rates, learner=name) for name in LEARNERS]


def as_markdown(results: dict[str, dict[Cell, Result]], bases: dict[str, float]) -> str:
    """A table for every problem that more than one learner practised on, the best first; empty if there is none."""
    lines = []
    for problem, found in results.items():
        own = [result for cell, result in found.items() if cell.learner != DEFAULT or cell.tuner in (TUNER.tuner, "adamw")]
        learners = {result.cell.learner for result in own}
        if len(learners) < 2:
            continue
        rates = {_rates(result.cell) for result in own if result.cell.learner != DEFAULT}
        own = [result for result in own if _rates(result.cell) in rates]
        lines += [f"## {problem}, every learner; base policy {bases[problem]:.3f}", "", _head(), "|---|---|---|" + "---|" * len(GAINS)]
        lines += [_row(result) for result in sorted(own, key=lambda result: -result.mean)] + [""]
    return "\n".join([*lines, NOTE, "", *made(results)]) if lines else ""


def _rates(cell: Cell) -> tuple[str, float, float]:
    return cell.tuner, cell.actor_rate, cell.critic_rate


def _head() -> str:
    return "| learner | step sizes | success after all episodes | " + " | ".join(f"+{gain} after" for gain in GAINS) + " |"


def _row(result: Result) -> str:
    width = "" if result.half_width == float("inf") else f" ± {result.half_width:.3f}"
    seeds = len(result.successes)
    step = "tuner" if result.cell.tuner == TUNER.tuner else f"AdamW {result.cell.actor_rate:.0e} / {result.cell.critic_rate:.0e}"
    reached = " | ".join(_reached(result, gain) for gain in GAINS)
    return f"| {result.cell.learner} | {step} | {result.mean:.3f}{width} ({seeds} seed{'s' * (seeds > 1)}) | {reached} |"


def _reached(result: Result, gain: float) -> str:
    """Median over seeds of when a look first showed so much more than the base policy solves of the same scenes, and the earliest and the latest.

    A seed that never got there counts as later than all that did.
    """
    first = [next((look for look in curve if look["success"] - look["base"] >= gain - ROUNDING), None) for curve in result.curves]
    looks = sorted((look for look in first if look is not None), key=lambda look: look["episodes"])
    middle = (len(first) - 1) // 2
    if not looks:
        return "never"
    some = "" if len(looks) == len(first) else f", {len(looks)} of {len(first)} seeds"
    if middle >= len(looks):
        return f"most never (earliest {looks[0]['episodes']}{some})"
    last = looks[-1]["episodes"] if len(looks) == len(first) else "never"
    spread = "" if len(first) == 1 else f" ({looks[0]['episodes']} to {last}{some})"
    return f"{looks[middle]['episodes']} episodes{spread}, {looks[middle].get('minutes', float('nan')):.1f} min"
