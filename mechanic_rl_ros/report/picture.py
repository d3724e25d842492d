"""report.png: what happened in a run, on one page."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from mechanic_rl_ros.report.figure_file import write_figure
from mechanic_rl_ros.report.interval import wilson_interval
from mechanic_rl_ros.report.run_data import RunData, rolling_counts

WINDOW = 40
"""Episodes in a rolling average: wide enough for an interval of about +- 0.15."""

BLUE, ORANGE, GREEN, RED, GREY = "#1f5fa8", "#d9730d", "#2a8a4a", "#b83232", "#7a7a7a"
"""Told apart by people with any common colour vision, and in print by brightness."""


def draw_report(data: RunData, path: str | os.PathLike[str] | None = None) -> Path:
    """Draws ``report.png`` into the run folder, or to ``path``, and returns where it is.

    Raises:
        OSError: It cannot be written.
    """
    path = Path(path) if path is not None else data.folder / "report.png"
    figure = Figure(figsize=(12, 9.6), dpi=110, layout=ConstrainedLayoutEngine(hspace=0.06, wspace=0.04, h_pad=0.08, w_pad=0.08))
    figure.suptitle(_title(data), fontsize=14, fontweight="bold", x=0.01, ha="left")
    axes = figure.subplot_mosaic([["success", "success"], ["return", "scales"], ["period", "latency"]], height_ratios=[1.5, 1, 1])
    _success(axes["success"], data)
    _returns(axes["return"], data)
    _scales(axes["scales"], data)
    _period(axes["period"], data)
    _latency(axes["latency"], data)
    for name in ("success", "return", "scales"):
        axes[name].xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in axes.values():
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6e6e6", linewidth=0.8)
        axis.set_axisbelow(True)
        _legend(axis)
    write_figure(figure, path)
    return path


def _title(data: RunData) -> str:
    parts = [f"task {data.run.get('task', '?')}, seed {data.run.get('seed', '?')}", f"{len(data.records.get('episode', []))} episodes"]
    walls = [line["wall"] for lines in data.records.values() for line in lines if line.get("wall")]
    if walls:
        parts.append(f"{(max(walls) - data.start) / 60:.0f} min")
    found = data.evaluations
    if {"base", "tuned"} <= found.keys():
        base, tuned = (found[name]["successes"] / max(found[name]["episodes"], 1) for name in ("base", "tuned"))
        parts.append(f"success {base:.3f} → {tuned:.3f} on unseen scenes")
    return "Finetuning: " + ", ".join(parts)


def _success(axis: Axes, data: RunData) -> None:
    successes = data.successes
    episodes = np.arange(1, len(successes) + 1)
    wins, trials = rolling_counts(successes, WINDOW)
    if len(successes):
        bounds = np.array([wilson_interval(int(w), int(n)) for w, n in zip(wins, trials, strict=True)])
        axis.fill_between(episodes, bounds[:, 0], bounds[:, 1], color=BLUE, alpha=0.15, linewidth=0, label="its 95 % interval (Wilson)")
        axis.plot(episodes, wins / trials, color=BLUE, linewidth=2, label=f"practice, last {WINDOW} episodes")
        axis.plot(episodes, np.where(successes, 1.04, -0.04), "|", color=BLUE, markersize=6, alpha=0.5)
    _evaluations(axis, data, max(len(successes), 1))
    axis.set_title("Success", loc="left", fontweight="bold", fontsize=11)
    axis.set(xlabel="episode (ticks at the edges: each success above, each failure below)", ylim=(-0.08, 1.08))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))


def _evaluations(axis: Axes, data: RunData, last: int) -> None:
    """The evaluation of the base before the first episode, of the tuned policy after the last one."""
    for name, place, colour, side in (("base", -0.025 * last, GREY, "right"), ("tuned", 1.025 * last, GREEN, "left")):
        line = data.evaluations.get(name)
        if line is None or not line["episodes"]:
            continue
        rate = line["successes"] / line["episodes"]
        errors = [[max(rate - line["low"], 0.0)], [max(line["high"] - rate, 0.0)]]
        axis.errorbar(
            [place], [rate], yerr=errors, fmt="o", color=colour, markersize=8, capsize=5, linewidth=2, label=f"{name}, {line['episodes']} evaluation scenes"
        )
        axis.annotate(f"{rate:.3f}", (place, rate), xytext=(-10 if side == "right" else 10, 0), textcoords="offset points", ha=side, va="center", color=colour)
    axis.set_xlim(-0.085 * last, 1.085 * last)


def _returns(axis: Axes, data: RunData) -> None:
    returns = np.array([np.nan if line["return"] is None else line["return"] for line in data.finished_episodes], np.float64)
    episodes = np.arange(1, len(returns) + 1)
    axis.plot(episodes, returns, ".", color=ORANGE, markersize=3, alpha=0.4)
    if len(returns):
        axis.plot(episodes, _rolling_mean(returns), color=ORANGE, linewidth=2, label=f"mean of the last {WINDOW}")
    axis.set_title("Return", loc="left", fontweight="bold", fontsize=11)
    axis.set(xlabel="episode", ylabel="sum of rewards")


def _scales(axis: Axes, data: RunData) -> None:
    looks = itertools.cycle([(BLUE, "-"), (RED, "--"), (GREEN, ":"), (ORANGE, "-."), (GREY, "-")])
    for (name, (updates, scale)), (colour, style) in zip(data.scales.items(), looks, strict=False):
        shown = scale > 0  # zero has no place on a logarithmic axis
        if shown.any():
            axis.plot(updates[shown], scale[shown], style, color=colour, linewidth=2, label=name)
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            low, high = axis.get_ylim()
            axis.yaxis.set_minor_formatter("{x:g}" if high < 10.0 * low else NullFormatter())  # where hardly a power of ten is in sight
    axis.set_title("Scale of the tuner", loc="left", fontweight="bold", fontsize=11)
    axis.set(xlabel="update", ylabel="in relative units")


def _period(axis: Axes, data: RunData) -> None:
    minutes = data.minutes("command")
    nominal, p99 = data.column("command", "period_ms"), data.column("command", "period_p99_ms")
    if len(minutes):
        mean = nominal * (1 + data.column("command", "period_mean_error"))
        axis.plot(minutes, p99, color=ORANGE, linewidth=1.2, label="99th percentile")
        axis.plot(minutes, mean, color=BLUE, linewidth=2, label="mean")
        axis.plot(minutes, nominal, ":", color="white", linewidth=2)
        axis.plot(minutes, nominal, ":", color="black", linewidth=1.5, label="nominal")
        axis.set_ylim(0, 1.15 * np.nanmax(np.concatenate([p99, nominal, [1.0]])))
    axis.set_title("Command period", loc="left", fontweight="bold", fontsize=11)
    axis.set(xlabel="minutes", ylabel="ms")


def _latency(axis: Axes, data: RunData) -> None:
    minutes = data.minutes("command")
    middle, p99 = (_positive(data.column("command", f"latency_{name}_ms")) for name in ("p50", "p99"))  # zero: nothing new was seen
    if np.isfinite(p99).any():
        axis.plot(minutes, middle, color=BLUE, linewidth=2, label="median")
        axis.plot(minutes, p99, color=ORANGE, linewidth=1.2, label="99th percentile")
        axis.set_ylim(0, 1.15 * np.nanmax(p99))
    axis.set_title("Camera stamp to command", loc="left", fontweight="bold", fontsize=11)
    axis.set(xlabel="minutes", ylabel="ms (simulated)")


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values > 0, values, np.nan)


def _rolling_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    valid = np.isfinite(values)
    total, count = np.concatenate([[0.0], np.cumsum(np.where(valid, values, 0.0))]), np.concatenate([[0], np.cumsum(valid)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - WINDOW, 0)
    return (total[ends] - total[starts]) / np.maximum(count[ends] - count[starts], 1)


def _legend(axis: Axes) -> None:
    """Beside the title, above the axes: there it never covers data."""
    handles, _ = axis.get_legend_handles_labels()
    if handles:
        axis.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(handles), frameon=False, fontsize=9, handlelength=1.6, columnspacing=1.2, borderpad=0.1
        )
    else:
        axis.text(0.5, 0.5, "no data", transform=axis.transAxes, ha="center", va="center", color=GREY)
