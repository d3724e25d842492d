"""``mechanic-rl evaluate``: how often a checkpoint solves its task."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechanic_rl_ros.cli.console import loading, out, progress_bar
from mechanic_rl_ros.cli.options import Embodiment, Workers
from mechanic_rl_ros.latency import LatencyMode
from mechanic_rl_ros.report.interval import success_line

if TYPE_CHECKING:
    from mechanic_rl_ros.evaluation import Evaluation
    from mechanic_rl_ros.policy.checkpoint import Checkpoint


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the checkpoint.")],
    task: Annotated[str | None, typer.Option(help="Task: lift, push or reach; the checkpoint's own when left out.", show_default=False)] = None,
    episodes: Annotated[int, typer.Option(min=1, max=100_000, help="Episodes, each with a seed of its own.")] = 200,
    seed_first: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the first scene. Training never uses seeds from 1000000 on.")] = 1_000_000,
    embodiment: Embodiment = "fr3",
    workers: Workers = 1,
    latency: Annotated[float, typer.Option(min=0.0, max=10.0, help="Seconds from an observation until its action chunk is ready.")] = 0.0,
    latency_mode: Annotated[LatencyMode, typer.Option(help="What the arm does until then: docs/policies.md.")] = LatencyMode.OVERLAPPING,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a checkpoint in scenes that training never used, and print its success with a 95 % Wilson interval.

    \b
    Examples:
        mechanic-rl evaluate checkpoints/lift
        mechanic-rl evaluate runs/TIME/checkpoint --episodes 50 --workers 2 --json
        mechanic-rl evaluate checkpoints/lift --latency 0.2 --latency-mode inpainting
    """
    with loading():
        from mechanic_rl_ros.embodiment import load_embodiment
        from mechanic_rl_ros.policy.checkpoint import Checkpoint
        from mechanic_rl_ros.sim.tasks import load_task

        if task is not None:
            load_task(task)
        loaded = Checkpoint.load(checkpoint, load_embodiment(embodiment))
        task = task or loaded.task
        load_task(task)

    result = run_evaluation(loaded, task, episodes, seed_first, workers, f"evaluating {checkpoint}", latency, latency_mode)
    if as_json:
        conditions = {"task": task, "seed_first": seed_first, "latency": latency, "latency_mode": latency_mode.value}
        print(json.dumps({"checkpoint": os.fspath(checkpoint), **conditions, **summary(result)}))
    else:
        out.print(describe(result))


def run_evaluation(
    checkpoint: Checkpoint,
    task: str,
    episodes: int,
    seed_first: int,
    workers: int,
    title: str,
    latency: float = 0.0,
    latency_mode: LatencyMode = LatencyMode.OVERLAPPING,
) -> Evaluation:
    """Evaluates with a progress bar."""
    from mechanic_rl_ros.evaluation import evaluate as run

    with progress_bar() as progress:
        bar = progress.add_task(title, total=episodes, note="")

        def show(done: int, total: int, solved: int) -> None:
            progress.update(bar, completed=done, total=total, note=f"solved {solved}")

        seeds = range(seed_first, seed_first + episodes)
        return run(checkpoint, task, seeds, workers=workers, progress=show, latency=latency, latency_mode=latency_mode)


def summary(result: Evaluation) -> dict[str, object]:
    """An evaluation as plain data."""
    low, high = result.interval
    return {"episodes": len(result.outcomes), "successes": result.successes, "success": result.success, "low": low, "high": high, "best_of_n": result.best_of_n}


def describe(result: Evaluation) -> str:
    """An evaluation as one line."""
    return success_line(result.successes, len(result.outcomes))
