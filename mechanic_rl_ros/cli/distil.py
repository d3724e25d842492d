"""``mechanic-rl distil``: a diffusion policy that needs one network evaluation for a chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mechanic_rl_ros.cli.console import loading, out, progress_bar
from mechanic_rl_ros.cli.options import Seed
from mechanic_rl_ros.output import require_place_for_checkpoint


def distil(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the checkpoint: a diffusion policy with its demonstrations.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the new checkpoint; one that is there is replaced when the new one is complete.")],
    config: Annotated[Path | None, typer.Option(help="YAML file with a section `consistency`; config/learner.yaml when left out.", show_default=False)] = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
) -> None:
    """Distil a diffusion policy into one that needs a single network evaluation for a chunk (consistency distillation).

    What it costs in success, `evaluate` tells. Distil last: practice teaches denoising, which a distilled policy no longer does.

    \b
    Examples:
        mechanic-rl distil runs/TIME/checkpoint --output data/lift-fast
        mechanic-rl distil checkpoints/lift --output data/lift-fast --seed 1 --device cuda
    """
    with loading():
        from mechanic_rl_ros.algorithms.consistency import ConsistencyConfig
        from mechanic_rl_ros.algorithms.consistency import distil as run
        from mechanic_rl_ros.policy.checkpoint import Checkpoint
        from mechanic_rl_ros.policy.device import pick_device

        settings, device, teacher = ConsistencyConfig.from_yaml(config), pick_device(device), Checkpoint.load(checkpoint)
        require_place_for_checkpoint(output)

    with progress_bar() as progress:
        bar = progress.add_task(f"distilling {checkpoint}", total=settings.updates, note="updates")
        student = run(teacher, settings, seed, device, lambda done, total, loss: progress.update(bar, completed=done, note=f"updates, loss {loss:.4f}"))
    student.save(output)
    steps = teacher.config.schedule.sampling_steps
    out.print(
        f"{student.task} policy in {output}: 1 network evaluation for a chunk instead of {steps}; see what it costs with `mechanic-rl evaluate {output}`",
        soft_wrap=True,
    )
