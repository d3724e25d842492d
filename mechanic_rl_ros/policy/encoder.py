"""From an image to keypoints: a small convolutional encoder with a spatial softmax."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mechanic_rl_ros.policy.part_config import ConvEncoderConfig


class SpatialSoftmax(nn.Module):
    """Expected image coordinates of every channel (Levine et al., End-to-end training of deep visuomotor policies, 2016)."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) activations -> (B, 2 C) coordinates in [-1, 1], x before y."""
        batch, channels, height, width = maps.shape
        weights = torch.softmax(maps.reshape(batch, channels, height * width), dim=-1).reshape(maps.shape)
        x = (weights.sum(dim=2) * torch.linspace(-1.0, 1.0, width, device=maps.device)).sum(dim=-1)
        y = (weights.sum(dim=3) * torch.linspace(-1.0, 1.0, height, device=maps.device)).sum(dim=-1)
        return torch.cat([x, y], dim=-1)


class ConvEncoder(nn.Module):
    """Conv + GroupNorm + spatial softmax: (B, 3, H, W) uint8 or float in [0, 255] -> (B, 2 keypoints).

    GroupNorm and not BatchNorm, so that a frame's features do not depend on the batch, and weights may be averaged (Chi et al., Diffusion Policy, 2023).
    """

    def __init__(self, own: ConvEncoderConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.GroupNorm(4, 16),
            nn.SiLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GroupNorm(8, 32),
            nn.SiLU(),
            nn.Conv2d(32, own.keypoints, 3, padding=1),
            SpatialSoftmax(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB -> (B, 2 keypoints)."""
        return self.layers(images.float() / 127.5 - 1.0)
