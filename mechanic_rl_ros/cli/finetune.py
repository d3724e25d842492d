"""``mechanic-rl finetune``: the robot practises."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mechanic_rl_ros.cli.console import err, explain, loading, out
from mechanic_rl_ros.cli.options import Embodiment, Task
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import describe
from mechanic_rl_ros.graph_settings import SPEEDS, GraphSettings
from mechanic_rl_ros.ros_domain import LARGEST_DOMAIN, LAST_DOMAIN, claimed_domain, local_discovery
from mechanic_rl_ros.scene_seeds import LARGEST_SEED, SEEDS_PER_RUN


def finetune(
    task: Task = "lift",
    checkpoint: Annotated[Path | None, typer.Option(help="Policy to start from; the base checkpoint of the task when left out.", show_default=False)] = None,
    algorithm: Annotated[
        str, typer.Option(help="How it learns: filtered_iql, cloning, dagger, awac, dppo, reinforce, dsrl, sac, td3 or ddpg; see docs/learners.md.")
    ] = GraphSettings.algorithm,
    episodes: Annotated[int, typer.Option(min=1, max=SEEDS_PER_RUN, help="Episodes to practise.")] = 260,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of scenes, sampling and learner.")] = 0,
    real_time_factor: Annotated[float, typer.Option(min=SPEEDS[0], max=SPEEDS[1], help="Simulated seconds per second.")] = 1.5,
    run_directory: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/TIME when left out. A run that was stopped goes on.", show_default=False)
    ] = None,
    domain: Annotated[
        int | None,
        typer.Option(
            min=0, max=LARGEST_DOMAIN, envvar="ROS_DOMAIN_ID", help=f"ROS domain, best up to {LAST_DOMAIN}; a free one when left out.", show_default=False
        ),
    ] = None,
    embodiment: Embodiment = "fr3",
    parameter_file: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of node parameters, as config/nodes.yaml; what it leaves out keeps its default. A run that goes on may be given another one.",
            show_default=False,
        ),
    ] = None,
    patience: Annotated[
        float,
        typer.Option(min=1.0, max=1e6, help="Seconds that practice may wait for the same thing until it is given up; five times as many for the learner."),
    ] = 120.0,
    no_evaluate: Annotated[bool, typer.Option("--no-evaluate", help="Do not compare base and tuned policy at the end.")] = False,
    evaluate_episodes: Annotated[int, typer.Option(min=1, max=100_000, help="Episodes of each evaluation, in scenes that training never used.")] = 200,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes of the evaluation.")] = 2,
) -> None:
    """Start the graph: the robot practises in simulation, and its policy gets better before your eyes.

    Ctrl-C stops practice and goes on to evaluation and report; another one leaves out the evaluation (exit status 130). Nothing that was recorded is lost.

    \b
    Examples:
        mechanic-rl finetune
        mechanic-rl finetune --episodes 100 --seed 1
        mechanic-rl finetune --task push --checkpoint data/push-base
        mechanic-rl finetune --run-directory runs/mine --no-evaluate
    """
    from mechanic_rl_ros.cli.run_folder import default_folder, open_run

    with loading():
        from mechanic_rl_ros.algorithms.prepare import start_of_practice

        base = _base_checkpoint(task, checkpoint, embodiment, algorithm, parameter_file)
    options: dict[str, Any] = {
        "task": task,
        "checkpoint": str(base),
        "episodes": episodes,
        "seed": seed,
        "real_time_factor": real_time_factor,
        "embodiment": embodiment,
        "algorithm": algorithm,
    }
    settings = GraphSettings(**options, parameter_file=str(parameter_file.absolute()) if parameter_file else "")
    describe(settings)  # finds mistakes before anything is written
    with claimed_domain() if domain is None else claimed_domain([domain]) as claimed:
        os.environ.update({"ROS_DOMAIN_ID": str(claimed), **local_discovery(os.environ)})  # nothing leaves this machine unless the user says so
        folder = open_run(run_directory or default_folder(time.strftime("%Y-%m-%d_%H-%M-%S")), options, settings.resolved_parameter_file())
        with loading(f"preparing the policy for {algorithm}"):
            start = start_of_practice(algorithm, base, folder, seed)
        settings = replace(settings, run_directory=str(folder), checkpoint=str(start))
        out.print(f"practising {task} in {folder}, ROS domain {claimed}", soft_wrap=True)
        try:
            interrupts = _practise(settings, patience)
        except (UserError, OSError):
            _show_what_there_is(folder)
            raise
    _finish(folder, task, base, 0 if no_evaluate or interrupts > 1 else evaluate_episodes, workers)
    if interrupts > 1:
        raise typer.Exit(130)


def _base_checkpoint(task: str, checkpoint: Path | None, embodiment: str, algorithm: str, parameter_file: Path | None) -> Path:
    """The checkpoint to start from, checked before anything is started."""
    from mechanic_rl_ros.sim.tasks import load_task

    load_task(task)

    from mechanic_rl_ros.algorithms.registry import learner_of
    from mechanic_rl_ros.cli.run_folder import learner_file
    from mechanic_rl_ros.embodiment import load_embodiment
    from mechanic_rl_ros.paths import checkpoint_directory
    from mechanic_rl_ros.policy.checkpoint import Checkpoint

    kind = learner_of(algorithm)
    base = (checkpoint or checkpoint_directory(task)).absolute()
    found = Checkpoint.load(base, load_embodiment(embodiment))
    if found.task != task:
        raise UserError(f"checkpoint {base} is for {found.task}, not for {task}: give one for {task} with --checkpoint")
    kind.require_start(kind.Config.from_yaml(learner_file(parameter_file)), found)
    return base


def _practise(settings: GraphSettings, seconds: float) -> int:
    """Runs the graph with the live table until all episodes are done or Ctrl-C; how often Ctrl-C was pressed."""
    from mechanic_rl_ros import supervise
    from mechanic_rl_ros.cli.patience import Patience
    from mechanic_rl_ros.metrics import FILE, MetricsTail
    from mechanic_rl_ros.report.live import LiveTable

    folder = Path(settings.run_directory)
    tail, patience = MetricsTail(folder / FILE), Patience(seconds, folder, time.monotonic())
    interrupts = 0

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            err.print("[yellow]stopping the nodes, then evaluation and report; another Ctrl-C leaves out the evaluation[/]")
        raise KeyboardInterrupt

    def look() -> None:
        records = tail.poll()
        table.update(records)
        patience.see(records, time.monotonic())

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with LiveTable(settings.episodes, out) as table:
            try:
                supervise.run(settings, look)
            except KeyboardInterrupt:
                interrupts = max(interrupts, 1)
            finally:
                table.update(tail.poll())
    finally:
        signal.signal(signal.SIGINT, before)
    return interrupts


def _show_what_there_is(folder: Path) -> None:
    """Picture and summary of a run that failed. That they cannot be made is said beside the reason of the failure, not instead of it."""
    from mechanic_rl_ros.cli import finish

    try:
        finish.draw_and_summarise(folder)
    except (UserError, OSError) as error:
        err.print(f"no report: {explain(error)[0]}", style="yellow", markup=False, soft_wrap=True)


def _finish(folder: Path, task: str, base: Path, episodes: int, workers: int) -> None:
    """Evaluation unless ``episodes`` is 0, picture, summary; the last two also when Ctrl-C ends the evaluation."""
    from mechanic_rl_ros.cli import finish

    try:
        if episodes:
            finish.evaluate_both(folder, task, base, episodes, workers)
    finally:
        finish.draw_and_summarise(folder)
