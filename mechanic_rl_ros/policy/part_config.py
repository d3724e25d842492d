"""The parts that a policy is made of, as somebody describes them: encoders and heads, with their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, get_args


@dataclass(frozen=True)
class MlpDenoiserConfig:
    """A small MLP over the flattened chunk, the embedded default: hidden width, residual blocks, width of the vector that modulates them."""

    kind: ClassVar[str] = "mlp"
    width: int = 224
    depth: int = 3
    condition: int = 128


@dataclass(frozen=True)
class UnetDenoiserConfig:
    """Conditional 1-D U-Net over time (Chi et al., Diffusion Policy, 2023).

    Attributes:
        widths: Channels of every level; time is halved between two.
        kernel: Width of the convolutions.
        groups: Of GroupNorm.
        step_width: Size of the embedding of diffusion steps.
        scales: FiLM scales and shifts; else it shifts only.
    """

    kind: ClassVar[str] = "unet"
    widths: tuple[int, ...] = (128, 256, 512)
    kernel: int = 5
    groups: int = 8
    step_width: int = 128
    scales: bool = True


@dataclass(frozen=True)
class TransformerDenoiserConfig:
    """Time-series diffusion transformer (Chi et al., Diffusion Policy, 2023): layers, attention heads, width of a token."""

    kind: ClassVar[str] = "transformer"
    layers: int = 8
    heads: int = 4
    width: int = 256


@dataclass(frozen=True)
class GaussianConfig:
    """A diagonal Gaussian over the chunk, squashed by tanh (Haarnoja et al., SAC, 2018): hidden width and layers of the MLP that reads the observation."""

    kind: ClassVar[str] = "gaussian"
    width: int = 256
    depth: int = 2


@dataclass(frozen=True)
class DeterministicConfig:
    """An MLP that answers with one chunk.

    Attributes:
        width: Hidden width.
        depth: Hidden layers.
        noise: Deviation of what is added when it explores, as a share of the largest action.
    """

    kind: ClassVar[str] = "deterministic"
    width: int = 256
    depth: int = 2
    noise: float = 0.2


@dataclass(frozen=True)
class ImplicitConfig:
    """An energy of observation and chunk (Florence et al., Implicit Behavioral Cloning, 2021).

    Attributes:
        width: Hidden width.
        depth: Hidden layers that read the observation.
        counter_examples: Chunks that a demonstrated one is compared with in training.
        candidates: Chunks among which acting looks for one of low energy.
        iterations: How often candidates are weighed while acting; in between they are resampled and perturbed.
    """

    kind: ClassVar[str] = "implicit"
    width: int = 128
    depth: int = 2
    counter_examples: int = 32
    candidates: int = 512
    iterations: int = 4


RESNET_WIDTHS = (64, 128, 256, 512)
"""Channels of the stages of a ResNet."""

LAST_GROUPS = 8
"""The published U-Net has eight groups in its last block, whatever it has elsewhere."""


@dataclass(frozen=True)
class ConvEncoderConfig:
    """A small convolutional encoder with spatial softmax, one per camera: every camera gives 2 x keypoints features."""

    kind: ClassVar[str] = "conv"
    keypoints: int = 32

    @property
    def features(self) -> int:
        """Features of one camera."""
        return 2 * self.keypoints


@dataclass(frozen=True)
class ResnetEncoderConfig:
    """ResNet with GroupNorm, spatial softmax and a linear layer (Chi et al., Diffusion Policy, 2023).

    Attributes:
        layers: 18 or 34.
        keypoints: Channels of the spatial softmax; every camera gives 2 x keypoints features. 0: the mean of all places instead, 512 features.
        group: Channels in a group of GroupNorm; 0 means BatchNorm with frozen statistics, as pretrained weights have it.
        crop: Height and width of the part of the image that is seen: its centre in acting, any part in training. (0, 0): all of it.
        shared: One encoder for all cameras.
    """

    kind: ClassVar[str] = "resnet"
    layers: int = 18
    keypoints: int = 32
    group: int = 16
    crop: tuple[int, int] = (0, 0)
    shared: bool = False

    @property
    def features(self) -> int:
        """Features of one camera."""
        return 2 * self.keypoints or RESNET_WIDTHS[-1]


GROUPS = (0, 1, 2, 4, 8, 16, 32, 64)  # channels in a group of GroupNorm; 0: none
DenoiserConfig = MlpDenoiserConfig | UnetDenoiserConfig | TransformerDenoiserConfig
HeadConfig = DenoiserConfig | GaussianConfig | DeterministicConfig | ImplicitConfig
EncoderConfig = ConvEncoderConfig | ResnetEncoderConfig
PARTS: dict[str, dict[str, Any]] = {
    "head": {kind.kind: kind for kind in get_args(HeadConfig)},
    "encoder": {kind.kind: kind for kind in get_args(EncoderConfig)},
}
"""What the kinds of each part are called."""
