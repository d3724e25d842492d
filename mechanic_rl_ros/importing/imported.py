"""A policy of other software in our terms, and the published networks under our names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mechanic_rl_ros.embodiment import may_be_camera
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.parts import SHARED


@dataclass(frozen=True)
class Imported:
    """A policy of other software in our terms.

    Attributes:
        config: Its architecture.
        policy: State of a ``Policy``; actions in the units of its training data.
        sources: What the original calls each camera, by camera key.
        image_sizes: Height and width of the images that it was trained on, by camera key.
    """

    config: PolicyConfig
    policy: dict[str, Tensor]
    sources: dict[str, str]
    image_sizes: dict[str, tuple[int, int]]


def camera_keys(images: list[str], named: dict[str, str], what: str) -> dict[str, str]:
    """What the original calls each camera, by camera key.

    Args:
        images: Names of the images that the policy takes.
        named: Camera key by such a name, as a person gave them; by default the last part of the name.
        what: Name of the policy in messages.

    Raises:
        UserError: A name is unknown, a key cannot be one, or two images would be the same camera.
    """
    for name in sorted(named.keys() - set(images)):
        raise UserError(f"{what}: the policy takes no image {name}: it takes {', '.join(images)}")
    sources = {named.get(name, name.rsplit(".", 1)[-1]): name for name in images}
    if len(sources) < len(images):
        raise UserError(f"{what}: two of its images would be the same camera: name one for each of {', '.join(images)} with --camera")
    for key in sources:
        if not may_be_camera(key):
            raise UserError(f"{what}: {key!r} cannot be the key of a camera: name another with --camera {sources[key]}=KEY")
    return sources


def set_colours(policy: dict[str, Tensor], config: PolicyConfig, colours: dict[str, tuple[Tensor, Tensor]], what: str) -> None:
    """Puts mean and deviation (3,) of every camera's colours, values in [0, 1], into the encoders.

    Raises:
        UserError: Cameras that share an encoder are normalised differently.
    """
    for key in [SHARED] if config.encoder.shared else config.cameras:  # type: ignore[union-attr]
        of = [torch.stack(colours[camera]) for camera in (config.cameras if key == SHARED else [key])]
        if any(not torch.allclose(of[0], other) for other in of[1:]):
            raise UserError(f"{what}: cameras that share an encoder are normalised differently, which is not supported: train with one encoder per camera")
        policy[f"encoders.{key}.mean"], policy[f"encoders.{key}.deviation"] = (part.float().reshape(3, 1, 1) for part in of[0])


_UNET: list[tuple[str, Callable[[re.Match[str]], str]]] = [
    (r"diffusion_step_encoder\.(1|3)\.(.*)", lambda m: f"embed.{int(m[1]) - 1}.{m[2]}"),
    (r"down_modules\.(\d+)\.([01])\.(.*)", lambda m: f"down.{m[1]}.{m[2]}.{m[3]}"),
    (r"down_modules\.(\d+)\.2\.(?:conv\.)?(.*)", lambda m: f"shrink.{m[1]}.{m[2]}"),
    (r"mid_modules\.([01])\.(.*)", lambda m: f"middle.{m[1]}.{m[2]}"),
    (r"up_modules\.(\d+)\.([01])\.(.*)", lambda m: f"up.{m[1]}.{m[2]}.{m[3]}"),
    (r"up_modules\.(\d+)\.2\.(?:conv\.)?(.*)", lambda m: f"grow.{m[1]}.{m[2]}"),
    (r"final_conv\.0\.block\.(.*)", lambda m: f"final.0.{m[1]}"),
    (r"final_conv\.1\.(.*)", lambda m: f"final.1.{m[1]}"),
]


def unet_tensor(name: str, tensor: Tensor, config: PolicyConfig, columns: Tensor, what: str) -> dict[str, Tensor]:
    """A tensor of the published U-Net under our name; the modulation's weight becomes two.

    Args:
        name: There, without prefix.
        tensor: Of that name.
        config: Architecture, with a U-Net.
        columns: For every number of our observation, its place in theirs.
        what: Name of the policy in messages.

    Raises:
        UserError: The modulation has another number of columns.
    """
    ours = next((rename(match) for pattern, rename in _UNET if (match := re.fullmatch(pattern, name))), name)
    ours = re.sub(r"\.(conv1|blocks\.0)\.block\.", ".enter.", ours)
    ours = re.sub(r"\.(conv2|blocks\.1)\.block\.", ".leave.", ours)
    ours = f"head.{ours.replace('.residual_conv.', '.shortcut.')}"
    if ours.endswith(".cond_encoder.1.weight"):
        stem, width = ours.removesuffix("cond_encoder.1.weight"), config.head.step_width  # type: ignore[union-attr]
        if tensor.dim() != 2 or tensor.shape[1] != width + len(columns):
            raise UserError(
                f"{what}: tensor {name} has shape {list(tensor.shape)}, but {width + len(columns)} columns are expected: its weights and its configuration "
                "do not belong together"
            )
        return {f"{stem}by_step.weight": tensor[:, :width], f"{stem}by_observation.weight": tensor[:, width:][:, columns]}
    return {ours.replace("cond_encoder.1.bias", "by_step.bias"): tensor}


_TRANSFORMER = {
    "input_emb": "enter",
    "pos_emb": "action_places",
    "cond_obs_emb": "frame",
    "cond_pos_emb": "memory_places",
    "encoder": "remember",
    "decoder": "layers",
    "ln_f": "norm",
    "head": "leave",
}


def transformer_tensor(name: str, tensor: Tensor, columns: Tensor, what: str) -> dict[str, Tensor]:
    """A tensor of the published time-series diffusion transformer under our name; nothing for a mask, which follows from the horizons.

    Args:
        name: There, without prefix.
        tensor: Of that name.
        columns: For every number of our frame, its place in theirs.
        what: Name of the policy in messages.

    Raises:
        UserError: What reads a frame has another number of columns.
    """
    part, _, rest = name.partition(".")
    if part in ("mask", "memory_mask", "_dummy_variable"):
        return {}
    if name == "cond_obs_emb.weight":
        if tensor.dim() != 2 or tensor.shape[1] != len(columns):
            raise UserError(
                f"{what}: tensor {name} has shape {list(tensor.shape)}, but {len(columns)} columns are expected: its weights and its configuration "
                "do not belong together"
            )
        tensor = tensor[:, columns]
    return {".".join(filter(None, ("head", _TRANSFORMER.get(part, part), rest))): tensor}


_STAGES = {"0": "conv1", "1": "bn1", **{str(4 + k): f"layer{1 + k}" for k in range(4)}}


def keypoint_encoder_tensor(key: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor of the published ResNet with spatial softmax under our name.

    Coordinates there are in pairs, x and y of every keypoint; here all x come first.

    Args:
        key: Of the encoder.
        name: There, as LeRobot calls it: ``backbone.<stage>...``, ``pool.nets...``, ``out...``.
        tensor: Of that name.
    """
    if name == "pool.pos_grid" or name.endswith("num_batches_tracked"):
        return {}
    if name.startswith("backbone.") and name.count(".") >= 2:
        _, stage, rest = name.split(".", 2)
        return {f"encoders.{key}.backbone.{_STAGES.get(stage, stage)}.{rest}": tensor.float()}
    if name == "out.weight" and tensor.dim() == 2:
        tensor = torch.cat([tensor[:, 0::2], tensor[:, 1::2]], dim=1)
    renamed = name.replace("pool.nets.", "keypoints.").replace("out.", "leave.")
    return {f"encoders.{key}.{renamed}": tensor.float()}
