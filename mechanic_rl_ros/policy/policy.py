"""A visuomotor policy: encoders, normalisation, and a head that answers with action chunks (Chi et al., Diffusion Policy, 2023, with a denoiser)."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.head import Head
from mechanic_rl_ros.policy.inpainting import continuing
from mechanic_rl_ros.policy.parts import SHARED, build_encoders, build_head

STILL = 1e-3
"""Deviation of an action, as a share of its channel's scale, below which it never moved where the policy was trained."""


class Policy(nn.Module):
    """Samples action chunks from observations.

    A *frame* is the vector (visual features of every camera, state) of one time step. Frames are what is cached, stored and replayed; ``observe``
    turns the last T_o of them into the normalised observation that head and critics read.

    Actions are normalised only in policies that other software trained. Cloning leaves them as they are, which heads that act in [-1, 1] rely on.
    """

    frame_mean: Tensor
    frame_deviation: Tensor
    action_mean: Tensor
    action_deviation: Tensor

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = build_encoders(config)
        self.head: Head = build_head(config)
        self.register_buffer("frame_mean", torch.zeros(config.frame_dim))
        self.register_buffer("frame_deviation", torch.ones(config.frame_dim))
        self.register_buffer("action_mean", torch.zeros(config.action_dim))
        self.register_buffer("action_deviation", torch.ones(config.action_dim))

    def encode(self, images: dict[str, Tensor]) -> Tensor:
        """Camera key -> (B, 3, H, W) RGB in [0, 255]; returns features (B, feature_dim)."""
        if set(self.encoders) == {SHARED}:
            return torch.cat([self.encoders[SHARED](images[key]) for key in self.config.cameras], dim=-1)
        return torch.cat([self.encoders[key](images[key]) for key in self.config.cameras], dim=-1)

    def set_statistics(self, frames: Tensor) -> None:
        """Takes mean and deviation from frames (N, frame_dim) of the demonstrations."""
        self.frame_mean.copy_(frames.mean(0))
        self.frame_deviation.copy_(frames.std(0).clamp_min(1e-3))

    def observe(self, frames: Tensor) -> Tensor:
        """(B, T_o, frame_dim) frames, oldest first -> (B, observation_dim), z-scored and clipped."""
        normalised = ((frames - self.frame_mean) / self.frame_deviation).flatten(1)
        # A frame unlike all demonstrations must not saturate the networks.
        return normalised.clamp(-self.config.clip, self.config.clip) if self.config.clip else normalised

    def loss(self, observation: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """The head's loss of cloning, one number per row.

        Args:
            observation: (B, observation_dim).
            actions: (B, T_p, A), clean chunks.
            generator: Draws what is random, on the device of ``actions``.

        Returns:
            (B,).
        """
        return self.head.loss(observation, self.normalise(actions), generator)

    def sample(self, observation: Tensor, samples: int, generator: torch.Generator, explore: bool = False) -> Tensor:
        """``samples`` chunks, as one batch: (samples, T_p, A) in [-1, 1]; see ``Head.sample``."""
        return self.denormalise(self.head.sample(observation, samples, generator, explore))

    def resume(
        self, observation: Tensor, samples: int, generator: torch.Generator, previous: Tensor, elapsed: int, delay: int, explore: bool = False
    ) -> Tensor:
        """As ``sample``, but the chunks continue a previous one.

        Args:
            observation: See ``sample``.
            samples: How many.
            generator: Draws noise.
            previous: (T_p, A) in [-1, 1].
            elapsed: Periods between the observations of both.
            delay: Actions from now on that the previous chunk will have played before the new one takes effect.
            explore: See ``sample``.

        Raises:
            UserError: This kind of head cannot do that.
        """
        known = continuing(self.normalise(previous), elapsed, self.config.past_actions + delay)
        return self.denormalise(self.head.inpaint(observation, samples, generator, known, explore))

    def normalise(self, actions: Tensor) -> Tensor:
        """(..., A) in [-1, 1] -> what the head reads."""
        normalised = (actions - self.action_mean) / self.action_deviation
        # In the units of a channel that never moved, the slightest difference is huge: it must not outweigh what can be learned.
        return torch.where(self.still, normalised.clamp(-1.0, 1.0), normalised)

    @property
    def still(self) -> Tensor:
        """(A,) bool: which action channels never moved where the policy was trained."""
        return self.action_deviation < STILL

    def denormalise(self, chunks: Tensor) -> Tensor:
        """(..., A) of the head -> within [-1, 1]."""
        return (chunks * self.action_deviation + self.action_mean).clamp(-1.0, 1.0)

    def fingerprint(self) -> str:
        """Identity of everything that frames and their normalisation depend on: weights are only exchanged between policies with the same one."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            if not name.startswith("head."):
                digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def image_batch(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """(B, H, W, 3) uint8 array -> (B, 3, H, W) uint8 tensor on ``device``."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
