"""The end of a run: was it worth it? Evaluation of base and tuned policy, picture, summary."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from mechanic_rl_ros.cli.console import err, out
from mechanic_rl_ros.cli.evaluate import run_evaluation
from mechanic_rl_ros.evaluation import EVALUATION_SEED, Evaluation
from mechanic_rl_ros.metrics import FILE, MetricsWriter, TensorBoardMirror
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.report.picture import draw_report
from mechanic_rl_ros.report.run_data import RunData
from mechanic_rl_ros.report.timing import timing_rows


def evaluate_both(folder: Path, task: str, base: Path, episodes: int, workers: int) -> None:
    """Evaluates the base and the tuned policy in the same scenes and adds both results to the metrics of the run.

    Raises:
        UserError: A checkpoint cannot be read.
    """
    policies = {"base": Checkpoint.load(base)}
    if (folder / "checkpoint").exists():
        policies["tuned"] = Checkpoint.load(folder / "checkpoint")
    if "tuned" not in policies or policies["tuned"].version == policies["base"].version:
        err.print("[yellow]the policy was not tuned yet: there is nothing to compare[/]")
        return
    with MetricsWriter(folder / FILE) as writer:
        for name, checkpoint in policies.items():
            title = f"evaluating the {name} policy"
            if not err.is_terminal:
                err.print(f"{title} in {episodes} scenes")
            _record(writer, folder, name, run_evaluation(checkpoint, task, episodes, EVALUATION_SEED, workers, title))


def draw_and_summarise(folder: Path) -> None:
    """The picture of a run, and what came out as a table; nothing when nothing was recorded."""
    if not (folder / FILE).exists():
        return
    data = RunData.load(folder)
    draw_report(data)
    table = Table(box=None, pad_edge=False, show_header=False)
    episodes = data.records.get("episode", [])
    table.add_row("practice", f"{len(episodes)} episodes, {int(data.successes.sum())} solved")
    for name, line in data.evaluations.items():
        rate = line["successes"] / max(line["episodes"], 1)
        table.add_row(f"{name} policy", f"{rate:.3f} (95 % interval {line['low']:.3f} to {line['high']:.3f}, {line['episodes']} unseen scenes)")
    for name, text in timing_rows(data).items():
        table.add_row(name, text)
    for name in ("checkpoint", "report.png", FILE, "episodes", "tensorboard"):
        if (folder / name).exists():
            table.add_row(name, str(folder / name))
    out.print(table, soft_wrap=True)


def _record(writer: MetricsWriter, folder: Path, name: str, result: Evaluation) -> None:
    low, high = result.interval
    record = writer.write("evaluation", name=name, successes=result.successes, episodes=len(result.outcomes), low=low, high=high, seed_first=result.seeds[0])
    mirror = TensorBoardMirror(folder / "tensorboard")
    mirror.add(record)
    mirror.close()
