"""Building the parts that a configuration describes."""

from __future__ import annotations

from torch import nn

from mechanic_rl_ros.policy.config import ConvEncoderConfig, MlpDenoiserConfig, PolicyConfig, UnetDenoiserConfig
from mechanic_rl_ros.policy.denoiser import MlpDenoiser
from mechanic_rl_ros.policy.encoder import ConvEncoder
from mechanic_rl_ros.policy.head import Head
from mechanic_rl_ros.policy.resnet import ResnetEncoder
from mechanic_rl_ros.policy.transformer import TransformerDenoiser
from mechanic_rl_ros.policy.unet import UnetDenoiser

SHARED = "all"
"""Key of an encoder that all cameras share."""


def build_encoders(config: PolicyConfig) -> nn.ModuleDict:
    """Encoders by camera key, or one under ``SHARED``."""
    own = config.encoder
    if isinstance(own, ConvEncoderConfig):
        return nn.ModuleDict({key: ConvEncoder(own) for key in config.cameras})
    return nn.ModuleDict({key: ResnetEncoder(own) for key in ([SHARED] if own.shared else config.cameras)})


def build_head(config: PolicyConfig) -> Head:
    """The head."""
    if isinstance(config.head, MlpDenoiserConfig):
        return MlpDenoiser(config, config.head)
    if isinstance(config.head, UnetDenoiserConfig):
        return UnetDenoiser(config, config.head)
    return TransformerDenoiser(config, config.head)
