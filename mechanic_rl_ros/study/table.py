"""What came out of a study: mean success of every cell with an interval over seeds, and the claims that it supports or not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mechanic_rl_ros.algorithms.registry import DEFAULT
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.study.problems import PROBLEMS
from mechanic_rl_ros.study.tuners import Cell, grid

TUNER = Cell("relative")
SHARE = 0.95  # of the best grid cell's mean that the tuner must reach
LOSS = 0.05  # below the base policy, at most, at any look
_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}  # 97.5 % quantile by degrees of freedom


@dataclass(frozen=True)
class Result:
    """A cell on a problem.

    Attributes:
        cell: Which.
        successes: Success of every seed at the end.
        seeds: Which they are, rising.
        lowest: Least gain over the base policy at any look, of any seed, on the same scenes.
        curves: Looks of every seed: ``episodes``, ``success``, robot ``minutes``.
    """

    cell: Cell
    successes: tuple[float, ...]
    seeds: tuple[int, ...]
    lowest: float
    curves: tuple[tuple[dict[str, Any], ...], ...] = ()

    @property
    def mean(self) -> float:
        """Mean success over seeds."""
        return float(np.mean(self.successes))

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the mean (Student's t over seeds); infinite for one seed."""
        return half_width(self.successes)

    def on(self, seeds: Iterable[int]) -> list[float]:
        """Success of some of the seeds, in their order."""
        return [self.successes[self.seeds.index(seed)] for seed in seeds]


