"""``mechanic-rl pretrain``: a base policy from demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mechanic_rl_ros.cli.console import err, loading, out, progress_bar
from mechanic_rl_ros.cli.options import Seed
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.output import require_place_for_checkpoint


def pretrain(
    demonstrations: Annotated[Path, typer.Option(help="Folder of episodes, as `collect` makes it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the checkpoint; one that is there is replaced when the new one is complete.")],
    task: Annotated[str | None, typer.Option(help="Task that the demonstrations must be of; any when left out.", show_default=False)] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with a section `behaviour_cloning`; config/learner.yaml when left out.", show_default=False)
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="YAML file that describes the policy, as config/policy/*.yaml; the small default when left out.", show_default=False)
    ] = None,
    encoder_weights: Annotated[
        Path | None, typer.Option(help="Safetensors file of a ResNet of torchvision for the encoders to start from.", show_default=False)
    ] = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
) -> None:
    """Clone a policy from demonstrations.

    \b
    Examples:
        mechanic-rl pretrain --demonstrations data/lift --output data/lift-base
        mechanic-rl pretrain --demonstrations data/lift --output data/lift-base --seed 1 --device cuda
        mechanic-rl pretrain --demonstrations data/lift --output data/lift-unet --policy config/policy/unet.yaml
        mechanic-rl pretrain --demonstrations data/lift --output data/lift-gaussian --policy config/policy/gaussian.yaml
    """
    if task is not None:
        from mechanic_rl_ros.sim.tasks import load_task

        load_task(task)
    with loading("reading demonstrations"):
        from mechanic_rl_ros.algorithms.behaviour_cloning import BehaviourCloningConfig, clone
        from mechanic_rl_ros.policy.description import read_architecture
        from mechanic_rl_ros.policy.device import pick_device
        from mechanic_rl_ros.replay.store import EpisodeStore

        settings, device = BehaviourCloningConfig.from_yaml(config), pick_device(device)
        if not demonstrations.is_dir():
            raise UserError(f"{demonstrations} is not a folder of demonstrations: make one with `mechanic-rl collect`")
        require_place_for_checkpoint(output)  # before hours of training
        store = EpisodeStore(demonstrations)
        episodes = list(store.load())

    for path, reason in store.corrupt.items():
        err.print(f"[yellow]left out {path.name}:[/] {reason}", soft_wrap=True)
    others = {episode.task for episode in episodes} - {task or episodes[0].task} if episodes else set()
    if others:
        raise UserError(f"{demonstrations} holds demonstrations of {', '.join(sorted(others))} too: use those of one task")
    architecture = None if policy is None or not episodes else read_architecture(policy, episodes[0].embodiment)
    with progress_bar() as progress:
        bar = progress.add_task(f"cloning {len(episodes)} demonstrations", total=None, note="updates")
        checkpoint = clone(
            episodes,
            settings,
            seed,
            device,
            lambda done, total, loss: progress.update(bar, completed=done, total=total, note=f"updates, loss {loss:.3f}"),
            architecture,
            encoder_weights,
        )
    checkpoint.save(output)
    out.print(f"{checkpoint.task} policy in {output}: see how good it is with `mechanic-rl evaluate {output}`", soft_wrap=True)
