"""``mechanic-rl study``: which optimizer learns best online."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from mechanic_rl_ros.cli.console import err, loading, out, progress_bar
from mechanic_rl_ros.errors import UserError


def study(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the study; results that are there already are kept.")] = Path("runs/study"),
    problems: Annotated[
        str,
        typer.Option(
            help="Problems, separated by commas: lift, push, reach, held-out (a harder reach that nothing was chosen by), push-late, lift-late; lift in other conditions: "
            "lift-gradient-1e-3, lift-gradient-1e3, lift-batch-64, lift-batch-512, lift-width-1 (which the following are compared with), lift-width-0.5, lift-width-4."
        ),
    ] = "lift,push,reach,held-out",
    cells: Annotated[
        str,
        typer.Option(
            help="What to compare, separated by commas: tuner, controls, ablations (what parts of the tuner are worth), grid, or names of cells such as prodigy."
        ),
    ] = "tuner,controls,grid",
    algorithms: Annotated[
        bool, typer.Option("--algorithms", help="Compare every learner instead, with the tuner and with AdamW at the best pair of rates in this folder's grid.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Practice seeds of every cell.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, max=1_000_000, help="The first of them. Judge with seeds that nothing was chosen by.")] = 0,
    episodes: Annotated[int, typer.Option(min=1, max=10_000, help="Practice episodes of every run.")] = 240,
    scenes: Annotated[int, typer.Option(min=4, max=100_000, help="Evaluation scenes at the end of every run.")] = 200,
    checks: Annotated[
        int, typer.Option(min=0, max=100, help="Evaluations on the way, of a quarter as many scenes each. They change no result; without them runs are faster.")
    ] = 3,
    first_scene: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="First evaluation scene. Choose with those from 500000 on, judge with those from 1000000 on.")
    ] = 500_000,
    race: Annotated[
        bool,
        typer.Option(
            "--race", help="Leave out further seeds of what is clearly behind the tuner, and of pairs of rates that are clearly behind the best pair."
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes; the result does not depend on it.")] = 2,
    show_only: Annotated[bool, typer.Option("--show-only", help="Only show what is there.")] = False,
) -> None:
    """Practise with every optimizer, problem and seed, and compare success. It may be stopped at any time; the same command goes on.

    \b
    Examples:
        mechanic-rl study --cells tuner,controls --problems lift --seeds 3
        mechanic-rl study --output runs/study --race
        mechanic-rl study --output runs/study --show-only
        mechanic-rl study --output runs/study --algorithms --seeds 3
    """
    with loading():
        from mechanic_rl_ros.algorithms.registry import DEFAULT
        from mechanic_rl_ros.study.algorithms import as_markdown as learners_as_markdown
        from mechanic_rl_ros.study.algorithms import cells as every_learner
        from mechanic_rl_ros.study.picture import draw_study
        from mechanic_rl_ros.study.problems import problem_of
        from mechanic_rl_ros.study.runs import Run, StudySettings, base_outcomes, run_all
        from mechanic_rl_ros.study.table import as_markdown, best_of_grid, read_results, settled

        names = _split(problems)
        for name in names:
            problem_of(name)
        wanted = _cells(_split(cells))
        first = read_results(output) if algorithms and output.is_dir() and any(output.glob("*/*/seed*.json")) else {}
        for name in names if algorithms else ():
            if best_of_grid(first.get(name, {})) is None:
                err.print(
                    f"{name}: no grid of rates here yet (--cells grid), so AdamW has the pair that was picked by hand for the default learner", soft_wrap=True
                )
        chosen = {name: every_learner(first.get(name, {})) if algorithms else wanted for name in names}
    settings = StudySettings(output, episodes, scenes, checks, first_scene)
    if not show_only:
        for name in names:
            _base(name, settings, workers)
        # Seed by seed: what is there when somebody stops it covers everything.
        runs = [
            Run(name, cell, seed)
            for seed in range(first_seed, first_seed + seeds)
            for row in zip_longest(*chosen.values())
            for name, cell in zip(names, row, strict=True)
            if cell
        ]
        with progress_bar() as progress:
            bar = progress.add_task("practising", total=len(runs), note="")
            progress.update(bar, completed=sum(run.path(output).exists() for run in runs))

            def done(run: Run, record: dict[str, Any]) -> None:
                progress.update(bar, advance=1, note=f"{run.problem} {run.cell.name}: {record['success']:.2f}")
                if not err.is_terminal:
                    err.print(f"{run.problem} {run.cell.name} seed {run.seed}: {record['success']:.3f}", soft_wrap=True)

            def worth_it(run: Run) -> bool:
                behind = race and any(output.glob("*/*/seed*.json")) and settled(run.cell, read_results(output).get(run.problem, {}))
                progress.update(bar, advance=1 if behind else 0)
                return not behind

            run_all(settings, runs, workers, done, worth_it)
    every = read_results(output)
    results = every if algorithms else {name: {cell: result for cell, result in found.items() if cell.learner == DEFAULT} for name, found in every.items()}
    bases = {name: fmean(base_outcomes(settings, name, workers, check=not show_only)) for name in results}
    text = learners_as_markdown(results, bases) if algorithms else as_markdown(results, bases)
    (output / ("learners.md" if algorithms else "study.md")).write_text(text)
    out.print(text, soft_wrap=True, markup=False)
    if not algorithms:
        out.print(f"picture: {draw_study(results, bases, output / 'study.png')}", soft_wrap=True)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _cells(names: list[str]) -> list[Any]:
    """The cells of a choice such as ``tuner,grid`` or ``prodigy``.

    Raises:
        UserError: A name is unknown.
    """
    from mechanic_rl_ros.study.table import TUNER
    from mechanic_rl_ros.study.tuners import ABLATIONS, CONTROLS, Cell, control, grid

    groups = {"tuner": [TUNER], "controls": [control(name) for name in CONTROLS], "ablations": [Cell(name) for name in ABLATIONS], "grid": grid()}
    single = {cell.name: cell for group in groups.values() for cell in group} | {name: control(name) for name in CONTROLS}
    found: list[Cell] = []
    for name in names:
        if name not in groups and name not in single:
            raise UserError(f"unknown cell {name!r}: use {', '.join(groups)}, {', '.join(CONTROLS + ABLATIONS)}, or a pair of rates such as {grid()[0].name}")
        found += groups.get(name) or [single[name]]
    return list(dict.fromkeys(found))


def _base(name: str, settings: Any, workers: int) -> None:
    """Makes the base policy where it is missing, and sees what it solves."""
    from mechanic_rl_ros.study.problems import base_policy
    from mechanic_rl_ros.study.runs import base_outcomes

    with progress_bar() as progress:
        bar = progress.add_task(f"base policy of {name}", total=None, note="")
        base_policy(name, settings.folder / "bases", lambda done, total, loss: progress.update(bar, completed=done, total=total))
        base_outcomes(settings, name, workers)
