"""What a published diffusion policy computes, as plain functions of its tensors under their published names; and folders as LeRobot writes them."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


def make_settings(**changes):
    """config.json of a small policy, as LeRobot writes it today."""
    return {
        "type": "diffusion",
        "n_obs_steps": 2,
        "horizon": 8,
        "n_action_steps": 4,
        "input_features": {
            "observation.state": {"type": "STATE", "shape": [4]},
            "observation.images.front": {"type": "VISUAL", "shape": [3, 48, 48]},
            "observation.images.wrist": {"type": "VISUAL", "shape": [3, 48, 48]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [4]}},
        "normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
        "vision_backbone": "resnet18",
        "resize_shape": None,
        "crop_shape": [40, 44],
        "crop_is_random": True,
        "use_group_norm": True,
        "spatial_softmax_num_keypoints": 6,
        "use_separate_rgb_encoder_per_camera": True,
        "down_dims": [16, 32, 48],
        "kernel_size": 5,
        "n_groups": 8,
        "diffusion_step_embed_dim": 16,
        "use_film_scale_modulation": True,
        "noise_scheduler_type": "DDPM",
        "num_train_timesteps": 20,
        "beta_schedule": "squaredcos_cap_v2",
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "prediction_type": "epsilon",
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "num_inference_steps": None,
        **changes,
    }


def make_tensors(s):
    """Random weights under LeRobot's names."""
    torch.manual_seed(0)
    cameras = sum(feature["type"] == "VISUAL" for feature in s["input_features"].values())
    state, action = s["input_features"]["observation.state"]["shape"][0], s["output_features"]["action"]["shape"][0]
    keypoints, step = s["spatial_softmax_num_keypoints"], s["diffusion_step_embed_dim"]
    tensors = {}
    prefixes = [f"rgb_encoder.{k}." for k in range(cameras)] if s["use_separate_rgb_encoder_per_camera"] else ["rgb_encoder."]
    for prefix in prefixes:
        tensors.update({f"diffusion.{prefix}{name}": tensor for name, tensor in _encoder(s, keypoints).items()})
    condition = step + s["n_obs_steps"] * (state + 2 * keypoints * cameras)
    tensors.update({f"diffusion.unet.{name}": tensor for name, tensor in make_unet(s, action, condition).items()})
    return tensors


def _scaled(*shape):
    return torch.randn(*shape) / math.prod(shape[1:]) ** 0.5


def _norm(tensors, name, channels, group):
    tensors[f"{name}.weight"], tensors[f"{name}.bias"] = 1.0 + 0.1 * torch.randn(channels), 0.1 * torch.randn(channels)
    if not group:
        tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"] = 0.1 * torch.randn(channels), 0.5 + torch.rand(channels)
        tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)


def _encoder(s, keypoints):
    found, group = {"backbone.0.weight": _scaled(64, 3, 7, 7)}, s["use_group_norm"]
    _norm(found, "backbone.1", 64, group)
    before = 64
    for stage, (count, width) in enumerate(zip(BLOCKS[s["vision_backbone"]], (64, 128, 256, 512), strict=True)):
        for block in range(count):
            name, entering = f"backbone.{4 + stage}.{block}", before if block == 0 else width
            found[f"{name}.conv1.weight"], found[f"{name}.conv2.weight"] = _scaled(width, entering, 3, 3), _scaled(width, width, 3, 3)
            _norm(found, f"{name}.bn1", width, group)
            _norm(found, f"{name}.bn2", width, group)
            if block == 0 and stage:
                found[f"{name}.downsample.0.weight"] = _scaled(width, entering, 1, 1)
                _norm(found, f"{name}.downsample.1", width, group)
        before = width
    found["pool.nets.weight"], found["pool.nets.bias"] = 20.0 * _scaled(keypoints, 512, 1, 1), torch.randn(keypoints)
    found["pool.pos_grid"] = torch.zeros(4, 2)
    found["out.weight"], found["out.bias"] = _scaled(2 * keypoints, 2 * keypoints), torch.randn(2 * keypoints)
    return found


