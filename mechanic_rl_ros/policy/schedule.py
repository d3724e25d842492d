"""Noise schedules and samplers: squared cosine or linear, DDPM or DDIM, networks that predict the noise or the clean sample.

Numbers and conventions are those of the schedulers in the ``diffusers`` library, which existing checkpoints were trained with; but a step always goes
to the next one visited.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BETA_START, BETA_END = 1e-4, 0.02  # of the linear schedule (Ho et al. 2020)
ONE = np.float32(1.0)
CHOICES = {
    "curve": ("squared_cosine", "linear"),
    "prediction": ("epsilon", "sample"),
    "sampler": ("ddim", "ddpm"),
    "spacing": ("linspace", "leading"),
    "clipping": ("consistent", "plain", "none"),
}


class Move(NamedTuple):
    """One denoising step as numbers: clean = clean_sample x + clean_output o, clipped; next x = clean_part clean + sample_part x + output_part o + noise_part z.

    x is the sample, o what the network says, z standard normal. Numbers; or tensors (B, 1, 1), where every row is at a step of its own.
    """

    clean_sample: float | Tensor
    clean_output: float | Tensor
    clean_part: float | Tensor
    sample_part: float | Tensor
    output_part: float | Tensor
    noise_part: float | Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """How actions are noised in training and denoised in acting.

    Attributes:
        curve: ``squared_cosine`` (Nichol and Dhariwal 2021) or ``linear`` (Ho et al. 2020).
        steps: Diffusion steps in training (K).
        sampling_steps: Network evaluations in acting.
        prediction: What the network says: ``epsilon``, the noise, or ``sample``, the clean chunk.
        sampler: ``ddim`` (deterministic; Song et al. 2021) or ``ddpm`` (Ho et al. 2020).
        spacing: Steps that the sampler visits: ``linspace`` from the noisiest to 0, or ``leading`` multiples of K / sampling_steps.
        exploration: Standard deviation of noise that is added after every step of the sampler while a robot practises with a learner that needs the
            probability of what was done (``policy/chain.py``); 0: nobody asks.
        clipping: Of the clean sample to [-1, 1]: ``consistent`` (the noise is computed again, so that clipping does not leave the trajectory; DDIM
            only), ``plain``, or ``none``.
    """

    curve: str = "squared_cosine"
    steps: int = 50
    sampling_steps: int = 5
    prediction: str = "epsilon"
    sampler: str = "ddim"
    spacing: str = "linspace"
    clipping: str = "consistent"
    exploration: float = 0.0

    @cached_property
    def alphas(self) -> Tensor:
        """Cumulative signal power after each noising step, float32 (K,), falling from near 1: multiplied up in float32, as checkpoints were trained with."""
        if self.curve == "linear":
            return (1.0 - torch.linspace(BETA_START, BETA_END, self.steps, dtype=torch.float32)).cumprod(0)

        def signal(position: float) -> float:
            return math.cos((position + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = [min(1.0 - signal((k + 1) / self.steps) / signal(k / self.steps), 0.999) for k in range(self.steps)]
        return (1.0 - torch.tensor(betas, dtype=torch.float32)).cumprod(0)

    @cached_property
    def visited(self) -> list[int]:
        """The steps that the sampler visits, from the noisiest to 0."""
        if self.spacing == "leading":
            return [k * (self.steps // self.sampling_steps) for k in reversed(range(self.sampling_steps))]
        if self.sampling_steps == 1:
            return [self.steps - 1]
        return np.linspace(0, self.steps - 1, self.sampling_steps).round().astype(int)[::-1].tolist()  # type: ignore[no-any-return]

    @cached_property
    def moves(self) -> list[Move]:
        """The sampler's steps as numbers, computed once."""
        powers = self.alphas.double().tolist()
        following = [powers[step] for step in self.visited[1:]] + [1.0]
        last = len(self.visited) - 1
        return [self._move(step, powers[step], after, final=k == last) for k, (step, after) in enumerate(zip(self.visited, following, strict=True))]

    def _move(self, step: int, now: float, after: float, final: bool) -> Move:
        signal, noise = math.sqrt(now), math.sqrt(1.0 - now)
        clean = (1.0 / signal, -noise / signal) if self.prediction == "epsilon" else (0.0, 1.0)
        if self.sampler == "ddpm":  # Ho et al. 2020, equations 6 and 7, between visited steps
            # In float32 as diffusers: where K is large, the small differences of numbers near 1 would be up to 1e-4 away from what was trained with.
            left, left_after, kept = ONE - np.float32(now), ONE - np.float32(after), np.float32(now) / np.float32(after)
            lost, variance = ONE - kept, max(float(left_after / left * (ONE - kept)), 1e-20)
            spread = 0.0 if final and step == 0 else math.sqrt(variance)
            return Move(*clean, float(np.sqrt(np.float32(after)) * lost / left), float(np.sqrt(kept) * left_after / left), 0.0, spread)
        ahead = math.sqrt(1.0 - after)  # of the noise that stays; Song et al. 2021, equation 12 with eta 0
        if self.clipping == "consistent":
            return Move(*clean, math.sqrt(after) - ahead * signal / noise, ahead / noise, 0.0, 0.0)
        if self.prediction == "epsilon":
            return Move(*clean, math.sqrt(after), 0.0, ahead, 0.0)
        return Move(*clean, math.sqrt(after), ahead / noise, -ahead * signal / noise, 0.0)

    def add_noise(self, clean: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """Forward process: ``clean`` and ``noise`` (B, ...), ``steps`` (B,), all on one device."""
        alpha = self.alphas.to(clean.device)[steps].reshape(-1, *[1] * (clean.dim() - 1))
        return alpha.sqrt() * clean + (1.0 - alpha).sqrt() * noise

    def advance(self, move: Move, sample: Tensor, output: Tensor) -> Tensor:
        """One denoising step, without the fresh noise of DDPM, with gradients: the sample and what the network says of it -> the next sample."""
        clean = move.clean_sample * sample + move.clean_output * output
        if self.clipping != "none":
            clean = clean.clamp(-1.0, 1.0)
        return move.clean_part * clean + move.sample_part * sample + move.output_part * output

    def sample(
        self,
        predict: Callable[[Tensor, int], Tensor],
        noise: Tensor,
        generator: torch.Generator | None = None,
        inpaint: Callable[[Tensor], object] | None = None,
    ) -> Tensor:
        """Denoises, without gradients: the steps of ``advance`` in three tensors that are made once.

        Args:
            predict: The network: (sample, place of the step in ``visited``) to what ``prediction`` says.
            noise: Start, standard normal.
            generator: Draws the noise of DDPM, on the device of ``noise``.
            inpaint: Puts what is known into the estimated clean sample, in place, in every step.

        Returns:
            A clean sample of the shape of ``noise``; in [-1, 1] unless clipping is ``none``.
        """
        sample, clean, fresh = noise.clone(), torch.empty_like(noise), torch.empty_like(noise)
        for place, move in enumerate(self.moves):
            clean_sample, clean_output, clean_part, sample_part, output_part, noise_part = map(float, move)
            output = predict(sample, place)
            torch.mul(sample, clean_sample, out=clean).add_(output, alpha=clean_output)
            if self.clipping != "none":
                clean.clamp_(-1.0, 1.0)
            if inpaint is not None:
                inpaint(clean)
            sample.mul_(sample_part).add_(clean, alpha=clean_part)
            if output_part:
                sample.add_(output, alpha=output_part)
            if noise_part:
                sample.add_(torch.randn(noise.shape, generator=generator, out=fresh), alpha=noise_part)
        return sample
