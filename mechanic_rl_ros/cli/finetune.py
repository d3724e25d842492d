"""``mechanic-rl finetune``: the robot practises."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechanic_rl_ros.cli.console import err, loading, out
from mechanic_rl_ros.cli.options import Embodiment, Task
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.ros_domain import LARGEST_DOMAIN, LAST_DOMAIN, free_domain, local_discovery, require_free

if TYPE_CHECKING:
    from mechanic_rl_ros.graph import GraphSettings


def finetune(
    task: Task = "lift",
    checkpoint: Annotated[Path | None, typer.Option(help="Policy to start from; the base checkpoint of the task when left out.", show_default=False)] = None,
    episodes: Annotated[int, typer.Option(min=1, max=10_000, help="Episodes to practise.")] = 260,
    seed: Annotated[int, typer.Option(min=0, max=39, help="Seed of scenes, sampling and learner.")] = 0,
    real_time_factor: Annotated[float, typer.Option(min=0.05, max=20.0, help="Simulated seconds per second.")] = 1.5,
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
    no_evaluate: Annotated[bool, typer.Option("--no-evaluate", help="Do not compare base and tuned policy at the end.")] = False,
    evaluate_episodes: Annotated[int, typer.Option(min=1, max=100_000, help="Episodes of each evaluation, in scenes that training never used.")] = 200,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes of the evaluation.")] = 2,
) -> None:
    """Start the graph: the robot practises in simulation, and its policy gets better before your eyes.

    Ctrl-C stops practice and goes on to evaluation and report; another one leaves out the evaluation (exit status 130). Nothing that was recorded is lost.

    \b
    Examples:
        mechanic-rl finetune
        mechanic-rl finetune --task push --episodes 100 --seed 1
        mechanic-rl finetune --run-directory runs/mine --no-evaluate
    """
    from mechanic_rl_ros.cli.run_folder import default_folder, open_run
    from mechanic_rl_ros.graph import GraphSettings, describe

    _enter_domain(domain)
    with loading():
        base = _base_checkpoint(task, checkpoint, embodiment)
    options: dict[str, Any] = {
        "task": task,
        "checkpoint": str(base),
        "episodes": episodes,
        "seed": seed,
        "real_time_factor": real_time_factor,
        "embodiment": embodiment,
    }
    settings = GraphSettings(**options, parameter_file=str(parameter_file.absolute()) if parameter_file else "")
    describe(settings)  # finds mistakes before anything is written
    folder = open_run(run_directory or default_folder(time.strftime("%Y-%m-%d_%H-%M-%S")), options, settings.resolved_parameter_file())
    settings = replace(settings, run_directory=str(folder))
    out.print(f"practising {task} in {folder}, ROS domain {os.environ['ROS_DOMAIN_ID']}", soft_wrap=True)
    try:
        interrupts = _practise(settings)
    except UserError:  # a node failed: what was recorded until then can be looked at
        _finish(folder, task, base, 0, workers)
        raise
    _finish(folder, task, base, 0 if no_evaluate or interrupts > 1 else evaluate_episodes, workers)
    if interrupts > 1:
        raise typer.Exit(130)


def _base_checkpoint(task: str, checkpoint: Path | None, embodiment: str) -> Path:
    """The checkpoint to start from, checked before anything is started."""
    from mechanic_rl_ros.sim.tasks import load_task

    load_task(task)

    from mechanic_rl_ros.embodiment import load_embodiment
    from mechanic_rl_ros.paths import checkpoint_directory
    from mechanic_rl_ros.policy.checkpoint import Checkpoint

    base = (checkpoint or checkpoint_directory(task)).absolute()
    found = Checkpoint.load(base, load_embodiment(embodiment)).task
    if found != task:
        raise UserError(f"checkpoint {base} is for {found}, not for {task}: give one for {task} with --checkpoint")
    return base


def _enter_domain(domain: int | None) -> None:
    """Makes sure that nobody else is in the domain, and that nothing leaves this machine unless the user says so."""
    if domain is None:
        domain = free_domain()
    else:
        require_free(domain)
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ.update(local_discovery(os.environ))


def _practise(settings: GraphSettings) -> int:
    """Runs the graph with the live table until all episodes are done or Ctrl-C; how often Ctrl-C was pressed."""
    from mechanic_rl_ros import supervise
    from mechanic_rl_ros.metrics import FILE, MetricsTail
    from mechanic_rl_ros.report.live import LiveTable

    tail = MetricsTail(Path(settings.run_directory) / FILE)
    interrupts = 0

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            err.print("[yellow]stopping the nodes, then evaluation and report; another Ctrl-C leaves out the evaluation[/]")
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with LiveTable(settings.episodes, out) as table:
            try:
                supervise.run(settings, lambda: table.update(tail.poll()))
            except KeyboardInterrupt:
                interrupts = max(interrupts, 1)
            finally:
                table.update(tail.poll())
    finally:
        signal.signal(signal.SIGINT, before)
    return interrupts


def _finish(folder: Path, task: str, base: Path, episodes: int, workers: int) -> None:
    """Evaluation unless ``episodes`` is 0, picture, summary; the last two also when Ctrl-C ends the evaluation."""
    from mechanic_rl_ros.cli import finish

    try:
        if episodes:
            finish.evaluate_both(folder, task, base, episodes, workers)
    finally:
        finish.draw_and_summarise(folder)
