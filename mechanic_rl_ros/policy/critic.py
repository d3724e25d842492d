"""Two Q functions and one V over normalised observations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.linear import Linear, TwinLinear
from mechanic_rl_ros.policy.trunk import Trunk


class TwinQ(nn.Module):
    """Q(observation, the T_a actions that are executed), twice: the smaller one is believed (Fujimoto et al., TD3, 2018)."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        inputs = config.observation_dim + config.action_horizon * config.action_dim
        width = config.critic_width
        self.layers = nn.Sequential(
            TwinLinear(inputs, width), nn.LayerNorm(width), nn.SiLU(), TwinLinear(width, width), nn.LayerNorm(width), nn.SiLU(), TwinLinear(width, 1)
        )
        self.executed = slice(config.past_actions, config.past_actions + config.action_horizon)

    def forward(self, observation: Tensor, actions: Tensor) -> Tensor:
        """(B, observation_dim), (B, T_p, A) -> (2, B). An observation of one row stands for all."""
        executed = actions[:, self.executed].flatten(1)
        joined = torch.cat([observation.expand(len(executed), -1), executed], dim=-1)
        return self.layers(joined).squeeze(-1)


class Value(nn.Module):
    """V(observation)."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*Trunk(config.observation_dim, config.critic_width, 2), Linear(config.critic_width, 1))

    def forward(self, observation: Tensor) -> Tensor:
        """(B, observation_dim) -> (B,)."""
        return self.layers(observation).squeeze(-1)
