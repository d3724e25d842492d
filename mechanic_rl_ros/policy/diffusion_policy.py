"""The visuomotor diffusion policy: encoders, normalisation, denoiser, sampler (Chi et al., Diffusion Policy, 2023)."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.denoiser import Denoiser
from mechanic_rl_ros.policy.parts import SHARED, build_denoiser, build_encoders


class DiffusionPolicy(nn.Module):
    """Samples action chunks from observations.

    A *frame* is the vector (visual features of every camera, state) of one time step. Frames are what is cached, stored and replayed; ``observe``
    turns the last T_o of them into the normalised observation that denoiser and critics read.
    """

    frame_mean: Tensor
    frame_deviation: Tensor
    action_mean: Tensor
    action_deviation: Tensor

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = config.schedule
        self.encoders = build_encoders(config)
        self.denoiser: Denoiser = build_denoiser(config)
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

    def denoising_loss(self, observation: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error of what the network predicts, noise or clean chunk, one number per sample.

        Args:
            observation: (B, observation_dim).
            actions: (B, T_p, A), clean chunks.
            generator: Draws diffusion steps and noise, on the device of ``actions``.

        Returns:
            (B,).
        """
        steps = torch.randint(self.schedule.steps, (len(actions),), generator=generator, device=actions.device)
        noise = torch.randn(actions.shape, generator=generator, device=actions.device)
        clean = (actions - self.action_mean) / self.action_deviation
        wanted = noise if self.schedule.prediction == "epsilon" else clean
        return (self.denoiser(self.schedule.add_noise(clean, noise, steps), steps, observation) - wanted).square().mean(dim=(1, 2))

    @torch.no_grad()
    def sample(self, observation: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """``samples`` chunks for one observation (1, observation_dim), as one batch: (samples, T_p, A) in [-1, 1].

        What the network is told besides the sample is computed for all steps at once.
        """
        shape = (samples, self.config.prediction_horizon, self.config.action_dim)
        noise = torch.randn(shape, generator=generator, device=observation.device)
        told = self.denoiser.condition(torch.tensor(self.schedule.visited, device=observation.device), observation)

        def predict(sample: Tensor, place: int) -> Tensor:
            return self.denoiser.denoise(sample, [part[place : place + 1] for part in told])

        return (self.schedule.sample(predict, noise, generator) * self.action_deviation + self.action_mean).clamp(-1.0, 1.0)

    def fingerprint(self) -> str:
        """Identity of everything that frames and their normalisation depend on: weights are only exchanged between policies with the same one."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            if not name.startswith("denoiser."):
                digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def image_batch(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """(B, H, W, 3) uint8 array -> (B, 3, H, W) uint8 tensor on ``device``."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
