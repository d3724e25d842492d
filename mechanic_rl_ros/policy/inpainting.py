"""Real-time chunking (Black, Galliker and Levine 2025): a new action chunk continues the one that plays while it is computed.

What both chunks predict for the same time is inpainted. The paper guides the sampler by a gradient through the network; here the sampler's estimate of
the clean chunk is blended with the previous one in every step (as RePaint does with images, Lugmayr et al. 2022), which takes no backward pass.
Blending compounds, so that a step gets the part of the paper's weight that gives this weight in all steps together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Inpainting:
    """What is known of a chunk before it is sampled.

    Attributes:
        known: (T_p, A), normalised.
        weights: (T_p, 1), from 0, free, to 1, frozen.
    """

    known: Tensor
    weights: Tensor

    def spread(self, steps: int) -> Callable[[Tensor], Tensor]:
        """For a sampler of so many steps: draws (B, T_p, A) estimated clean chunks, in place, a step nearer to what is known."""
        share = 1.0 - (1.0 - self.weights) ** (1.0 / steps)
        return lambda clean: clean.lerp_(self.known, share)


def continuing(previous: Tensor, elapsed: int, frozen: int) -> Inpainting:
    """What the previous chunk says about the next one.

    Args:
        previous: (T_p, A), normalised.
        elapsed: Periods between their observations: action k of the next one is for the same time as action k + elapsed of the previous one.
        frozen: First actions of the next one that will be over when it takes effect, because the previous one plays meanwhile.

    Returns:
        Frozen actions are those of the previous chunk; later ones are drawn to it the less, the later they are.
    """
    common = max(len(previous) - elapsed, 0)
    known = torch.zeros_like(previous)
    known[:common] = previous[elapsed:]
    return Inpainting(known, previous.new_tensor(soft_mask(len(previous), common, frozen))[:, None])


def soft_mask(length: int, common: int, frozen: int) -> list[float]:
    """Weights of Black et al., equation 5: 1 for ``frozen`` actions, decaying exponentially until ``common``, 0 for the rest of ``length``."""

    def weight(place: int) -> float:
        if place >= common:
            return 0.0
        share = (common - place) / (common - frozen + 1) if place >= frozen else 1.0
        return share * math.expm1(share) / math.expm1(1.0)

    return [weight(place) for place in range(length)]
