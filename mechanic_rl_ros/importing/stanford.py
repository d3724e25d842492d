"""Opens a ``.ckpt`` of diffusion_policy (Chi et al. 2023): its policies of images.

The image policy has a U-Net and ResNets of torchvision, one per camera or one for all; the two hybrid ones, with encoders of robomimic, have a ResNet-18 with
spatial softmax per camera and a U-Net or the transformer. Configuration and weights, the EMA where there is one, are read without running the pickle. A frame is
the features of all cameras, then all low-dimensional observations, each in alphabetical order; in hybrid policies all of them come in the order of the configuration.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.importing.imported import Imported, camera_keys, keypoint_encoder_tensor, set_colours, transformer_tensor, unet_tensor
from mechanic_rl_ros.importing.inert import Archive, plain
from mechanic_rl_ros.importing.settings import Settings
from mechanic_rl_ros.policy.checkpoint import policy_shapes
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.part_config import ResnetEncoderConfig, TransformerDenoiserConfig, UnetDenoiserConfig
from mechanic_rl_ros.policy.parts import SHARED
from mechanic_rl_ros.policy.resnet import IMAGENET_DEVIATION, IMAGENET_MEAN
from mechanic_rl_ros.policy.schedule import BETA_END, BETA_START, NoiseSchedule
from mechanic_rl_ros.policy.tensors import check_tensors

IMAGE = "diffusion_unet_image_policy.DiffusionUnetImagePolicy"
HYBRID = "diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy"
TRANSFORMER = "diffusion_transformer_hybrid_image_policy.DiffusionTransformerHybridImagePolicy"
ENCODER = "multi_image_obs_encoder.MultiImageObsEncoder"
CROP = [76, 76]  # of the hybrid policy, where its configuration is silent
LARGEST = 4096  # of a side of an image, and numbers in another observation


def read_stanford(path: Path, cameras: dict[str, str] | None = None) -> Imported:
    """Reads a checkpoint.

    Args:
        path: The file.
        cameras: Camera key for every image that the policy takes, by its name there; by default that name.

    Raises:
        UserError: It cannot be read, or the policy is of another kind or has a part that is not supported.
    """
    archive = Archive(path)
    content = archive.content if isinstance(archive.content, dict) else {}
    weights = content.get("state_dicts")
    records = (weights.get("ema_model") or weights.get("model")) if isinstance(weights, dict) else None
    if not isinstance(records, dict) or "cfg" not in content:
        raise UserError(f"file {path} holds no workspace of diffusion_policy: give one of its checkpoints")
    try:
        settings = Settings(plain(content["cfg"]), path)
    except ValueError as error:
        raise UserError(f"file {path} has {error}: get a fresh copy") from error
    images, states = _observations(settings)
    sources = camera_keys(list(images), cameras or {}, f"file {path}")
    config = _config(settings, images, tuple(sources), sum(states.values()))
    tensors = archive.tensors(records)
    columns = _columns(settings, config, images, states)
    policy = _weights(tensors, config, sources, columns, f"file {path}")
    _set_normalisers(policy, tensors, config, sources, states, settings)
    check_tensors(policy, policy_shapes(config), f"file {path}")
    return Imported(config, policy, sources, {key: images[name] for key, name in sources.items()})


def _observations(settings: Settings) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Height and width of every image and length of every other observation, in alphabetical order."""
    images, states = {}, {}
    for name, item in sorted(settings.need("shape_meta.obs", dict).items()):
        shape = item.get("shape") if isinstance(item, dict) else None
        is_image = isinstance(item, dict) and item.get("type") == "rgb"
        if not isinstance(shape, list) or not all(type(size) is int and 1 <= size <= LARGEST for size in shape) or len(shape) != (3 if is_image else 1):
            raise UserError(f"{settings.path}: observation {name} has no valid shape: get a fresh copy of the checkpoint")
        if is_image:
            images[name] = (shape[1], shape[2])
        else:
            states[name] = shape[0]
    if not images or not states:
        raise UserError(f"{settings.path}: only policies with images and low-dimensional observations can be imported")
    return images, states


def _is_hybrid(settings: Settings) -> bool:
    return str(settings.get("policy._target_")).endswith((HYBRID, TRANSFORMER))


def _is_transformer(settings: Settings) -> bool:
    return str(settings.get("policy._target_")).endswith(TRANSFORMER)