def make_unet(s, action, condition):
    """Random weights of the published U-Net, under its names."""
    widths, step, found = s["down_dims"], s["diffusion_step_embed_dim"], {}

    def linear(name, out, inputs):
        found[f"{name}.weight"], found[f"{name}.bias"] = _scaled(out, inputs), 0.1 * torch.randn(out)

    def convolution(name, out, inputs, kernel):
        found[f"{name}.weight"], found[f"{name}.bias"] = _scaled(out, inputs, kernel), 0.1 * torch.randn(out)

    def block(name, inputs, out):
        for k, entering in ((1, inputs), (2, out)):
            convolution(f"{name}.conv{k}.block.0", out, entering, s["kernel_size"])
            _norm(found, f"{name}.conv{k}.block.1", out, True)
        linear(f"{name}.cond_encoder.1", out * (2 if s["use_film_scale_modulation"] else 1), condition)
        if inputs != out:
            convolution(f"{name}.residual_conv", out, inputs, 1)

    linear("diffusion_step_encoder.1", 4 * step, step)
    linear("diffusion_step_encoder.3", step, 4 * step)
    for level, (inputs, out) in enumerate(zip([action, *widths[:-1]], widths, strict=True)):
        block(f"down_modules.{level}.0", inputs, out)
        block(f"down_modules.{level}.1", out, out)
        if level + 1 < len(widths):
            convolution(f"down_modules.{level}.2", out, out, 3)
    block("mid_modules.0", widths[-1], widths[-1])
    block("mid_modules.1", widths[-1], widths[-1])
    for place, level in enumerate(range(len(widths) - 1, 0, -1)):
        block(f"up_modules.{place}.0", 2 * widths[level], widths[level - 1])
        block(f"up_modules.{place}.1", widths[level - 1], widths[level - 1])
        convolution(f"up_modules.{place}.2", widths[level - 1], widths[level - 1], 4)
    convolution("final_conv.0.block.0", widths[0], widths[0], s["kernel_size"])
    _norm(found, "final_conv.0.block.1", widths[0], True)
    convolution("final_conv.1", action, widths[0], 1)
    return found


def make_statistics():
    """Of state, action and images."""
    torch.manual_seed(3)
    low, high = -torch.rand(4), 1.0 + torch.rand(4)
    images = {f"observation.images.{key}": {"mean": torch.rand(3, 1, 1), "std": 0.2 + torch.rand(3, 1, 1)} for key in ("front", "wrist")}
    return {"observation.state": {"min": low, "max": high}, "action": {"min": -0.5 * high, "max": 0.8 * high}, **images}


def write_folder(folder: Path, settings, tensors, statistics, layout="new"):
    """A policy folder; ``layout`` says where the statistics are."""
    folder.mkdir(parents=True)
    tensors = dict(tensors)
    if layout == "old":
        for name, kinds in statistics.items():
            parts = ["normalize_targets", "unnormalize_outputs"] if name == "action" else ["normalize_inputs"]
            tensors.update({f"{part}.buffer_{name.replace('.', '_')}.{kind}": tensor.clone() for part in parts for kind, tensor in kinds.items()})
    else:
        flat = {f"{name}.{kind}": tensor.clone() for name, kinds in statistics.items() for kind, tensor in kinds.items()}
        for place, (file, step) in enumerate((("policy_preprocessor", "normalizer_processor"), ("policy_postprocessor", "unnormalizer_processor"))):
            state = f"{file}_step_{3 - 3 * place}_{step}.safetensors"
            save_file(flat, folder / state)
            steps = [{"registry_name": "device_processor", "config": {}}, {"registry_name": step, "config": {"eps": 1e-8}, "state_file": state}]
            (folder / f"{file}.json").write_text(json.dumps({"name": file, "steps": steps}))
    (folder / "config.json").write_text(json.dumps(settings))
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def normalised(value, statistics, mode):
    """As LeRobot normalises."""
    if mode == "MEAN_STD":
        return (value - statistics["mean"]) / (statistics["std"] + 1e-8)
    return 2.0 * (value - statistics["min"]) / (statistics["max"] - statistics["min"]) - 1.0


