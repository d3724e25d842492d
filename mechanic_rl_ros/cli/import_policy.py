"""``mechanic-rl import``: a policy that other software trained."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mechanic_rl_ros.cli.console import err, loading, out
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.output import require_place_for_checkpoint


class Units(str, Enum):
    """Units of actions in the training data."""

    physical = "physical"
    normalised = "normalised"


def import_policy(
    policy: Annotated[Path, typer.Argument(help="Folder of a LeRobot diffusion policy (config.json, model.safetensors), or a .ckpt of diffusion_policy.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the checkpoint; one that is there is replaced when the new one is complete. Without, it is only checked and described.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[str, typer.Option(help="Name of the task that the policy was trained for, needed with --output.", show_default=False)] = "",
    embodiment: Annotated[str, typer.Option(help="Robot that it was trained on: a name such as fr3, or a YAML file.")] = "fr3",
    camera: Annotated[
        list[str] | None,
        typer.Option(help="Camera key for an image of the policy, as NAME=KEY; by default the last part of its name. May be repeated.", show_default=False),
    ] = None,
    units: Annotated[
        Units, typer.Option(help="Actions of its training data: in the units of the embodiment, or divided by their scales already.")
    ] = Units.physical,
    demonstrations: Annotated[
        Path | None, typer.Option(help="Folder of episodes to mix in when the policy is finetuned; without, it can only act.", show_default=False)
    ] = None,
) -> None:
    """Open a diffusion policy that other software trained, and keep it as a checkpoint.

    \b
    Examples:
        mechanic-rl import outputs/train/checkpoints/last/pretrained_model
        mechanic-rl import outputs/train/checkpoints/last/pretrained_model --task lift --output data/lift-base
        mechanic-rl import policy --task push --embodiment lab.yaml --camera observation.images.top=front --output data/push-base
    """
    with loading("reading the policy"):
        from mechanic_rl_ros.embodiment import load_embodiment
        from mechanic_rl_ros.importing.adopt import adopt
        from mechanic_rl_ros.importing.open import open_policy
        from mechanic_rl_ros.replay.store import EpisodeStore

        robot = load_embodiment(embodiment)
        if output is not None:
            if not task:
                raise UserError("say what task the policy was trained for with --task, such as --task lift")
            require_place_for_checkpoint(output)
        if demonstrations is not None and not task:
            raise UserError("say what task the demonstrations are of with --task, such as --task lift")
        imported = open_policy(policy, dict(_pair(text) for text in camera or []))
        if demonstrations is not None and not demonstrations.is_dir():
            raise UserError(f"{demonstrations} is not a folder of demonstrations: make one with `mechanic-rl collect`")
        store = None if demonstrations is None else EpisodeStore(demonstrations)
        episodes = None if store is None else list(store.load())
        for path, reason in (store.corrupt if store is not None else {}).items():
            err.print(f"[yellow]left out {path.name}:[/] {reason}", soft_wrap=True)
        checkpoint = adopt(imported, task, robot, units is Units.physical, episodes, f"policy {policy}")
    if output is not None:
        checkpoint.save(output)
    config, count = checkpoint.config, sum(tensor.numel() for tensor in checkpoint.policy.values())
    shown = ", ".join(f"{source} as camera {key}" for key, source in imported.sources.items())
    out.print(
        f"{f'{task} policy in {output}' if output else f'policy {policy}'}: {count / 1e6:.1f} M parameters, {shown}; {config.observation_horizon} frames in, {config.prediction_horizon} actions out, "
        f"{config.action_horizon} executed, {config.schedule.sampler} with {config.schedule.sampling_steps} steps",
        soft_wrap=True,
    )
    meaning = ", ".join(f"{channel.name} ({channel.unit})" for channel in robot.action)
    out.print(
        f"Its actions are taken as {meaning}, its state as {', '.join(channel.name for channel in robot.state)}: check that this is what it was trained on",
        soft_wrap=True,
    )
    if output is None:
        out.print("Nothing was written: keep it with --task and --output", soft_wrap=True)
    elif checkpoint.demonstrations is None:
        out.print("It has no demonstrations: it can act, and be finetuned after importing it with --demonstrations", soft_wrap=True)


def _pair(text: str) -> tuple[str, str]:
    name, found, key = text.partition("=")
    if not (name and found and key):
        raise UserError(f"--camera {text!r}: give NAME=KEY, such as observation.images.top=front")
    return name, key