def _require_supported(s: Settings, images: dict[str, tuple[int, int]]) -> None:
    noise, encoder = "policy.noise_scheduler", "policy.obs_encoder"
    refused = {
        "policy._target_": not str(s.get("policy._target_")).endswith((IMAGE, HYBRID, TRANSFORMER)),
        "policy.obs_as_global_cond": s.get("policy.obs_as_global_cond", True) is not True,
        "policy.obs_as_cond": s.get("policy.obs_as_cond", True) is not True,
        "policy.time_as_cond": s.get("policy.time_as_cond", True) is not True,
        "policy.causal_attn": s.get("policy.causal_attn", True) is not True,
        "policy.n_cond_layers": s.get("policy.n_cond_layers", 0) != 0,
        "policy.pred_action_steps_only": s.get("policy.pred_action_steps_only", False) is not False,
        f"{noise}._target_": str(s.get(f"{noise}._target_")).rsplit(".", 1)[-1] not in ("DDPMScheduler", "DDIMScheduler"),
        f"{noise}.beta_schedule": s.get(f"{noise}.beta_schedule") not in ("squaredcos_cap_v2", "linear"),
        f"{noise}.beta_start": s.get(f"{noise}.beta_start", BETA_START) != BETA_START,
        f"{noise}.beta_end": s.get(f"{noise}.beta_end", BETA_END) != BETA_END,
        f"{noise}.prediction_type": s.get(f"{noise}.prediction_type") not in ("epsilon", "sample"),
        f"{noise}.variance_type": s.get(f"{noise}.variance_type", "fixed_small") != "fixed_small",
        f"{noise}.clip_sample_range": s.get(f"{noise}.clip_sample_range", 1.0) != 1.0,
        f"{noise}.thresholding": s.get(f"{noise}.thresholding", False) is not False,
        f"{noise}.timestep_spacing": s.get(f"{noise}.timestep_spacing", "leading") != "leading",
        f"{noise}.set_alpha_to_one": s.get(f"{noise}.set_alpha_to_one", True) is not True,
        f"{noise}.steps_offset": s.get(f"{noise}.steps_offset", 0) != 0,
    }
    if _is_hybrid(s):
        refused["policy.crop_shape"] = not _is_crop(s.get("policy.crop_shape"))
    else:
        sizes = [list(size) for size in images.values()]
        refused |= {
            f"{encoder}._target_": not str(s.get(f"{encoder}._target_")).endswith(ENCODER),
            f"{encoder}.rgb_model.name": s.get(f"{encoder}.rgb_model.name") not in ("resnet18", "resnet34"),
            f"{encoder}.resize_shape": any(s.get(f"{encoder}.resize_shape", size) != size for size in sizes),
            f"{encoder}.crop_shape": not _is_crop(s.get(f"{encoder}.crop_shape")),
        }
    for name in (name for name, bad in refused.items() if bad):
        raise UserError(f"{s.path}: {name} {s.get(name)!r} is not supported: docs/policies.md says which policies can be imported")


def _encoder(s: Settings) -> ResnetEncoderConfig:
    if _is_hybrid(s):
        crop = s.get("policy.crop_shape") if "crop_shape" in s.need("policy", dict) else CROP
        return ResnetEncoderConfig(group=16 if s.flag("policy.obs_encoder_group_norm", False) else 0, crop=tuple(crop) if crop else (0, 0))
    crop = s.get("policy.obs_encoder.crop_shape")
    return ResnetEncoderConfig(
        layers=int(s.need("policy.obs_encoder.rgb_model.name", str).removeprefix("resnet")),
        keypoints=0,
        group=16 if s.flag("policy.obs_encoder.use_group_norm", False) else 0,
        crop=tuple(crop) if crop else (0, 0),
        shared=s.flag("policy.obs_encoder.share_rgb_model", False),
    )


def _head(s: Settings) -> UnetDenoiserConfig | TransformerDenoiserConfig:
    if _is_transformer(s):
        return TransformerDenoiserConfig(layers=s.need("policy.n_layer", int), heads=s.need("policy.n_head", int), width=s.need("policy.n_emb", int))
    return UnetDenoiserConfig(
        widths=tuple(s.need("policy.down_dims", list)),
        kernel=s.need("policy.kernel_size", int),
        groups=s.need("policy.n_groups", int),
        step_width=s.need("policy.diffusion_step_embed_dim", int),
        scales=s.flag("policy.cond_predict_scale", True),
    )


def _config(s: Settings, images: dict[str, tuple[int, int]], cameras: tuple[str, ...], state_dim: int) -> PolicyConfig:
    _require_supported(s, images)
    noise = "policy.noise_scheduler"
    action = s.need("shape_meta.action.shape", list)
    if len(action) != 1:
        raise UserError(f"{s.path}: its action has shape {action}: only a vector can be imported")
    steps, horizon = s.need(f"{noise}.num_train_timesteps", int), s.of_policy("n_obs_steps")
    config = PolicyConfig(
        cameras=cameras,
        state_dim=state_dim,
        action_dim=action[0],
        observation_horizon=horizon,
        prediction_horizon=s.of_policy("horizon"),
        action_horizon=s.of_policy("n_action_steps", "n_latency_steps"),
        past_actions=horizon - 1,
        encoder=_encoder(s),
        head=_head(s),
        schedule=NoiseSchedule(
            curve="linear" if s.get(f"{noise}.beta_schedule") == "linear" else "squared_cosine",
            steps=steps,
            sampling_steps=s.get("policy.num_inference_steps", steps),
            prediction=s.get(f"{noise}.prediction_type"),
            sampler=str(s.get(f"{noise}._target_")).rsplit(".", 1)[-1][:4].lower(),
            spacing="leading",
            clipping="plain" if s.flag(f"{noise}.clip_sample", True) else "none",
        ),
        clip=0,
    )
    return PolicyConfig.from_dict(json.loads(json.dumps(config.to_dict())), f"file {s.path}")


