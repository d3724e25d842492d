"""Success as a function of latency, for what the arm may do meanwhile: wait, play the previous chunk on, or have the new one continue it.

python benchmark/latency.py runs/latency checkpoints/lift runs/TIME/checkpoint --workers 2 > benchmark/results/latency.md

The simulated time from an observation until its chunk is ready is what is varied; the time that inference really takes plays no part. Every cell is
kept in a file of its own when it is done: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from mechanic_rl_ros.evaluation import EVALUATION_SEED, evaluate, wilson
from mechanic_rl_ros.latency import LatencyMode
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.replay.atomic import write_atomically

LATENCIES = (0.0, 0.05, 0.1, 0.2)  # s


def main() -> None:
    """Evaluates what is missing, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where finished cells are kept")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--episodes", type=int, default=200, help="scenes of every cell")
    parser.add_argument("--first-seed", type=int, default=EVALUATION_SEED, help="of the scenes")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    for number, path in enumerate(arguments.checkpoints):
        checkpoint = Checkpoint.load(path)
        print(f"\n`{path}` (version {checkpoint.version}) on `{checkpoint.task}`, {arguments.episodes} scenes from {arguments.first_seed} on:\n")
        print("| latency, ms | " + " | ".join(mode.value for mode in LatencyMode) + " |\n|" + "---|" * (1 + len(LatencyMode)))
        scenes = range(arguments.first_seed, arguments.first_seed + arguments.episodes)
        for latency in LATENCIES:
            cells = [cell(arguments.folder / str(number), checkpoint, scenes, latency, mode, arguments.workers) for mode in LatencyMode]
            print(f"| {1e3 * latency:.0f} | {' | '.join(cells)} |", flush=True)


def cell(folder: Path, checkpoint: Checkpoint, scenes: range, latency: float, mode: LatencyMode, workers: int) -> str:
    """Success with its 95 % Wilson interval, from a file or measured now."""
    if latency == 0.0 and mode is LatencyMode.WAITING:
        mode = LatencyMode.OVERLAPPING  # there is nothing to wait for
    file = folder / f"{1e3 * latency:.0f}-{mode.value}.json"
    if not file.exists():
        started = time.time()
        result = evaluate(checkpoint, checkpoint.task, scenes, workers=workers, latency=latency, latency_mode=mode)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(result.outcomes).encode())
        print(f"{file}: {result.success:.3f} after {time.time() - started:.0f} s", file=sys.stderr, flush=True)
    outcomes = json.loads(file.read_text())
    low, high = wilson(sum(outcomes), len(outcomes))
    return f"{sum(outcomes) / len(outcomes):.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
