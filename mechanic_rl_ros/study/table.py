"""What came out of a study: mean success of every cell with an interval over seeds, and the claims that it supports or not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mechanic_rl_ros.algorithms.registry import DEFAULT
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.study.problems import PROBLEMS
from mechanic_rl_ros.study.tuners import ABLATIONS, Cell, grid

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
        lowest: Least gain over the base policy at any look, of any seed, on the same scenes.
        curves: Looks of every seed: ``episodes``, ``success``, robot ``minutes``.
    """

    cell: Cell
    successes: tuple[float, ...]
    lowest: float
    curves: tuple[tuple[dict[str, Any], ...], ...] = ()

    @property
    def mean(self) -> float:
        """Mean success over seeds."""
        return float(np.mean(self.successes))

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the mean (Student's t over seeds); infinite for one seed."""
        n = len(self.successes)
        return float(_STUDENT.get(n - 1, 1.96) * np.std(self.successes, ddof=1) / n**0.5) if n > 1 else float("inf")


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
        min(look["success"] - look["base"] for run in runs for look in run["curve"]),
        tuple(tuple(run["curve"]) for run in runs),
    )


def best_of_grid(results: dict[Cell, Result]) -> Result | None:
    """The grid cell with the highest mean, in hindsight; among those with as many seeds as any."""
    cells = [results[cell] for cell in grid() if cell in results]
    most = max((len(result.successes) for result in cells), default=0)
    return max((result for result in cells if len(result.successes) == most), key=lambda result: result.mean, default=None)


def controls(results: dict[Cell, Result]) -> list[Result]:
    """Other optimizers at their defaults, the best first."""
    others = [result for cell, result in results.items() if cell.learner == DEFAULT and not cell.actor_rate and cell != TUNER and cell.tuner not in ABLATIONS]
    return sorted(others, key=lambda result: -result.mean)


def claims(results: dict[Cell, Result]) -> list[tuple[str, bool]]:
    """What should hold on a problem, in words with figures, and whether it does."""
    own, best = results.get(TUNER), best_of_grid(results)
    if own is None:
        return []
    said = []
    if best is not None:
        share = own.mean / max(best.mean, 1e-9)
        tried = sum(cell in results for cell in grid())
        among = f"best of {tried} grid cells" + ("" if tried == len(grid()) else f", {len(grid())} are wanted")
        said.append((f"{share:.0%} of the {among} ({best.cell.name}, {best.mean:.3f}); wanted {SHARE:.0%}", share >= SHARE))
    for other in controls(results)[:1]:
        said.append((f"best control is {other.cell.name} with {other.mean:.3f}; wanted no better than {own.mean:.3f}", own.mean >= other.mean))
    said.append((f"least gain over the base policy at any look {own.lowest:+.3f}; wanted at least {-LOSS:+.2f}", own.lowest >= -LOSS))
    return said


def unchanged(result: Result, usual: Result) -> tuple[str, bool]:
    """Whether a condition leaves success as it is, within the noise of the seeds: the 95 % interval of the difference (Student's t) holds 0."""
    runs = (result.successes, usual.successes)
    if min(map(len, runs)) < 2:
        return f"{result.mean:.3f} against {usual.mean:.3f}; one seed says nothing of the noise", False
    freedom = sum(map(len, runs)) - 2
    width = _STUDENT.get(freedom, 1.96) * sum(float(np.var(own, ddof=1)) / len(own) for own in runs) ** 0.5
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