def _is_crop(crop: object) -> bool:
    # Height and width for all cameras, or none; it may also be one per camera there.
    return crop is None or (isinstance(crop, list) and len(crop) == 2 and all(type(size) is int for size in crop))


def _columns(settings: Settings, config: PolicyConfig, images: dict[str, tuple[int, int]], states: dict[str, int]) -> Tensor:
    """For every number of our frame, its place in theirs."""
    ours = {**dict.fromkeys(images, config.encoder.features), **states}
    theirs = settings.need("shape_meta.obs", dict) if _is_hybrid(settings) else ours
    places, begin = {}, 0
    for name in theirs:
        places[name], begin = torch.arange(begin, begin + ours[name]), begin + ours[name]
    return torch.cat([places[name] for name in ours])


def _weights(tensors: dict[str, Tensor], config: PolicyConfig, sources: dict[str, str], columns: Tensor, what: str) -> dict[str, Tensor]:
    keys = {"rgb": SHARED, **{name: key for key, name in sources.items()}}
    found: dict[str, Tensor] = {}
    of_all_frames = torch.cat([columns + k * config.frame_dim for k in range(config.observation_horizon)])
    for name, tensor in tensors.items():
        if name.startswith("model.") and isinstance(config.head, TransformerDenoiserConfig):
            found.update(transformer_tensor(name.removeprefix("model."), tensor.float(), columns, what))
        elif name.startswith("model."):
            found.update(unet_tensor(name.removeprefix("model."), tensor.float(), config, of_all_frames, what))
        elif name.startswith("obs_encoder.key_model_map.") and not name.endswith("num_batches_tracked"):
            key, _, rest = name.removeprefix("obs_encoder.key_model_map.").partition(".")
            found[f"encoders.{keys.get(key, key)}.backbone.{rest}"] = tensor.float()
        elif name.startswith("obs_encoder.obs_nets."):
            key, _, rest = name.removeprefix("obs_encoder.obs_nets.").partition(".")
            found.update(_hybrid_tensor(keys.get(key, key), rest, tensor, what))
    return found


_HYBRID = {"nets.0.nets.": "backbone.", "nets.1.nets.": "pool.nets.", "nets.3.": "out."}
"""Parts of robomimic's encoder, as LeRobot calls the same ones. It names most of them twice; the other names are left out."""


def _hybrid_tensor(key: str, name: str, tensor: Tensor, what: str) -> dict[str, Tensor]:
    if name == "nets.1.temperature" and not bool((tensor == 1.0).all()):
        raise UserError(f"{what}: its spatial softmax has a temperature of {float(tensor.flatten()[0]):g}, which is not supported: train with 1")
    part = next((part for part in _HYBRID if name.startswith(part)), None)
    return keypoint_encoder_tensor(key, _HYBRID[part] + name.removeprefix(part), tensor) if part else {}


def _set_normalisers(
    policy: dict[str, Tensor], tensors: dict[str, Tensor], config: PolicyConfig, sources: dict[str, str], states: dict[str, int], settings: Settings
) -> None:
    def affine(name: str, size: int) -> tuple[Tensor, Tensor]:
        """Offset and scale of (value - offset) / scale; there it is scale x value + offset."""
        parts = [tensors.get(f"normalizer.params_dict.{name}.{kind}") for kind in ("offset", "scale")]
        if any(part is None or part.numel() not in (1, size) or not bool(torch.isfinite(part).all()) for part in parts) or bool((parts[1] == 0).any()):  # type: ignore[union-attr]
            raise UserError(f"{settings.path}: its normaliser of {name} is missing or damaged: get a fresh copy of the checkpoint")
        offset, scale = (part.double().flatten().expand(size) for part in parts)  # type: ignore[union-attr]
        return -offset / scale, 1.0 / scale

    of_states = [affine(name, size) for name, size in states.items()]
    features = torch.zeros(config.feature_dim, dtype=torch.float64)
    policy["frame_mean"] = torch.cat([features, *(offset for offset, _ in of_states)]).float()
    policy["frame_deviation"] = torch.cat([features + 1.0, *(scale for _, scale in of_states)]).float()
    policy["action_mean"], policy["action_deviation"] = (part.float() for part in affine("action", config.action_dim))
    colours = {key: affine(name, 3) for key, name in sources.items()}
    if settings.flag("policy.obs_encoder.imagenet_norm", False):  # on top of the other
        mean, deviation = torch.tensor(IMAGENET_MEAN).double(), torch.tensor(IMAGENET_DEVIATION).double()
        colours = {key: (offset + scale * mean, scale * deviation) for key, (offset, scale) in colours.items()}
    set_colours(policy, config, colours, f"file {settings.path}")
