"""What a learner gives away: weights that should act now, and the checkpoint that holds them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from mechanic_rl_ros.policy.checkpoint import PRACTICE_NOISE, Checkpoint, pack_weights

if TYPE_CHECKING:
    from mechanic_rl_ros.algorithms.learner import Learner


def weights_of(learner: Learner) -> bytes:
    """What the guard of ``learner`` lets act, as a message for ``unpack_weights``; values stay here, nobody acts by them."""
    tensors = {name.replace("q.", "critic.", 1) if name.startswith("q.") else name: tensor for name, tensor in learner.guard.acting.items()}
    metadata = {
        "signature": learner.checkpoint.signature,
        "encoder": learner.fingerprint,
        "task": learner.checkpoint.task,
        "prefers_best_of_n": _prefers_best_of_n(learner),
    }
    return pack_weights(learner.guard.acting_version, {name: tensor for name, tensor in tensors.items() if not name.startswith("value.")}, metadata)


def checkpoint_of(learner: Learner) -> Checkpoint:
    """What the guard of ``learner`` lets act, critics and demonstrations included; without the noise that only practice needs."""
    base, acting = learner.checkpoint, learner.guard.acting
    head = {name: tensor for name, tensor in acting.items() if name.startswith("head.")}
    critics = {name: tensor for name, tensor in acting.items() if name not in head} or None
    metadata = {**base.metadata, "prefers_best_of_n": _prefers_best_of_n(learner), "practised_episodes": len(learner.episode_ids)}
    metadata.pop(PRACTICE_NOISE, None)
    policy, config = {**learner.policy.state_dict(), **head}, replace(base.config, schedule=replace(base.config.schedule, exploration=0.0))
    return Checkpoint(base.task, base.embodiment, config, policy, critics, _demonstrations(learner), learner.guard.acting_version, metadata)


def _demonstrations(learner: Learner) -> dict[str, Tensor] | None:
    # With what people have shown meanwhile, if anybody has.
    return learner.demonstrations.as_demonstrations() if learner.was_shown_more else learner.checkpoint.demonstrations


def _prefers_best_of_n(learner: Learner) -> bool:
    return learner.gate.prefers_best_of_n and any(name.startswith("q.") for name in learner.guard.acting)
