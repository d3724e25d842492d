"""Demonstrations as learners hold them: from a checkpoint, from takeovers, and as what a new head starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mechanic_rl_ros.data import Episode, Source
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.part_config import HeadConfig
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.tuner import RelativeMechanic
from mechanic_rl_ros.workers import one_thread

CLONING_BATCH = 128


def demonstration_buffer(checkpoint: Checkpoint, gamma: float, device: torch.device | str, room: int = 0) -> ReplayBuffer:
    """The demonstrations of a checkpoint, with room for so many frames more; empty where it has none."""
    shown = checkpoint.demonstrations
    if shown is None or not len(shown["lengths"]):
        return ReplayBuffer(checkpoint.config, max(room, 2), gamma, device)
    buffer = ReplayBuffer(checkpoint.config, len(shown["frames"]) + room, gamma, device)
    buffer.add_demonstrations(shown)
    return buffer


def takeovers(episode: Episode) -> list[tuple[int, int]]:
    """First and one past the last step of every stretch that a person or an expert acted in."""
    by_hand = np.isin(episode.sources, (Source.HUMAN, Source.EXPERT))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], by_hand, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def pack_demonstrations(episodes: Sequence[Episode], frames: Sequence[Tensor]) -> dict[str, Tensor]:
    """Demonstrations as a checkpoint holds them; ``frames`` (T + 1, frame_dim) of every episode."""
    actions = [torch.cat([torch.from_numpy(episode.actions), torch.from_numpy(episode.actions[-1:])]) for episode in episodes]
    return {
        "frames": torch.cat(list(frames)).cpu().half(),
        "actions": torch.cat(actions).half(),
        "lengths": torch.tensor([len(item) for item in frames], dtype=torch.int64),
    }


def with_cloned_head(checkpoint: Checkpoint, head: HeadConfig, updates: int, seed: int, device: torch.device | str = "cpu") -> Checkpoint:
    """A checkpoint with the same encoders and another head, cloned from its demonstrations; with its own head if that is of this kind already.

    The head answers with exactly the actions that are executed: nothing would teach it those that come after. A head that was trained to say more of
    them goes on without those.

    Raises:
        UserError: The checkpoint has no demonstrations, or its actions are in other units than [-1, 1].
    """
    require_clonable(checkpoint, head)
    length = checkpoint.config.past_actions + checkpoint.config.action_horizon
    if isinstance(checkpoint.config.head, type(head)):
        return checkpoint if checkpoint.config.prediction_horizon == length else _shortened(checkpoint, length)
    return with_new_head(checkpoint, replace(checkpoint.config, head=head, prediction_horizon=length, steering=0), updates, seed, device)


def require_clonable(checkpoint: Checkpoint, head: HeadConfig) -> None:
    """Refuses a checkpoint that ``with_cloned_head`` can do nothing with.

    Raises:
        UserError: As there.
    """
    if isinstance(checkpoint.config.head, type(head)):
        return
    if bool((checkpoint.policy["action_mean"] != 0).any()) or bool((checkpoint.policy["action_deviation"] != 1).any()):
        raise UserError(f"the policy has actions in units of its own, a {head.kind} head acts in [-1, 1]: choose a learner for denoisers")
    if checkpoint.demonstrations is None or not len(checkpoint.demonstrations["lengths"]):
        raise UserError(f"the checkpoint has no demonstrations that a {head.kind} head could be cloned from: make one with `mechanic-rl pretrain`")


def with_new_head(checkpoint: Checkpoint, config: PolicyConfig, updates: int, seed: int, device: torch.device | str = "cpu") -> Checkpoint:
    """A checkpoint with the same encoders, and a head and critics as in ``config``: the head cloned from its demonstrations, critics that know nothing.

    Raises:
        UserError: The checkpoint has no demonstrations.
    """
    torch.manual_seed(seed)
    generator = torch.Generator(device=device).manual_seed(seed)
    policy = Policy(config).to(device)
    kept = {name: tensor for name, tensor in checkpoint.policy.items() if not name.startswith("head.")}
    policy.load_state_dict({**policy.state_dict(), **kept})
    buffer = demonstration_buffer(replace(checkpoint, config=config), 1.0, device)
    if not len(buffer):
        raise UserError(f"the checkpoint has no demonstrations that a {config.head.kind} head could be cloned from: make one with `mechanic-rl pretrain`")
    with one_thread():
        clone_head(policy, buffer, updates, CLONING_BATCH, generator)
    return replace(checkpoint, config=config, policy={name: tensor.cpu() for name, tensor in policy.state_dict().items()}, critics=None)


def _shortened(checkpoint: Checkpoint, length: int) -> Checkpoint:
    """The same policy, whose head of one layer at the end says only the first ``length`` actions of a chunk."""
    chunk = (checkpoint.config.prediction_horizon, checkpoint.config.action_dim)
    last = {f"head.leave.{name}" for name in ("weight", "bias")}
    policy = {
        name: tensor.unflatten(0, (-1, *chunk))[:, :length].flatten(0, 2).clone() if name in last else tensor for name, tensor in checkpoint.policy.items()
    }
    return replace(checkpoint, config=replace(checkpoint.config, prediction_horizon=length), policy=policy)


def clone_head(
    policy: Policy, buffer: ReplayBuffer, updates: int, batch: int, generator: torch.Generator, report: Callable[[int, float], None] | None = None
) -> float:
    """Trains the head on cached frames; returns the smoothed loss. ``report`` is called after each update with (updates done, smoothed loss)."""
    tuner, smooth = RelativeMechanic(policy.head.parameters()), 1.0
    for update in range(updates):
        rows = buffer.sample(batch, generator)
        loss = policy.loss(policy.observe(rows.frames), rows.chunks, generator).mean()
        tuner.zero_grad(set_to_none=True)
        loss.backward()
        tuner.step()
        smooth += 0.01 * (float(loss.detach()) - smooth)
        if report is not None:
            report(update + 1, smooth)
    with torch.no_grad():
        torch._foreach_copy_(list(policy.head.parameters()), tuner.averages())
    return smooth
