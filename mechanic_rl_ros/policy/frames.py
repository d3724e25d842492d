"""Encoding whole episodes into frames, the form in which they are replayed."""

from __future__ import annotations

import torch
from torch import Tensor

from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.policy.policy import Policy, image_batch

BATCH = 64


@torch.no_grad()
def encode_episode(policy: Policy, episode: Episode, device: torch.device | str = "cpu") -> Tensor:
    """Frames (T + 1, frame_dim) of an episode, computed in small batches."""
    parts = []
    for start in range(0, episode.steps + 1, BATCH):
        where = slice(start, start + BATCH)
        features = policy.encode({key: image_batch(episode.images[key][where], device) for key in policy.config.cameras})
        parts.append(torch.cat([features, torch.from_numpy(episode.states[where]).to(device)], dim=-1))
    return torch.cat(parts)
