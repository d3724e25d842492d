"""What came out of a study: mean success of every cell with an interval over seeds, and the claims that it supports or not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from mechanic_rl_ros.algorithms.registry import DEFAULT, learner_of
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.study.problems import PROBLEMS
from mechanic_rl_ros.study.tuners import CONTROLS, Cell, control, grid

TUNER = Cell("relative")
SHARE = 0.95  # of the best grid cell's mean that the tuner must reach
LOSS = 0.05  # below the base policy, at most, at any look
LOOKS = 2  # of every run, after the first update and before the end, without which nobody knows how low it went
BEHIND = 0.15  # on one shared seed, about two deviations: what is lower by that much, over the root of the number of shared seeds, needs no more of them
SEEDS = 5  # that two cells must share, or a cell must have, before anything is decided
MARGIN = 0.1  # half width of an interval beyond which "no difference" says nothing
ROUNDING = 1e-9  # of a difference of two shares
VERDICTS = {True: "yes", False: "NO", None: "undecided"}
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
        made: Of every seed, at what commit, on what machine and day, and what scenes it was judged on, in words.
    """

    cell: Cell
    successes: tuple[float, ...]
    seeds: tuple[int, ...]
    lowest: float
    curves: tuple[tuple[dict[str, Any], ...], ...] = ()
    made: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Mean success over seeds."""
        return float(np.mean(self.successes))

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the mean (Student's t over seeds); infinite for one seed."""
        return half_width(self.successes)

    @property
    def choosing(self) -> int:
        """Seeds in which critics chose at the end: whether best-of-N is on tells runs apart more than some optimizers do."""
        return sum(bool(curve[-1].get("best_of_n")) for curve in self.curves if curve)

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
        tuple(_words(run) for run in runs),
    )


def _words(run: dict[str, Any]) -> str:
    made, scenes = run.get("made", {}), run.get("settings", {}).get("first_scene", "?")
    return (f"commit {made['commit']}, {made['machine']}, {made['date']}" if made else "not told") + f"; scenes from {scenes}"


def best_of_grid(results: dict[Cell, Result]) -> Result | None:
    """The grid cell with the highest mean, in hindsight; among those with as many seeds as are wanted, or as any has, so that none wins by a lucky few."""
    found = [results[cell] for cell in grid() if cell in results]
    most = min(SEEDS, max((len(result.seeds) for result in found), default=0))
    return max((result for result in found if len(result.seeds) >= most), key=lambda result: result.mean, default=None)


def controls(results: dict[Cell, Result]) -> list[Result]:
    """Other optimizers at their defaults, the best first."""
    return sorted((results[cell] for cell in map(control, CONTROLS) if cell in results), key=lambda result: -result.mean)


def claims(results: dict[Cell, Result]) -> list[tuple[str, bool | None]]:
    """What should hold on a problem, in words with figures, and whether it does; None where too little was run to say so.

    Two cells are compared on the seeds that both have.
    """
    own, best = results.get(TUNER), best_of_grid(results)
    if own is None:
        return []
    said: list[tuple[str, bool | None]] = []
    if best is not None and (pair := _pair(own, best)):
        mine, theirs, text = pair
        cells = sum(cell in results for cell in grid())
        among = f"best of {cells} grid cells" + ("" if cells == len(grid()) else f", {len(grid())} are wanted")
        racing = sum(len(results[cell].seeds) < SEEDS and not settled(cell, results) for cell in grid() if cell in results)
        among += f", {racing} not clearly behind but of fewer than {SEEDS} seeds" if racing else ""
        enough = cells == len(grid()) and not racing and (len(_shared(own, best)) >= SEEDS or settled(best.cell, results))
        said.append(
            (f"{mine / max(theirs, 1e-9):.0%} of the {among} ({best.cell.name}; {text}); wanted {SHARE:.0%}", mine >= SHARE * theirs if enough else None)
        )
    pairs = [(other, pair) for other in controls(results) if (pair := _pair(own, other))]
    if pairs:
        other, (mine, theirs, text) = min(pairs, key=lambda item: item[1][0] - item[1][1])
        missing = [
            name
            for name, cell in ((name, control(name)) for name in CONTROLS)
            if len(_shared(own, results[cell]) if cell in results else []) < SEEDS and not settled(cell, results)
        ]
        lacking = f"; not clearly behind but of fewer than {SEEDS} seeds: {', '.join(missing)}" if missing else ""
        said.append(
            (f"hardest control is {other.cell.name} ({text}); wanted no better than the tuner{lacking}", None if missing else mine >= theirs - ROUNDING)
        )
    return [*said, _never_far_below(own)]


def _never_far_below(own: Result) -> tuple[str, bool | None]:
    """Whether no look showed less than the base policy less 0.05, and what the lowest of them is in the mean over seeds, which one look's luck does not move."""
    first, looks = learner_of(DEFAULT).Config.from_yaml().warmup_episodes, dict[int, list[float]]()
    for look in (look for curve in own.curves for look in curve if look["episodes"] > first):
        looks.setdefault(look["episodes"], []).append(look["success"] - look["base"])
    least, mean = (min(map(of, looks.values()), default=0.0) for of in (min, fmean))
    text = f"least gain over the base policy at any of {sum(map(len, looks.values()))} looks since the first update, {len(own.seeds)} seeds: {least:+.3f}"
    text += f", in the mean of a look over seeds {mean:+.3f}; wanted at least {-LOSS:+.2f}"
    watched = all(sum(first < look["episodes"] < curve[-1]["episodes"] for look in curve) >= LOOKS for curve in own.curves)
    text += "" if watched else f"; not every run was looked at {LOOKS} times on the way"
    return text, least >= -LOSS - ROUNDING if watched and len(own.seeds) >= SEEDS else None


