"""Opens a LeRobot ``DiffusionPolicy``: a folder with config.json, model.safetensors and, in newer ones, the statistics in processor files.

The imported network computes what the original does; three things are laid out differently. Spatial-softmax coordinates are all x, then all y, not
in pairs. A frame is features, then state, not the other way round. The modulation of every block is one linear map of the diffusion step and
another of the observation, not one of both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.importing.imported import Imported, camera_keys, keypoint_encoder_tensor, set_colours, unet_tensor
from mechanic_rl_ros.policy.checkpoint import policy_shapes
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.part_config import ResnetEncoderConfig, UnetDenoiserConfig
from mechanic_rl_ros.policy.parts import SHARED
from mechanic_rl_ros.policy.schedule import BETA_END, BETA_START, NoiseSchedule
from mechanic_rl_ros.policy.tensors import check_tensors, read_file

EPSILON = 1e-8  # that LeRobot adds to deviations
LEAST_SCALE = 1e-6  # of an action that never changed, which it hardly changes then either
STATE, ACTION = "observation.state", "action"


def read_lerobot(folder: Path, cameras: dict[str, str] | None = None) -> Imported:
    """Reads a policy folder of LeRobot, old layout (statistics beside the weights) or new (in processor files).

    Args:
        folder: With config.json and model.safetensors.
        cameras: Camera key for every image that the policy takes, by its name there; by default the last part of that name.

    Raises:
        UserError: A file is missing or damaged, the policy is of another kind, or has a part that is not supported.
    """
    settings = _json(folder / "config.json")
    if settings.get("type", "diffusion") != "diffusion":
        raise UserError(f"{folder} holds a policy of type {settings['type']!r}: only diffusion policies can be imported")
    shapes, modes = _features(settings, folder)
    images = [name for name, shape in shapes.items() if len(shape) == 3]
    sources = camera_keys(images, cameras or {}, f"policy {folder}")
    config = _config(settings, shapes, tuple(sources), folder)
    tensors = read_file(folder / "model.safetensors")
    statistics = _old_statistics(tensors, shapes)
    if not statistics:
        statistics, own_modes = _new_statistics(settings, folder)
        modes |= own_modes
    sizes = {name: 3 if len(shape) == 3 else shape[0] for name, shape in shapes.items()}
    normaliser = {name: _affine(statistics.get(name, {}), modes[name], name, sizes[name], folder) for name in shapes}
    policy = _weights(tensors, config, f"policy {folder}")
    _set_normalisers(policy, config, normaliser, sources, folder)
    check_tensors(policy, policy_shapes(config), f"policy {folder}")
    return Imported(config, policy, sources, {key: (shapes[name][1], shapes[name][2]) for key, name in sources.items()})


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): give the folder of a LeRobot policy") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: get a fresh copy of the policy") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} is not a JSON object: get a fresh copy of the policy")
    return data


def _features(settings: dict[str, Any], folder: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shape and normalisation mode of every input and of the action."""
    try:
        if "input_features" in settings:
            found = {**settings["input_features"], **settings["output_features"]}
            shapes = {name: _whole_numbers("shape", feature["shape"]) for name, feature in found.items()}
            modes = {name: settings["normalization_mapping"].get(feature["type"], "IDENTITY") for name, feature in found.items()}
        else:  # before 2025
            found = {**settings["input_shapes"], **settings["output_shapes"]}
            shapes = {name: _whole_numbers("shape", shape) for name, shape in found.items()}
            modes = {**settings["input_normalization_modes"], **settings["output_normalization_modes"]}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{folder / 'config.json'} does not describe inputs and outputs ({error}): get a fresh copy of the policy") from error
    for name in (STATE, ACTION):
        if len(shapes.get(name, ())) != 1:
            raise UserError(f"{folder}: the policy has no {name}: only policies with state and action can be imported")
    for name, shape in shapes.items():
        if name not in (STATE, ACTION) and (len(shape) != 3 or shape[0] != 3):
            raise UserError(f"{folder}: the policy also takes {name}, which no node provides: only images and {STATE} can be imported")
    if not any(len(shape) == 3 for shape in shapes.values()):
        raise UserError(f"{folder}: the policy takes no image: only visuomotor policies can be imported")
    for name in shapes:
        if not isinstance(modes.get(name, "IDENTITY"), str):
            raise UserError(f"{folder / 'config.json'}: the normalisation of {name} is {modes[name]!r}, not the name of one: get a fresh copy of the policy")
    return shapes, {name: modes.get(name, "IDENTITY").lower() for name in shapes}