def half_width(numbers: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean (Student's t); infinite for one number."""
    n = len(numbers)
    return student(n - 1) * float(np.std(numbers, ddof=1)) / n**0.5 if n > 1 else float("inf")


def student(freedom: int) -> float:
    """97.5 % quantile of Student's t; beyond the table by Cornish and Fisher's expansion."""
    z = 1.959964
    return _STUDENT.get(freedom, z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2))


def read_results(folder: Path) -> dict[str, dict[Cell, Result]]:
    """Results by problem and cell.

    Raises:
        UserError: There are none, or some were made by an earlier version.
    """
    found: dict[str, dict[Cell, list[dict[str, Any]]]] = {}
    for path in sorted(folder.glob("*/*/seed*.json")):
        record = json.loads(path.read_text())
        if not all("base" in look for look in record["curve"]):
            raise UserError(f"{path} was made by an earlier version: use another --output")
        cell = Cell(record["tuner"], record["actor_rate"], record["critic_rate"], record.get("learner", DEFAULT))
        found.setdefault(record["problem"], {}).setdefault(cell, []).append(record)
    if not found:
        raise UserError(f"{folder} holds no results of a study: run `mechanic-rl study` first")
    return {problem: {cell: _result(cell, records) for cell, records in cells.items()} for problem, cells in found.items()}


def _result(cell: Cell, records: Iterable[dict[str, Any]]) -> Result:
    runs = sorted(records, key=lambda record: record["seed"])
    return Result(
        cell,
        tuple(run["success"] for run in runs),
        tuple(run["seed"] for run in runs),
        min(look["success"] - look["base"] for run in runs for look in run["curve"]),
        tuple(tuple(run["curve"]) for run in runs),
    )


def _with_most_seeds(results: Iterable[Result]) -> list[Result]:
    """Those that have all seeds that any of them has, so that nobody wins by a lucky few."""
    found = list(results)
    most = max((len(result.seeds) for result in found), default=0)
    return [result for result in found if len(result.seeds) == most]


def _on_grid(results: dict[Cell, Result]) -> list[Result]:
    return _with_most_seeds(results[cell] for cell in grid() if cell in results)


def best_of_grid(results: dict[Cell, Result]) -> Result | None:
    """The grid cell with the highest mean, in hindsight; among those with as many seeds as any."""
    return max(_on_grid(results), key=lambda result: result.mean, default=None)


def controls(results: dict[Cell, Result]) -> list[Result]:
    """Other optimizers at their defaults, the best first."""
    others = [result for cell, result in results.items() if cell.learner == DEFAULT and not cell.actor_rate and cell != TUNER]
    return sorted(others, key=lambda result: -result.mean)


def claims(results: dict[Cell, Result]) -> list[tuple[str, bool]]:
    """What should hold on a problem, in words with figures, and whether it does. Two cells are compared on the seeds that both have."""
    own, best = results.get(TUNER), best_of_grid(results)
    if own is None:
        return []
    said = []
    if best is not None and (pair := _pair(own, best)):
        mine, theirs, text = pair
        cells = len(_on_grid(results))
        among = f"best of {cells} grid cells" + ("" if cells == len(grid()) else f", {len(grid())} are wanted")
        said.append((f"{mine / max(theirs, 1e-9):.0%} of the {among} ({best.cell.name}; {text}); wanted {SHARE:.0%}", mine >= SHARE * theirs))
    others = _with_most_seeds(controls(results))
    if others and (pair := _pair(own, others[0])):
        mine, theirs, text = pair
        said.append((f"best control is {others[0].cell.name} ({text}); wanted no better than the tuner", mine >= theirs))
    said.append((f"least gain over the base policy at any look {own.lowest:+.3f}; wanted at least {-LOSS:+.2f}", own.lowest >= -LOSS))
    return said


def _pair(own: Result, other: Result) -> tuple[float, float, str] | None:
    """Means on the seeds that both have, and in words with the 95 % interval of the difference; None where they share no seed."""
    seeds = [seed for seed in own.seeds if seed in other.seeds]
    if not seeds:
        return None
    mine, theirs = own.on(seeds), other.on(seeds)
    width = half_width(np.subtract(mine, theirs).tolist())
    noise = f" ± {width:.3f} over {len(seeds)} seeds" if len(seeds) > 1 else ", one seed"
    change = float(np.mean(mine) - np.mean(theirs))
    return float(np.mean(mine)), float(np.mean(theirs)), f"tuner {np.mean(mine):.3f}, it {np.mean(theirs):.3f}, difference {change:+.3f}{noise}"


def unchanged(result: Result, usual: Result) -> tuple[str, bool]:
    """Whether a condition leaves success as it is, within the noise of the seeds: the 95 % interval of the difference (Student's t) holds 0."""
    runs = (result.successes, usual.successes)
    if min(map(len, runs)) < 2:
        return f"{result.mean:.3f} against {usual.mean:.3f}; one seed says nothing of the noise", False
    width = student(sum(map(len, runs)) - 2) * sum(float(np.var(own, ddof=1)) / len(own) for own in runs) ** 0.5
    change = result.mean - usual.mean
    return f"{result.mean:.3f} against {usual.mean:.3f}, {change:+.3f} ± {width:.3f}; wanted within the seeds' noise", abs(change) <= width


def as_markdown(results: dict[str, dict[Cell, Result]], bases: dict[str, float]) -> str:
    """The whole study as text."""
    lines = []
    for problem, cells in results.items():
        base = bases.get(problem)
        lines += [
            f"## {problem}" + (f", base policy {base:.3f}" if base is not None else ""),
            "",
            "| cell | success, mean | seeds | least gain over the base policy at any look |",
            "|---|---|---|---|",
        ]
        for result in sorted(cells.values(), key=lambda result: -result.mean):
            width = "" if result.half_width == float("inf") else f" ± {result.half_width:.3f}"
            lines.append(f"| {result.cell.name} | {result.mean:.3f}{width} | {len(result.successes)} | {result.lowest:+.3f} |")
        said = claims(cells)
        like = PROBLEMS[problem].like if problem in PROBLEMS else ""
        if TUNER in cells and TUNER in results.get(like, {}):
            text, held = unchanged(cells[TUNER], results[like][TUNER])
            said.append((f"compared with {like}: {text}", held))
        lines += ["", *(f"- {'yes' if held else 'NO'}: {text}" for text, held in said), ""]
    return "\n".join(lines)
