"""What a learner makes of an episode that comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mechanic_rl_ros.algorithms.demonstrations import takeovers
from mechanic_rl_ros.algorithms.guard import chosen_by
from mechanic_rl_ros.data import Episode, Outcome
from mechanic_rl_ros.policy.frames import encode_episode
from mechanic_rl_ros.replay.episode_check import check_episode

ROUNDING = 1e-3  # of rewards that should add up to 1

if TYPE_CHECKING:
    from mechanic_rl_ros.algorithms.learner import Learner


def add_episode(learner: Learner, episode: Episode) -> bool:
    """See ``Learner.add_episode``."""
    known = episode.id in learner.episode_ids
    if known and episode.id not in learner.practice.lost:
        return False
    learner.checkpoint.embodiment.require_same(episode.embodiment, f"episode {episode.id}")
    learner.require_fit(episode)
    if episode.steps < 1:
        learner.episode_ids.add(episode.id)
        return False
    check_episode(episode)
    learner.practice.reserve(episode.steps + 1)  # before anything else: nothing is taken by half
    frames = learner.practice.stored(episode.id, episode.steps + 1)
    if frames is None:
        frames = encode_episode(learner.policy, episode, learner.device)
        visual = frames[:, : learner.checkpoint.config.feature_dim]
        visual.copy_(visual.half())  # as the replay keeps them: a restart finds the same
    actions, rewards = (torch.from_numpy(array).to(learner.device) for array in (episode.actions, episode.rewards))
    terminal = episode.outcome in (Outcome.SUCCESS, Outcome.FAILURE)
    by_hand = takeovers(episode)
    # What the policy did before somebody rescued it did not solve the task: it must not be cloned.
    learner.practice.add(frames, actions, rewards, episode.success and not by_hand, terminal, episode.id)
    if known:
        return True  # only its frames had been lost
    learner.take(episode, frames)
    learner.episode_ids.add(episode.id)
    for stretch in by_hand:
        learner.demonstrations.add(frames, actions, rewards, episode.success, terminal, part=stretch)
    alone = episode.success and not by_hand
    learner.successes += alone
    learner.failures += not alone and episode.outcome is not Outcome.ABORTED and by_hand != [(0, episode.steps)]
    learner.rewarded += bool(episode.rewards.any())
    learner.outside += not -ROUNDING <= float(episode.rewards.sum()) <= 1.0 + ROUNDING
    if episode.outcome is not Outcome.ABORTED and chosen_by(episode) >= 0:  # a rescue says nothing about how the policy chose
        learner.gate.add(episode.success, episode.best_of_n, learner.promise(frames[0]))
    learner.guard.count(learner, episode)
    return True