def _config(s: dict[str, Any], shapes: dict[str, tuple[int, ...]], cameras: tuple[str, ...], folder: Path) -> PolicyConfig:
    refused = {
        "resize_shape": any(s.get("resize_shape") not in (None, list(shape[1:])) for shape in shapes.values() if len(shape) == 3),
        "vision_backbone": s.get("vision_backbone") not in ("resnet18", "resnet34"),
        "beta_start": s.get("beta_start", BETA_START) != BETA_START,
        "beta_end": s.get("beta_end", BETA_END) != BETA_END,
        "clip_sample_range": s.get("clip_sample", True) and s.get("clip_sample_range", 1.0) != 1.0,
        "beta_schedule": s.get("beta_schedule") not in ("squaredcos_cap_v2", "linear"),
        "noise_scheduler_type": s.get("noise_scheduler_type") not in ("DDPM", "DDIM"),
        "prediction_type": s.get("prediction_type") not in ("epsilon", "sample"),
    }
    for name in (name for name, bad in refused.items() if bad):
        raise UserError(f"{folder}: {name} {s.get(name)!r} is not supported: train the policy with another one")
    try:
        steps = _whole(s, "num_train_timesteps")
        config = PolicyConfig(
            cameras=cameras,
            state_dim=shapes[STATE][0],
            action_dim=shapes[ACTION][0],
            observation_horizon=_whole(s, "n_obs_steps"),
            prediction_horizon=_whole(s, "horizon"),
            action_horizon=_whole(s, "n_action_steps"),
            past_actions=_whole(s, "n_obs_steps") - 1,
            encoder=ResnetEncoderConfig(
                layers=int(s["vision_backbone"].removeprefix("resnet")),
                keypoints=_whole(s, "spatial_softmax_num_keypoints"),
                group=16 if _flag(s, "use_group_norm", True) else 0,
                crop=_crop(s),
                shared=not _flag(s, "use_separate_rgb_encoder_per_camera", False),
            ),
            head=UnetDenoiserConfig(
                widths=_whole_numbers("down_dims", s["down_dims"]),
                kernel=_whole(s, "kernel_size"),
                groups=_whole(s, "n_groups"),
                step_width=_whole(s, "diffusion_step_embed_dim"),
                scales=_flag(s, "use_film_scale_modulation"),
            ),
            schedule=NoiseSchedule(
                curve="linear" if s["beta_schedule"] == "linear" else "squared_cosine",
                steps=steps,
                sampling_steps=steps if s.get("num_inference_steps") is None else _whole(s, "num_inference_steps"),
                prediction=s["prediction_type"],
                sampler=s["noise_scheduler_type"].lower(),
                spacing="leading",
                clipping="plain" if _flag(s, "clip_sample", True) else "none",
            ),
            clip=0,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{folder / 'config.json'} has a wrong or missing value ({error}): get a fresh copy of the policy") from error
    return PolicyConfig.from_dict(json.loads(json.dumps(config.to_dict())), f"policy {folder}")


def _whole(settings: dict[str, Any], name: str) -> int:
    return _whole_numbers(name, [settings[name]])[0]


def _whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or any(type(value) is not int for value in values):
        raise TypeError(f"{name} is {values[0] if isinstance(values, list) and len(values) == 1 else values}, not whole")
    return tuple(values)


def _crop(settings: dict[str, Any]) -> tuple[int, int]:
    if not settings.get("crop_shape"):
        return 0, 0
    height, width = _whole_numbers("crop_shape", settings["crop_shape"])
    return height, width


def _flag(settings: dict[str, Any], name: str, default: bool | None = None) -> bool:
    value = settings[name] if default is None else settings.get(name, default)
    if type(value) is not bool:
        raise TypeError(f"{name} is {value!r}, neither true nor false")
    return value


def _old_statistics(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> dict[str, dict[str, Tensor]]:
    prefixes = {name: ("unnormalize_outputs" if name == ACTION else "normalize_inputs") + ".buffer_" + name.replace(".", "_") + "." for name in shapes}
    found = {name: {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)} for name, prefix in prefixes.items()}
    return found if any(found.values()) else {}


def _new_statistics(settings: dict[str, Any], folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """Statistics by feature and kind, and the modes of normalisation: those of the processors count, whatever config.json says."""
    found: dict[str, dict[str, Tensor]] = {}
    modes: dict[str, str] = {}
    for processor, step_name, features in (
        ("policy_preprocessor.json", "normalizer_processor", "input_features"),
        ("policy_postprocessor.json", "unnormalizer_processor", "output_features"),
    ):
        if not (folder / processor).exists():
            raise UserError(
                f"{folder} has no statistics, neither in model.safetensors nor in {processor}: get the whole folder, or migrate the policy with LeRobot"
            )
        steps = _json(folder / processor).get("steps")
        steps = steps if isinstance(steps, list) else []
        step = next((step for step in steps if isinstance(step, dict) and step.get("registry_name") == step_name), {})
        file = step.get("state_file")
        if not isinstance(file, str) or Path(file).name != file:
            raise UserError(f"{folder / processor} names no statistics: get a fresh copy of the policy")
        for key, tensor in read_file(folder / file).items():
            name, _, kind = key.rpartition(".")
            found.setdefault(name, {})[kind] = tensor
        modes |= _modes(step.get("config", {}), settings.get(features, {}), folder / processor)
    return found, modes


def _modes(own: Any, features: dict[str, Any], file: Path) -> dict[str, str]:
    """How a processor normalises the features of its side, as far as it says so itself."""
    chosen = own.get("norm_map", {}) if isinstance(own, dict) else None
    if not isinstance(chosen, dict):
        raise UserError(f"{file} does not say how it normalises: get a fresh copy of the policy")
    if own.get("eps", EPSILON) != EPSILON or own.get("normalize_observation_keys") is not None:
        raise UserError(f"{file}: normalize_observation_keys and an eps other than {EPSILON:g} are not supported: train the policy without them")
    return {name: str(chosen[feature["type"]]).lower() for name, feature in features.items() if feature["type"] in chosen}


def _affine(statistics: dict[str, Tensor], mode: str, name: str, size: int, folder: Path) -> tuple[Tensor, Tensor]:
    """Offset and scale (size,) of a normaliser: normalised = (value - offset) / scale."""
    if mode == "identity":
        return torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    wanted = {"mean_std": ("mean", "std"), "min_max": ("min", "max"), "quantiles": ("q01", "q99"), "quantile10": ("q10", "q90")}.get(mode)
    if wanted is None:
        raise UserError(f"{folder}: {name} is normalised by {mode!r}, which is not supported: train the policy with mean_std or min_max")
    found = [statistics.get(key) for key in wanted]
    if any(part is None or part.numel() != size or not bool(torch.isfinite(part).all()) for part in found):
        raise UserError(f"{folder}: statistics {wanted[0]} and {wanted[1]} of {name} are missing, of another length, or not finite: get the whole folder")
    first, second = (part.double().flatten() for part in found)  # type: ignore[union-attr]
    if bool((second < (0.0 if mode == "mean_std" else first)).any()):
        below = "0" if mode == "mean_std" else wanted[0]
        raise UserError(f"{folder}: {wanted[1]} of {name} is below {below}: its statistics are damaged, get a fresh copy of the policy")
    # With LeRobot's 1e-8 as the scale of what never changed, single precision could not tell that it is 0, or -1, there.
    least = LEAST_SCALE * first.abs().clamp_min(1.0)
    if mode == "mean_std":
        return first, torch.maximum(second + EPSILON, least) if name == ACTION else second + EPSILON
    span = second - first
    span = torch.where(span == 0.0, 2.0 * least if name == ACTION else torch.full_like(span, 2.0), span)
    return first + span / 2.0, span / 2.0


def _set_normalisers(
    policy: dict[str, Tensor], config: PolicyConfig, normaliser: dict[str, tuple[Tensor, Tensor]], sources: dict[str, str], folder: Path
) -> None:
    features = torch.zeros(config.feature_dim, dtype=torch.float64)
    offset, scale = normaliser[STATE]
    policy["frame_mean"], policy["frame_deviation"] = torch.cat([features, offset]).float(), torch.cat([features + 1.0, scale]).float()
    policy["action_mean"], policy["action_deviation"] = (part.float() for part in normaliser[ACTION])
    set_colours(policy, config, {key: normaliser[name] for key, name in sources.items()}, f"policy {folder}")


def _weights(tensors: dict[str, Tensor], config: PolicyConfig, what: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = name.replace("._orig_mod", "")  # of a compiled network
        if name.startswith("diffusion.unet."):
            found.update(unet_tensor(name.removeprefix("diffusion.unet."), tensor.float(), config, _columns(config), what))
        elif name.startswith("diffusion.rgb_encoder."):
            found.update(_encoder_tensor(name.removeprefix("diffusion.rgb_encoder."), tensor, config))
        elif not name.startswith(("normalize_", "unnormalize_")):
            raise UserError(f"{what}: tensor {name} is unknown: it is of another version of LeRobot, or no diffusion policy")
    return found


def _columns(config: PolicyConfig) -> Tensor:
    """For every number of our observation, its place in theirs: of each frame the state comes first there, and last here."""
    frame = torch.cat([torch.arange(config.state_dim, config.frame_dim), torch.arange(config.state_dim)])
    return torch.cat([frame + k * config.frame_dim for k in range(config.observation_horizon)])


def _encoder_tensor(name: str, tensor: Tensor, config: PolicyConfig) -> dict[str, Tensor]:
    key = SHARED
    if not config.encoder.shared:  # type: ignore[union-attr]
        index, _, name = name.partition(".")
        key = config.cameras[int(index)] if index.isdigit() and int(index) < len(config.cameras) else f"camera {index}"
    return keypoint_encoder_tensor(key, name, tensor)
