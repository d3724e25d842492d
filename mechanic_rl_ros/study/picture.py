"""study.png: success against the learning rate, and what needs none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mechanic_rl_ros.report.figure_file import write_figure
from mechanic_rl_ros.report.picture import BLUE, GREY
from mechanic_rl_ros.study.table import SEEDS, TUNER, Result, controls
from mechanic_rl_ros.study.tuners import RATES, Cell

COLOURS = "viridis"


def draw_study(results: dict[str, dict[Cell, Result]], bases: dict[str, float], path: Path) -> Path:
    """Draws one panel for every problem.

    Raises:
        OSError: It cannot be written.
    """
    figure = Figure(figsize=(1.0 + 4.6 * len(results), 4.8), dpi=110, layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(results), sharey=True))
    norm = LogNorm(RATES[0], RATES[-1])
    for axis, (problem, cells) in zip(axes, results.items(), strict=True):
        _panel(axis, problem, cells, bases.get(problem), norm)
    axes[0].set_ylabel("success after practice, mean over seeds")
    axes[0].set_ylim(0.0, 1.02)
    figure.colorbar(ScalarMappable(norm, COLOURS), ax=list(axes), label="learning rate of the critics", shrink=0.8)
    write_figure(figure, path)
    return path


def _panel(axis: Axes, problem: str, cells: dict[Cell, Result], base: float | None, norm: LogNorm) -> None:
    on_grid = [result for cell, result in cells.items() if cell.actor_rate]
    if on_grid:
        axis.scatter(
            [result.cell.actor_rate for result in on_grid],
            [result.mean for result in on_grid],
            c=[result.cell.critic_rate for result in on_grid],
            cmap=COLOURS,
            norm=norm,
            alpha=[0.3 + 0.7 * min(len(result.seeds), SEEDS) / SEEDS for result in on_grid],  # type: ignore[arg-type] # one for every point
            s=26,
            zorder=3,
            label="AdamW, each pair of rates (pale: fewer seeds)",
        )
    for index, other in enumerate(controls(cells)):
        axis.axhline(other.mean, color=GREY, linewidth=0.9, linestyle=":")
        axis.annotate(other.cell.name, (RATES[index % 2 * 4], other.mean), fontsize=7, color=GREY, va="bottom")
    own = cells.get(TUNER)
    if own is not None:
        width = 0.0 if own.half_width == float("inf") else own.half_width
        axis.axhspan(own.mean - width, own.mean + width, color=BLUE, alpha=0.2, linewidth=0)
        axis.axhline(own.mean, color=BLUE, linewidth=2.0, label="the tuner, nothing chosen")
    if base is not None:
        axis.axhline(base, color="black", linewidth=1.0, linestyle="--", label="base policy")
    axis.set_xscale("log")
    axis.set_xlim(RATES[0] / 1.6, RATES[-1] * 1.6)
    axis.set_title(problem)
    axis.set_xlabel("learning rate of the actor")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.legend(loc="lower left", fontsize=7, frameon=False)
