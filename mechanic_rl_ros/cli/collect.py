"""``mechanic-rl collect``: scripted demonstrations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mechanic_rl_ros.cli.console import loading, out, progress_bar
from mechanic_rl_ros.cli.options import Embodiment, Task, Workers
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.output import require_writable


def collect(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the episodes; new ones are added to those that are there.")],
    task: Task = "lift",
    episodes: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Solved demonstrations to have; the configuration says when left out.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with a section `collection`; config/learner.yaml when left out.", show_default=False)] = None,
    embodiment: Embodiment = "fr3",
    workers: Workers = 1,
) -> None:
    """Let a scripted expert demonstrate a task, deliberately narrow and noisy, so that practice has something to improve.

    Stopped half way, it goes on where it stopped when it is called again.

    \b
    Examples:
        mechanic-rl collect --task lift --output data/lift
        mechanic-rl collect --task push --episodes 100 --workers 4 --output data/push
    """
    from mechanic_rl_ros.sim.tasks import load_task

    load_task(task)
    require_writable(output)

    with loading():
        from mechanic_rl_ros.collection import DEMONSTRATION_SEED, CollectionConfig  # slow to import: cheap mistakes are found before
        from mechanic_rl_ros.collection import collect as demonstrations
        from mechanic_rl_ros.embodiment import load_embodiment
        from mechanic_rl_ros.replay.store import EpisodeStore

        body, settings = load_embodiment(embodiment), CollectionConfig.from_yaml(config)

    wanted = episodes or settings.episodes
    store = EpisodeStore(output, body)
    seeds = [_seed_of(episode.task, episode.seed, task, output) for episode in store.load()]
    with progress_bar() as progress:
        bar = progress.add_task(f"demonstrating {task}", total=wanted, completed=min(len(seeds), wanted), note="episodes")
        if len(seeds) < wanted:
            settings = replace(settings, episodes=wanted - len(seeds))
            for episode in demonstrations(task, body, settings, max([DEMONSTRATION_SEED - 1, *seeds]) + 1, workers):
                store.add(episode)
                progress.advance(bar)
    for path, reason in store.corrupt.items():
        out.print(f"[yellow]left out {path}:[/] {reason}", soft_wrap=True)
    out.print(f"{len(store) - len(store.corrupt)} demonstrations of {task} in {output}", soft_wrap=True)


def _seed_of(found: str, seed: int, task: str, folder: Path) -> int:
    if found != task:
        raise UserError(f"{folder} holds demonstrations of {found}, not of {task}: choose another folder with --output")
    return seed
