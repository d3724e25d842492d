"""Building the parts that a configuration describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.denoiser import Denoiser, MlpDenoiser
from mechanic_rl_ros.policy.deterministic import DeterministicHead
from mechanic_rl_ros.policy.encoder import ConvEncoder
from mechanic_rl_ros.policy.gaussian import GaussianHead
from mechanic_rl_ros.policy.head import Head
from mechanic_rl_ros.policy.implicit import ImplicitHead
from mechanic_rl_ros.policy.part_config import (
    ConvEncoderConfig,
    DeterministicConfig,
    GaussianConfig,
    ImplicitConfig,
    MlpDenoiserConfig,
    TransformerDenoiserConfig,
    UnetDenoiserConfig,
)
from mechanic_rl_ros.policy.resnet import ResnetEncoder
from mechanic_rl_ros.policy.steered import SteeredDenoiser
from mechanic_rl_ros.policy.transformer import TransformerDenoiser
from mechanic_rl_ros.policy.unet import UnetDenoiser

SHARED = "all"
"""Key of an encoder that all cameras share."""

HEADS: dict[type, Callable[[PolicyConfig, Any], Head]] = {
    MlpDenoiserConfig: MlpDenoiser,
    UnetDenoiserConfig: UnetDenoiser,
    TransformerDenoiserConfig: TransformerDenoiser,
    GaussianConfig: GaussianHead,
    DeterministicConfig: DeterministicHead,
    ImplicitConfig: ImplicitHead,
}
"""What builds the head that a configuration describes."""


def build_encoders(config: PolicyConfig) -> nn.ModuleDict:
    """Encoders by camera key, or one under ``SHARED``."""
    own = config.encoder
    if isinstance(own, ConvEncoderConfig):
        return nn.ModuleDict({key: ConvEncoder(own) for key in config.cameras})
    return nn.ModuleDict({key: ResnetEncoder(own) for key in ([SHARED] if own.shared else config.cameras)})


def build_head(config: PolicyConfig) -> Head:
    """The head; a denoiser that is steered together with what steers it."""
    head = HEADS[type(config.head)](config, config.head)
    return SteeredDenoiser(config, head) if config.steering and isinstance(head, Denoiser) else head
