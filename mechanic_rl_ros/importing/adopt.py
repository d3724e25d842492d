"""From an imported policy to a checkpoint for a robot: what differs is said, nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from mechanic_rl_ros.algorithms.demonstrations import pack_demonstrations
from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.importing.imported import Imported
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.frames import encode_episode
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.replay.episode_check import SAFE_NAME

FARTHEST = 50.0  # times a channel's scale that an imported policy may mean: beyond, it was trained with other units, such as degrees
FARTHEST_NORMALISED = 2.0  # the same where its actions were divided by the scales already: half of them would be cut off
MOVED = 0.02  # of a channel's scale: more than rounding and the limits of the robot make of an action that stays the same


def adopt(
    imported: Imported, task: str, embodiment: Embodiment, physical: bool, demonstrations: Sequence[Episode] | None = None, what: str = "the policy"
) -> Checkpoint:
    """Makes a checkpoint of an imported policy.

    Args:
        imported: The policy.
        task: What it does.
        embodiment: The robot that it is for.
        physical: Its training data had actions in the units of the embodiment's channels; else normalised by their scales already.
        demonstrations: Solved episodes for the learner to mix in; without them the policy can act, but not be finetuned.
        what: Name of the policy in messages.

    Raises:
        UserError: It does not fit the robot, or no demonstration fits it.
    """
    if task and not SAFE_NAME.fullmatch(task):
        raise UserError(f"task {task!r} cannot be a name: use letters, digits, '.', '_' and '-', such as lift")
    found = differences(imported, embodiment)
    if found:
        raise UserError(
            f"{what} does not fit embodiment {embodiment.name}: {'; '.join(found)}: describe the robot that it was trained on in a file for --embodiment"
        )
    weights = dict(imported.policy)
    if physical:
        scales = torch.tensor([channel.scale for channel in embodiment.action])
        weights["action_mean"], weights["action_deviation"] = weights["action_mean"] / scales, weights["action_deviation"] / scales
    _require_units(weights["action_mean"].abs() + weights["action_deviation"], physical, embodiment, what)
    checkpoint = Checkpoint(task, embodiment, imported.config, weights, metadata={"prefers_best_of_n": False, "imported": imported.sources})
    if demonstrations is None:
        return checkpoint
    solved = [episode for episode in demonstrations if episode.success and episode.steps > 0]
    if not solved:
        raise UserError("there is no solved demonstration to mix in: collect some with `mechanic-rl collect`")
    for episode in solved:
        embodiment.require_same(episode.embodiment, f"demonstration {episode.id}")
        if episode.task != task:
            raise UserError(f"demonstration {episode.id} is of task {episode.task}, not {task}: use those of one task")
    policy = checkpoint.build_policy().eval()
    for episode in solved:
        _require_expressible(policy, episode)
    return replace(checkpoint, demonstrations=pack_demonstrations(solved, [encode_episode(policy, episode) for episode in solved]))


def _require_units(reach: torch.Tensor, physical: bool, embodiment: Embodiment, what: str) -> None:
    channel, times = embodiment.action[int(reach.argmax())], float(reach.max())
    if times > (FARTHEST if physical else FARTHEST_NORMALISED):
        advice = "say --units normalised where they were divided by the scales, else train it with these units" if physical else "train it with these units"
        raise UserError(
            f"{what}: its action {channel.name} goes to {times:.3g} times the {channel.scale:g} {channel.unit} of embodiment {embodiment.name}: "
            f"its training data were in another unit; {advice}"
        )


def _require_expressible(policy: Policy, episode: Episode) -> None:
    moved = (torch.from_numpy(episode.actions) - policy.action_mean).abs().amax(dim=0) > MOVED
    for place in torch.nonzero(policy.still & moved).flatten().tolist():
        name = episode.embodiment.action[place].name
        raise UserError(
            f"demonstration {episode.id} moves action {name}, which never changed where the policy was trained, so that it cannot learn to: "
            f"leave such demonstrations out, or train the policy with data in which {name} changes"
        )


def differences(imported: Imported, embodiment: Embodiment) -> list[str]:
    """What keeps a policy from acting on a robot, in words; empty when it fits."""
    config, found = imported.config, []
    for name, wanted, channels in (("state", config.state_dim, embodiment.state), ("action", config.action_dim, embodiment.action)):
        if wanted != len(channels):
            found.append(f"its {name} has {wanted} numbers, not {len(channels)} ({', '.join(channel.name for channel in channels)})")
    for key in config.cameras:
        camera, size = embodiment.cameras.get(key), imported.image_sizes[key]
        if camera is None:
            found.append(f"it sees {imported.sources[key]}, and there is no camera {key}, only {', '.join(embodiment.cameras)} (name one with --camera)")
        elif (camera.height, camera.width) != size:
            found.append(f"its images are {size[0]}x{size[1]}, those of camera {key} {camera.height}x{camera.width}")
        crop = getattr(config.encoder, "crop", (0, 0))
        if crop[0] > size[0] or crop[1] > size[1]:
            found.append(f"its crop of {crop[0]}x{crop[1]} is larger than its images")
    return found
