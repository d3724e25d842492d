"""The time-series diffusion transformer (Chi et al., Diffusion Policy, 2023): one token for every action, cross-attention to what was seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.denoiser import Denoiser, step_embedding
from mechanic_rl_ros.policy.part_config import TransformerDenoiserConfig


class TransformerDenoiser(Denoiser):
    """A decoder over action tokens; memory holds one token for the diffusion step and one for every frame.

    Causal: an action sees earlier actions, and frames up to its own time.
    """

    past: Tensor
    seen: Tensor

    def __init__(self, config: PolicyConfig, own: TransformerDenoiserConfig) -> None:
        super().__init__(config)
        self.frames, self.width, horizon = config.observation_horizon, own.width, config.prediction_horizon
        self.enter = nn.Linear(config.action_dim, own.width)
        self.action_places = nn.Parameter(0.02 * torch.randn(1, horizon, own.width))
        self.frame = nn.Linear(config.frame_dim, own.width)
        self.memory_places = nn.Parameter(0.02 * torch.randn(1, 1 + self.frames, own.width))
        self.remember = nn.Sequential(nn.Linear(own.width, 4 * own.width), nn.Mish(), nn.Linear(4 * own.width, own.width))
        layer = nn.TransformerDecoderLayer(own.width, own.heads, 4 * own.width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerDecoder(layer, own.layers)
        self.norm = nn.LayerNorm(own.width)
        self.leave = nn.Linear(own.width, config.action_dim)
        actions, tokens = torch.arange(horizon)[:, None], torch.arange(1 + self.frames)[None]
        self.register_buffer("past", actions < torch.arange(horizon)[None], persistent=False)  # True: not looked at
        self.register_buffer("seen", actions - config.past_actions < tokens - self.frames, persistent=False)

    def condition(self, steps: Tensor, observation: Tensor) -> list[Tensor]:
        """See ``Denoiser``; the memory (B or 1, 1 + T_o, width)."""
        step, frames = step_embedding(steps, self.width)[:, None], self.frame(observation.unflatten(1, (self.frames, -1)))
        rows = max(len(step), len(frames))
        tokens = torch.cat([step.expand(rows, -1, -1), frames.expand(rows, -1, -1)], dim=1)
        return [self.remember(tokens + self.memory_places)]

    def denoise(self, noisy: Tensor, condition: list[Tensor]) -> Tensor:
        """See ``Denoiser``."""
        memory = condition[0].expand(len(noisy), -1, -1)
        hidden = self.layers(self.enter(noisy) + self.action_places, memory, tgt_mask=self.past, memory_mask=self.seen)
        return self.leave(self.norm(hidden))
