"""What every head of a policy can do: clone chunks and draw chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.inpainting import Inpainting


class Head(nn.Module, ABC):
    """Turns a normalised observation into action chunks. It is the part of a policy that practises; chunks here are normalised, too."""

    @abstractmethod
    def loss(self, observation: Tensor, chunks: Tensor, generator: torch.Generator) -> Tensor:
        """What cloning makes small, one number per row.

        Args:
            observation: (B, observation_dim).
            chunks: (B, T_p, A), normalised.
            generator: Draws noise, on the device of ``chunks``.

        Returns:
            (B,).
        """

    @abstractmethod
    def sample(self, observation: Tensor, samples: int, generator: torch.Generator, explore: bool = False) -> Tensor:
        """Draws chunks, without gradient.

        Args:
            observation: (1, observation_dim), the same for all samples; or (samples, observation_dim), one for each.
            samples: How many.
            generator: Draws noise, on the device of ``observation``.
            explore: Whether the robot practises: heads that would always answer alike then try something else, too.

        Returns:
            (samples, T_p, A), normalised.
        """

    def inpaint(self, observation: Tensor, samples: int, generator: torch.Generator, inpainting: Inpainting, explore: bool = False) -> Tensor:
        """Draws chunks of which something is known, as ``sample`` does.

        Raises:
            UserError: This kind of head cannot do that.
        """
        raise UserError(f"a policy whose head is a {type(self).__name__} cannot inpaint: use latency mode overlapping")
