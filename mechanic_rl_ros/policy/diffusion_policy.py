"""The visuomotor diffusion policy: encoders, normalisation, denoiser, sampler (Chi et al., Diffusion Policy, 2023)."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.denoiser import Denoiser
from mechanic_rl_ros.policy.encoder import ImageEncoder
from mechanic_rl_ros.policy.schedule import add_noise, ddim_sample, ddim_steps, squared_cosine_alphas

CLIP = 5.0  # standard deviations: a frame unlike all demonstrations must not saturate the networks


class DiffusionPolicy(nn.Module):
    """Samples action chunks from observations.

    A *frame* is the vector (visual features of every camera, state) of one time step. Frames are what is cached, stored and replayed; ``observe``
    turns the last T_o of them into the normalised observation that denoiser and critics read.
    """

    alphas: Tensor
    frame_mean: Tensor
    frame_deviation: Tensor

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleDict({key: ImageEncoder(config.keypoints) for key in config.cameras})
        self.denoiser = Denoiser(config)
        self.register_buffer("frame_mean", torch.zeros(config.frame_dim))
        self.register_buffer("frame_deviation", torch.ones(config.frame_dim))
        self.register_buffer("alphas", squared_cosine_alphas(config.diffusion_steps), persistent=False)
        self.sampling_steps = ddim_steps(config.diffusion_steps, config.sampling_steps)

    def encode(self, images: dict[str, Tensor]) -> Tensor:
        """Camera key -> (B, 3, H, W) RGB in [0, 255]; returns features (B, feature_dim)."""
        return torch.cat([self.encoders[key](images[key]) for key in self.config.cameras], dim=-1)

    def set_statistics(self, frames: Tensor) -> None:
        """Takes mean and deviation from frames (N, frame_dim) of the demonstrations."""
        self.frame_mean.copy_(frames.mean(0))
        self.frame_deviation.copy_(frames.std(0).clamp_min(1e-3))

    def observe(self, frames: Tensor) -> Tensor:
        """(B, T_o, frame_dim) frames, oldest first -> (B, observation_dim), z-scored and clipped."""
        return ((frames - self.frame_mean) / self.frame_deviation).clamp(-CLIP, CLIP).flatten(1)

    def denoising_loss(self, observation: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error of the predicted noise, one number per sample.

        Args:
            observation: (B, observation_dim).
            actions: (B, T_p, A), clean chunks.
            generator: Draws diffusion steps and noise, on the device of ``actions``.

        Returns:
            (B,).
        """
        steps = torch.randint(len(self.alphas), (len(actions),), generator=generator, device=actions.device)
        noise = torch.randn(actions.shape, generator=generator, device=actions.device)
        noisy = add_noise(actions, noise, self.alphas[steps])
        return (self.denoiser(noisy, steps, observation) - noise).square().mean(dim=(1, 2))

    @torch.no_grad()
    def sample(self, observation: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """``samples`` chunks for one observation (1, observation_dim), as one batch: (samples, T_p, A) in [-1, 1]."""
        shape = (samples, self.config.prediction_horizon, self.config.action_dim)
        noise = torch.randn(shape, generator=generator, device=observation.device)

        def predict(sample: Tensor, step: int) -> Tensor:
            return self.denoiser(sample, torch.full((1,), step, device=sample.device), observation)

        return ddim_sample(predict, noise, self.alphas, self.sampling_steps)

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