def backbone(tensors, s, images):
    """(B, 3, H, W) normalised images -> (B, 512, h, w), by the tensors of one encoder."""
    height, width = s["crop_shape"]
    top, left = round((images.shape[2] - height) / 2), round((images.shape[3] - width) / 2)

    def norm(x, name):
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        if s["use_group_norm"]:
            return F.group_norm(x, x.shape[1] // 16, weight, bias)
        return F.batch_norm(x, tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"], weight, bias)

    x = F.conv2d(images[:, :, top : top + height, left : left + width], tensors["backbone.0.weight"], stride=2, padding=3)
    x = F.max_pool2d(norm(x, "backbone.1").relu(), 3, 2, 1)
    for stage, count in enumerate(BLOCKS[s["vision_backbone"]]):
        for block in range(count):
            name, stride = f"backbone.{4 + stage}.{block}", 2 if stage and block == 0 else 1
            y = norm(F.conv2d(x, tensors[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1").relu()
            y = norm(F.conv2d(y, tensors[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in tensors:
                x = norm(F.conv2d(x, tensors[f"{name}.downsample.0.weight"], stride=stride), f"{name}.downsample.1")
            x = (x + y).relu()
    return x


def encode(tensors, s, images):
    """(B, 3, H, W) normalised images -> (B, 2 keypoints), by the tensors of one encoder."""
    maps = F.conv2d(backbone(tensors, s, images), tensors["pool.nets.weight"], tensors["pool.nets.bias"])
    attention = maps.flatten(2).softmax(-1)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, maps.shape[2]), torch.linspace(-1, 1, maps.shape[3]), indexing="ij")
    points = attention @ torch.stack([columns.flatten(), rows.flatten()], dim=1)  # (B, K, 2): x, y of every keypoint
    return F.linear(points.flatten(1), tensors["out.weight"], tensors["out.bias"]).relu()


def predict_noise(tensors, s, noisy, steps, condition):
    """(B, T, A), (B,), (B, observation) -> (B, T, A), by the tensors of the U-Net."""
    half = s["diffusion_step_embed_dim"] // 2
    angles = steps[:, None] * torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
    t = torch.cat([angles.sin(), angles.cos()], dim=1)
    t = F.linear(t, tensors["diffusion_step_encoder.1.weight"], tensors["diffusion_step_encoder.1.bias"])
    t = F.linear(F.mish(t), tensors["diffusion_step_encoder.3.weight"], tensors["diffusion_step_encoder.3.bias"])
    known = F.mish(torch.cat([t, condition], dim=1))

    def convolved(x, name, groups):
        x = F.conv1d(x, tensors[f"{name}.0.weight"], tensors[f"{name}.0.bias"], padding=s["kernel_size"] // 2)
        return F.mish(F.group_norm(x, groups, tensors[f"{name}.1.weight"], tensors[f"{name}.1.bias"]))

    def block(x, name):
        y = convolved(x, f"{name}.conv1.block", s["n_groups"])
        film = F.linear(known, tensors[f"{name}.cond_encoder.1.weight"], tensors[f"{name}.cond_encoder.1.bias"])[:, :, None]
        channels = y.shape[1]
        y = film[:, :channels] * y + film[:, channels:] if s["use_film_scale_modulation"] else y + film
        y = convolved(y, f"{name}.conv2.block", s["n_groups"])
        if f"{name}.residual_conv.weight" in tensors:
            x = F.conv1d(x, tensors[f"{name}.residual_conv.weight"], tensors[f"{name}.residual_conv.bias"])
        return x + y

    x, kept, levels = noisy.transpose(1, 2), [], len(s["down_dims"])
    for level in range(levels):
        x = block(block(x, f"down_modules.{level}.0"), f"down_modules.{level}.1")
        kept.append(x)
        if level + 1 < levels:
            x = F.conv1d(x, tensors[f"down_modules.{level}.2.weight"], tensors[f"down_modules.{level}.2.bias"], stride=2, padding=1)
    x = block(block(x, "mid_modules.0"), "mid_modules.1")
    for place in range(levels - 1):
        x = torch.cat([x, kept.pop()], dim=1)
        x = block(block(x, f"up_modules.{place}.0"), f"up_modules.{place}.1")
        x = F.conv_transpose1d(x, tensors[f"up_modules.{place}.2.weight"], tensors[f"up_modules.{place}.2.bias"], stride=2, padding=1)
    x = convolved(x, "final_conv.0.block", 8)
    return F.conv1d(x, tensors["final_conv.1.weight"], tensors["final_conv.1.bias"]).transpose(1, 2)


@pytest.fixture
def published():
    """All of the above."""
    return SimpleNamespace(**globals())
