"""Proportional prioritised sampling (Schaul, Quan, Antonoglou, Silver: Prioritized Experience Replay, 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 512
SMALLEST = 1e-6
"""Added to every priority, so that no row is never drawn again (epsilon of section 3.3)."""
BELOW_ONE = 1.0 - 1e-12


class Priorities:
    """p^alpha of every slot, 4 bytes each, and sums over blocks of slots. A slot of 0 is never drawn.

    A draw looks for its block among the sums, then for its slot in the block. Sums are taken anew from their block whenever it changes, so that errors
    of rounding do not gather.
    """

    def __init__(self, slots: int, alpha: float, device: torch.device | str = "cpu") -> None:
        """Nothing can be drawn yet."""
        self.alpha, self.highest = alpha, 1.0
        self._powers = torch.zeros(-(-slots // BLOCK), BLOCK, device=device)
        self._sums = torch.zeros(len(self._powers), dtype=torch.float64, device=device)

    def __getitem__(self, slots: Tensor) -> Tensor:
        """p^alpha of ``slots``."""
        return self._powers.view(-1)[slots]

    def __setitem__(self, slots: Tensor, powers: Tensor | float) -> None:
        self._powers.view(-1)[slots] = powers
        blocks = torch.unique(slots // BLOCK)
        self._sums[blocks] = self._powers[blocks].sum(dim=1, dtype=torch.float64)

    def update(self, slots: Tensor, priorities: Tensor) -> None:
        """Takes the magnitude of ``priorities`` (B,), such as errors of temporal differences, for ``slots`` (B,)."""
        powers = (priorities.abs().float() + SMALLEST) ** self.alpha
        self[slots] = powers
        self.highest = max([self.highest, *powers.tolist()])

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws ``count`` slots, one from each of ``count`` equal parts of the whole sum (appendix B.2.1), in random order: who draws several batches at once
        splits them, and slots lie as their episodes came. Returns slots and their probabilities P(i).
        """
        ends = self._sums.cumsum(0)
        parts = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device)
        parts = (parts + torch.randperm(count, generator=generator, device=generator.device)).to(ends.device) / count
        wanted = ends[-1] * parts.clamp(max=BELOW_ONE)
        blocks = torch.searchsorted(ends, wanted, right=True)
        inside = self._powers[blocks].cumsum(dim=1, dtype=torch.float64)
        rest = torch.minimum(wanted - (ends - self._sums)[blocks], inside[:, -1] * BELOW_ONE).clamp_min(0.0)
        slots = blocks * BLOCK + torch.searchsorted(inside, rest[:, None], right=True)[:, 0]
        return slots, self[slots] / ends[-1]