def settled(cell: Cell, results: dict[Cell, Result]) -> bool:
    """Whether more seeds of a cell would change no claim, because on the seeds that both have it is clearly behind the tuner, or for a grid cell the best one.

    A pair of rates so far behind the tuner is not what keeps it from its share of the best. Learners are not compared with each other.
    """
    own, best = results.get(cell), best_of_grid(results) if cell.actor_rate else None
    rivals = [rival for rival in (results.get(TUNER), best) if rival is not None]
    return own is not None and cell.learner == DEFAULT and any(_behind(own, rival) for rival in rivals)


def _behind(own: Result, rival: Result) -> bool:
    seeds = _shared(own, rival)
    return bool(seeds) and fmean(rival.on(seeds)) - fmean(own.on(seeds)) >= BEHIND / len(seeds) ** 0.5 - ROUNDING


def _shared(own: Result, other: Result) -> list[int]:
    return [seed for seed in own.seeds if seed in other.seeds]


def _pair(own: Result, other: Result) -> tuple[float, float, str] | None:
    """Means on the seeds that both have, and in words with the 95 % interval of the difference; None where they share no seed."""
    seeds = _shared(own, other)
    if not seeds:
        return None
    mine, theirs = own.on(seeds), other.on(seeds)
    width = half_width(np.subtract(mine, theirs).tolist())
    noise = f" ± {width:.3f} over {len(seeds)} seeds" if len(seeds) > 1 else ", one seed"
    change = float(np.mean(mine) - np.mean(theirs))
    return float(np.mean(mine)), float(np.mean(theirs)), f"tuner {np.mean(mine):.3f}, it {np.mean(theirs):.3f}, difference {change:+.3f}{noise}"


def unchanged(result: Result, usual: Result) -> tuple[str, bool | None]:
    """Whether a condition leaves success as it is, within the noise of the seeds that both have, seed by seed: the 95 % interval of the difference holds 0.

    None where there are too few seeds, or they differ too much, for that to say anything.
    """
    seeds = _shared(result, usual)
    theirs, mine = result.on(seeds), usual.on(seeds)
    change = np.subtract(theirs, mine)
    width = half_width(change.tolist())
    text = f"{np.mean(theirs):.3f} against {np.mean(mine):.3f}, {np.mean(change):+.3f} ± {width:.3f} over {len(seeds)} seeds; wanted within their noise"
    holds = abs(float(np.mean(change))) <= width + ROUNDING
    return text, None if len(seeds) < SEEDS or (holds and width > MARGIN) else holds


def as_markdown(results: dict[str, dict[Cell, Result]], bases: dict[str, float]) -> str:
    """The whole study as text."""
    lines = []
    for problem, cells in results.items():
        base = bases.get(problem)
        lines += [
            f"## {problem}" + (f", base policy {base:.3f}" if base is not None else ""),
            "",
            "| cell | success, mean | seeds | with best-of-N on at the end | least gain over the base policy at any look |",
            "|---|---|---|---|---|",
        ]
        for result in sorted(cells.values(), key=lambda result: -result.mean):
            width = "" if result.half_width == float("inf") else f" ± {result.half_width:.3f}"
            lines.append(f"| {result.cell.name} | {result.mean:.3f}{width} | {len(result.successes)} | {result.choosing} | {result.lowest:+.3f} |")
        said = claims(cells)
        like = PROBLEMS[problem].like if problem in PROBLEMS else ""
        if TUNER in cells and TUNER in results.get(like, {}) and _shared(cells[TUNER], results[like][TUNER]):
            text, held = unchanged(cells[TUNER], results[like][TUNER])
            said.append((f"compared with {like}: {text}", held))
        lines += ["", *(f"- {VERDICTS[held]}: {text}" for text, held in said), ""]
    return "\n".join([*lines, *together(results), *made(results)])


def together(results: dict[str, dict[Cell, Result]]) -> list[str]:
    """The tuner beside every other cell on all problems that both were run on: seeds of one problem alone are too few to tell cells apart that are close."""
    problems = {problem: cells for problem, cells in results.items() if TUNER in cells and not getattr(PROBLEMS.get(problem), "like", "")}
    differences: dict[Cell, list[float]] = {}
    for cells in problems.values():
        for cell, other in cells.items():
            seeds = _shared(cells[TUNER], other)
            differences.setdefault(cell, []).extend(np.subtract(cells[TUNER].on(seeds), other.on(seeds)).tolist())
    known = sorted(((cell, gains) for cell, gains in differences.items() if cell != TUNER and len(gains) > 1), key=lambda item: fmean(item[1]))
    head = ["## All problems together", "", "| cell | tuner less it, same problem and seed | pairs of runs |", "|---|---|---|"]
    return [*head, *(f"| {cell.name} | {fmean(gains):+.3f} ± {half_width(gains):.3f} | {len(gains)} |" for cell, gains in known), ""] if known else []


def made(results: dict[str, dict[Cell, Result]]) -> list[str]:
    """What code and machines the runs were made with, the most frequent first."""
    counts = Counter(words for cells in results.values() for result in cells.values() for words in result.made)
    return ["Made with:", "", *(f"- {count} runs: {words}" for words, count in counts.most_common()), ""] if counts else []
