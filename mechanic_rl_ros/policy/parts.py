"""Building the parts that a configuration describes."""

from __future__ import annotations

from torch import nn

from mechanic_rl_ros.policy.config import ConvEncoderConfig, MlpDenoiserConfig, PolicyConfig, UnetDenoiserConfig
from mechanic_rl_ros.policy.denoiser import Denoiser, MlpDenoiser
from mechanic_rl_ros.policy.encoder import ConvEncoder
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


def build_denoiser(config: PolicyConfig) -> Denoiser:
    """The denoiser."""
    if isinstance(config.denoiser, MlpDenoiserConfig):
        return MlpDenoiser(config, config.denoiser)
    if isinstance(config.denoiser, UnetDenoiserConfig):
        return UnetDenoiser(config, config.denoiser)
    return TransformerDenoiser(config, config.denoiser)
