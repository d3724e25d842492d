"""ResNet-18 and -34 as image encoders, with GroupNorm in place of BatchNorm (He et al. 2016; Chi et al., Diffusion Policy, 2023).

Tensors have the names that torchvision gives them, so that its weights, as a safetensors file, load as they are.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.encoder import SpatialSoftmax
from mechanic_rl_ros.policy.part_config import RESNET_WIDTHS as WIDTHS
from mechanic_rl_ros.policy.part_config import ResnetEncoderConfig
from mechanic_rl_ros.policy.tensors import check_tensors, read_file, shapes_of

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of each colour in [0, 1]


class FrozenBatchNorm(nn.Module):
    """BatchNorm with the statistics of its training, as pretrained weights need it."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return nn.functional.batch_norm(maps, self.running_mean, self.running_var, self.weight, self.bias, training=False)


def _norm(channels: int, group: int) -> nn.Module:
    return nn.GroupNorm(channels // group, channels) if group else FrozenBatchNorm(channels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int, group: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), _norm(out, group)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), _norm(out, group)
        changes = stride != 1 or channels != out
        self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), _norm(out, group)) if changes else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out, H / stride, W / stride)."""
        inner = self.bn2(self.conv2(self.bn1(self.conv1(maps)).relu()))
        return (inner + self.downsample(maps)).relu()


class Resnet(nn.Module):
    """All of a ResNet but its last pooling and classifier."""

    def __init__(self, layers: int, group: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), _norm(64, group)
        channels = 64
        for number, (count, width) in enumerate(zip(BLOCKS[layers], WIDTHS, strict=True)):
            blocks = [BasicBlock(channels if k == 0 else width, width, 2 if number and k == 0 else 1, group) for k in range(count)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
            channels = width

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512, H / 32, W / 32)."""
        maps = nn.functional.max_pool2d(self.bn1(self.conv1(images)).relu(), 3, 2, 1)
        for number in range(len(WIDTHS)):
            maps = self.get_submodule(f"layer{number + 1}")(maps)
        return maps


class ResnetEncoder(nn.Module):
    """From images to features: crop, ResNet, then spatial softmax and a linear layer, or the mean."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, own: ResnetEncoderConfig) -> None:
        super().__init__()
        self.crop = own.crop
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).reshape(3, 1, 1))
        self.backbone = Resnet(own.layers, own.group)
        self.softmax = SpatialSoftmax()
        if own.keypoints:
            self.keypoints = nn.Conv2d(WIDTHS[-1], own.keypoints, 1)
            self.leave = nn.Linear(own.features, own.features)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB, uint8 or float in [0, 255] -> (B, features). In training mode the crop is anywhere, else in the centre."""
        if self.crop != (0, 0):
            images = cropped(images, self.crop, anywhere=self.training)
        maps = self.backbone((images.float() / 255.0 - self.mean) / self.deviation)
        return self.leave(self.softmax(self.keypoints(maps))).relu() if hasattr(self, "keypoints") else maps.mean(dim=(2, 3))

    def load_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Takes the weights of a ResNet of torchvision from a safetensors file; its classifier is ignored.

        Raises:
            UserError: The file cannot be read, or is of another network.
        """
        what, own = f"pretrained weights {path}", self.backbone.state_dict()
        wanted = {name: tensor for name, tensor in read_file(Path(path), what).items() if name in own or not _needless(name)}
        check_tensors(wanted, shapes_of(own), what)
        self.backbone.load_state_dict(wanted)


def _needless(name: str) -> bool:
    """Whether a ResNet of torchvision has it and ours does without: the classifier, counters, and statistics where there is GroupNorm."""
    return name.startswith("fc.") or name.endswith(("num_batches_tracked", "running_mean", "running_var"))


def cropped(images: Tensor, size: tuple[int, int], anywhere: bool) -> Tensor:
    """(B, C, H, W) -> (B, C, *size): the centre, or one random place for the whole batch."""
    spare = (images.shape[-2] - size[0], images.shape[-1] - size[1])
    if min(spare) < 0:
        raise UserError(f"images of {images.shape[-2]}x{images.shape[-1]} are smaller than the crop of {size[0]}x{size[1]}: set another crop")
    # Where the centre lies between two pixels: as torchvision's centre crop.
    top, left = (int(torch.randint(room + 1, ())) if anywhere else round(room / 2.0) for room in spare)
    return images[..., top : top + size[0], left : left + size[1]]
