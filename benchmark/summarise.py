"""Prints the figures of finished runs as a table: success before and after, timing while the learner trained.

mechanic-rl finetune --seed 0 --run-directory runs/seed0      # and so on for every seed
python benchmark/summarise.py runs/seed0 runs/seed1 runs/seed2 > benchmark/results/finetune.md
"""

from __future__ import annotations

import sys
import time

import numpy as np

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.provenance import machine
from mechanic_rl_ros.report.run_data import RunData
from mechanic_rl_ros.report.timing import timing_rows


def main(folders: list[str]) -> None:
    """Reads the runs and prints one column each."""
    if not folders:
        sys.exit("summarise.py: no run named: python benchmark/summarise.py runs/TIME ...")
    try:
        columns = [figures(RunData.load(folder)) for folder in folders]
    except UserError as error:
        sys.exit(f"summarise.py: {error}")
    print(f"Measured {time.strftime('%Y-%m-%d')} on {machine()}.\n")
    print("| | " + " | ".join(column["seed"] for column in columns) + " |\n|---|" + "---|" * len(columns))
    for name in dict.fromkeys(name for column in columns for name in column if name != "seed"):
        print(f"| {name} | " + " | ".join(column.get(name, "-") for column in columns) + " |")


def figures(data: RunData) -> dict[str, str]:
    """Named figures of one run, as text."""
    column = {"seed": f"seed {data.run.get('seed', '?')}"}
    rates = {name: line["successes"] / line["episodes"] for name, line in data.evaluations.items()}
    for name, line in data.evaluations.items():
        column[f"{name} policy, {line['episodes']} unseen scenes [95 % Wilson]"] = f"{rates[name]:.3f} [{line['low']:.3f}, {line['high']:.3f}]"
    if {"base", "tuned"} <= rates.keys():
        column["rise"] = f"{rates['tuned'] - rates['base']:+.3f}"
    column["episodes practised"] = str(len(data.records.get("episode", [])))
    last = max((line["wall"] for lines in data.records.values() for line in lines if "wall" in line), default=data.start)
    column["minutes, evaluation included"] = f"{(last - data.start) / 60:.1f}"
    if "sim" in data.records:
        column["real-time factor reached, median"] = f"{np.median(data.column('sim', 'real_time_factor')):.2f}"
    return column | timing_rows(data) | _learning(data)


def _learning(data: RunData) -> dict[str, str]:
    if "learner" not in data.records:
        return {}
    last = data.records["learner"][-1]
    scales = " / ".join(f"{last[name]:.3g}" for name in ("actor_scale", "critic_scale", "value_scale"))
    return {"one update, ms": f"{last['update_ms']:.1f}", "updates": str(last["updates"]), "tuner scale, actor / critic / value": scales}


if __name__ == "__main__":
    main(sys.argv[1:])
