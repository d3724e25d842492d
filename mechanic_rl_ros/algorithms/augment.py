"""Random views of images while an encoder learns: shifted, and of other brightness, contrast and colour.

Both frames of an observation are changed alike, so that motion between them stays visible: a batch is (2 B, 3, H, W), first half the earlier frames,
second half the later ones of the same observations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def shifted(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Moves every observation by up to ``shift`` pixels each way, borders repeated."""
    if shift == 0:
        return images
    padded = nn.functional.pad(images.float(), (shift,) * 4, mode="replicate")
    half, (height, width) = len(images) // 2, images.shape[-2:]
    offsets = torch.randint(2 * shift + 1, (half, 2), generator=generator, device=images.device).repeat(2, 1)
    rows = offsets[:, :1] + torch.arange(height, device=images.device)
    columns = offsets[:, 1:] + torch.arange(width, device=images.device)
    return padded[torch.arange(2 * half, device=images.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def coloured(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Changes brightness, contrast and each colour's share by factors in [1 - strength, 1 + strength]; values stay in [0, 255]."""
    if strength == 0.0:
        return images
    half = len(images) // 2
    factors = 1.0 + strength * (2.0 * torch.rand(half, 5, generator=generator, device=images.device) - 1.0)
    brightness, contrast, colour = factors.repeat(2, 1)[:, :, None, None].split([1, 1, 3], dim=1)
    images = images.float()
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * contrast + mean).mul(brightness * colour).clamp(0.0, 255.0)
