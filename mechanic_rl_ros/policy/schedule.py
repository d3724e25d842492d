"""The noise schedule and the sampler: squared cosine, epsilon prediction, DDIM."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def squared_cosine_alphas(steps: int) -> Tensor:
    """Cumulative signal power after each of ``steps`` noising steps (Nichol and Dhariwal 2021): float32 (steps,), falling from near 1 to near 0."""

    def signal(position: float) -> float:
        return math.cos((position + 0.008) / 1.008 * math.pi / 2) ** 2

    kept = [max(1.0 - min(1.0 - signal((k + 1) / steps) / signal(k / steps), 0.999), 1e-3) for k in range(steps)]
    return torch.tensor(kept, dtype=torch.float64).cumprod(0).float()


def add_noise(clean: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Forward process: ``clean`` and ``noise`` (B, ...), ``alpha`` (B,) cumulative signal power of each sample's step."""
    alpha = alpha.reshape(-1, *[1] * (clean.dim() - 1))
    return alpha.sqrt() * clean + (1.0 - alpha).sqrt() * noise


def ddim_steps(diffusion_steps: int, sampling_steps: int) -> list[int]:
    """The steps that DDIM visits, from the noisiest to 0."""
    return [round((diffusion_steps - 1) * (1.0 - k / max(sampling_steps - 1, 1))) for k in range(sampling_steps)]


def ddim_sample(predict_noise: Callable[[Tensor, int], Tensor], noise: Tensor, alphas: Tensor, steps: list[int]) -> Tensor:
    """Deterministic DDIM (Song et al. 2021) with the clean sample clipped to [-1, 1] at every step.

    Args:
        predict_noise: Maps (sample, step) to the noise in it.
        noise: Start, standard normal.
        alphas: Cumulative signal power of every diffusion step.
        steps: From the noisiest to the cleanest.

    Returns:
        A clean sample of the shape of ``noise``, in [-1, 1].
    """
    sample, clean = noise, noise
    signal_powers = alphas.tolist()
    for position, step in enumerate(steps):
        signal = signal_powers[step]
        predicted = predict_noise(sample, step)
        clean = ((sample - math.sqrt(1.0 - signal) * predicted) / math.sqrt(signal)).clamp(-1.0, 1.0)
        if position + 1 < len(steps):
            following = signal_powers[steps[position + 1]]
            # The noise that is consistent with the clipped sample, so that clipping does not leave the trajectory.
            predicted = (sample - math.sqrt(signal) * clean) / math.sqrt(1.0 - signal)
            sample = math.sqrt(following) * clean + math.sqrt(1.0 - following) * predicted
    return clean
