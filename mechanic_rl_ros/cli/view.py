"""``mechanic-rl view``: the picture of one episode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mechanic_rl_ros.cli.console import loading, out

SAMPLES = 6  # plans that a policy is asked for at each moment


def view(
    episode: Annotated[Path, typer.Argument(help="Episode file (.mcap).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to put the picture.")] = Path("view.png"),
    checkpoint: Annotated[
        Path | None, typer.Option(help="Policy whose plans are drawn; when left out, what was done is drawn in their place.", show_default=False)
    ] = None,
    limits: Annotated[str, typer.Option(help="Table and keep-out boxes: name from config/limits/, or a YAML file.")] = "fr3",
) -> None:
    """Draw where the arm was, what was planned and what the camera saw in a recorded episode.

    \b
    Examples:
        mechanic-rl view runs/TIME/episodes/000041_lift_1b2c_00042.mcap
        mechanic-rl view data/lift/000000_lift-0400000-expert.mcap --checkpoint checkpoints/lift --output lift.png
    """
    with loading():
        from mechanic_rl_ros.replay.episode_file import read_episode
        from mechanic_rl_ros.safety.limits import SafetyLimits
        from mechanic_rl_ros.view.replayed import planned_chunks, recorded_chunks, tool_path

        recorded, bounds = read_episode(episode), SafetyLimits.load(limits)
        tool_path(recorded)  # cheap mistakes are found before slow imports
        if checkpoint is None:
            plans = recorded_chunks(recorded)
        else:
            from mechanic_rl_ros.policy.checkpoint import Checkpoint

            plans = planned_chunks(recorded, Checkpoint.load(checkpoint, recorded.embodiment), SAMPLES)

        from mechanic_rl_ros.view.picture import draw_view

        draw_view(recorded, plans, bounds, output)
    out.print(str(output), soft_wrap=True)
