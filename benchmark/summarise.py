"""Prints the figures of finished runs as a table: success before and after, timing while the learner trained.

mechanic-rl finetune --seed 0 --run-directory runs/seed0      # and so on for every seed
python benchmark/summarise.py runs/seed0 runs/seed1 runs/seed2 > benchmark/results/finetune.md
"""

from __future__ import annotations

import os
import platform
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mechanic_rl_ros.metrics import FILE, read_metrics

Records = list[dict[str, Any]]


def main(folders: list[str]) -> None:
    """Reads the runs and prints one row each."""
    if not folders:
        sys.exit("summarise.py: no run named: python benchmark/summarise.py runs/TIME ...")
    print(
        f"Measured {time.strftime('%Y-%m-%d')} on {os.cpu_count()} cores ({platform.machine()}, {platform.system()}), no GPU, Python {platform.python_version()}.\n"
    )
    rows = [figures(read_metrics(Path(folder) / FILE)) for folder in folders]
    names = list(rows[0])
    print("| | " + " | ".join(str(row["seed"]) for row in rows) + " |\n|---|" + "---|" * len(rows))
    for name in names:
        label = "seed" if name == "seed" else name
        if name != "seed":
            print(f"| {label} | " + " | ".join(str(row.get(name, "-")) for row in rows) + " |")


def figures(records: Records) -> dict[str, Any]:
    """Named figures of one run, as text."""
    by_kind: dict[str, Records] = {}
    for record in records:
        by_kind.setdefault(record["kind"], []).append(record)
    run, episodes = by_kind["run"][0], by_kind.get("episode", [])
    wall = [record["wall"] for record in records if "wall" in record]
    row: dict[str, Any] = {"seed": f"seed {run['seed']}"}
    results = {record["name"]: record for record in by_kind.get("evaluation", [])}
    for name, record in results.items():
        rate = record["successes"] / record["episodes"]
        row[f"{name} policy, {record['episodes']} unseen scenes [95 % Wilson]"] = f"{rate:.3f} [{record['low']:.3f}, {record['high']:.3f}]"
    if len(results) == 2:
        row["rise"] = f"{results['tuned']['successes'] / results['tuned']['episodes'] - results['base']['successes'] / results['base']['episodes']:+.3f}"
    row["episodes practised"] = len(episodes)
    row["minutes, evaluation included"] = f"{(max(wall) - run['started']) / 60:.1f}"
    row["real-time factor reached, median"] = f"{np.median([record['real_time_factor'] for record in by_kind['sim']]):.2f}"
    return row | timing(by_kind)


def timing(by_kind: dict[str, Records]) -> dict[str, str]:
    """Figures of the control path in the windows in which the learner trained."""
    learner = by_kind.get("learner", [])
    busy = [(a["wall"], b["wall"]) for a, b in pairwise(learner) if b["updates"] > a["updates"]]
    windows = [record for record in by_kind.get("command", []) if any(start - 2.0 <= record["wall"] <= end + 0.5 for start, end in busy)]
    if not windows:
        return {}
    count = np.array([record["period_count"] for record in windows], float)
    mean = np.array([record["period_mean_error"] for record in windows])
    deviation = np.array([record["period_deviation"] for record in windows])
    overall = float((count * mean).sum() / count.sum())
    spread = float(np.sqrt((count * (deviation**2 + (mean - overall) ** 2)).sum() / count.sum()))
    latency = np.concatenate([record["latencies_ms"] for record in windows])
    swaps = sorted({record["swap_ms"] for record in by_kind.get("policy", []) if record["swap_ms"] >= 0})
    return {
        "windows with the learner at work": f"{len(windows)} of {len(by_kind['command'])}",
        "command period, mean error": f"{100 * overall:+.2f} %",
        "command period, deviation": f"{100 * spread:.1f} % of {windows[0]['period_ms']:.0f} ms",
        "camera stamp to command, simulated ms: p50, p99, max": f"{np.quantile(latency, 0.5):.0f}, {np.quantile(latency, 0.99):.0f}, {latency.max():.0f} ({len(latency)} chunks)",
        "weights published to acting, wall ms: p50, p99, max": f"{np.quantile(swaps, 0.5):.0f}, {np.quantile(swaps, 0.99):.0f}, {max(swaps):.0f} ({len(swaps)} versions)"
        if swaps
        else "-",
        "one update, ms": f"{learner[-1]['update_ms']:.1f}",
        "updates": str(learner[-1]["updates"]),
        "tuner scale, actor / critic / value": " / ".join(f"{learner[-1][name]:.3g}" for name in ("actor_scale", "critic_scale", "value_scale")),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
