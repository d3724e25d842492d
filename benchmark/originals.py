"""Policies made and saved by LeRobot and by diffusion_policy themselves, opened here: how far apart is what both predict?

python benchmark/originals.py --lerobot --diffusion-policy CHECKOUT > benchmark/results/originals.md

It needs `pip install lerobot`, and a checkout of github.com/real-stanford/diffusion_policy with robomimic, hydra-core, dill, zarr and einops.

Weights are random, of the originals' own initialisation; all else is real: their classes, their way of saving, this package's `mechanic-rl import`. Compared are the noise that
the denoiser predicts, encoders and normalisers included, and a whole action chunk in the units of the data from the same noise. The largest difference
is given, and the largest number that was compared.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mechanic_rl_ros.importing.imported import Imported
from mechanic_rl_ros.importing.open import open_policy
from mechanic_rl_ros.policy.policy import Policy

SIZE, STATE, ACTION, HORIZON, STEP = 96, 7, 4, 16, 7
IMAGES = ("front", "wrist")
UNET = {"down_dims": [64, 128, 256], "diffusion_step_embed_dim": 128}
REAL_SIZE = {"down_dims": [512, 1024, 2048], "diffusion_step_embed_dim": 128}


class Case(NamedTuple):
    """One policy: what the original says and what it was asked."""

    name: str
    imported: Imported
    frames: dict[str, Tensor]
    state: Tensor
    noise: Tensor
    chunk: Tensor


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lerobot", action="store_true")
    parser.add_argument("--diffusion-policy", type=Path, metavar="CHECKOUT")
    options = parser.parse_args()
    print(
        "`python benchmark/originals.py --lerobot --diffusion-policy CHECKOUT`: policies that the originals made and saved, opened by `mechanic-rl import`.\n"
    )
    print("| original | noise: largest difference, of | chunk: largest difference, of |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        if options.lerobot:
            show(lerobot_cases(Path(folder)))
        if options.diffusion_policy:
            sys.path.insert(0, str(options.diffusion_policy))
            show(stanford_cases(Path(folder)))


def show(cases: Iterator[Case]) -> None:
    """Prints a row for every policy."""
    for case in cases:
        policy = Policy(case.imported.config).eval()
        policy.load_state_dict(case.imported.policy)
        features = policy.encode(case.frames)
        observation = policy.observe(torch.cat([features, case.state], dim=1)[None])
        noise = policy.head(noisy(), torch.tensor([STEP]), observation)
        chunk = policy.head.sample(observation, 1, generator()) * policy.action_deviation + policy.action_mean
        columns = [f"{float((ours - theirs).abs().max()):.1e}, {float(theirs.abs().max()):.2f}" for ours, theirs in ((noise, case.noise), (chunk, case.chunk))]
        print(f"| {case.name} | {' | '.join(columns)} |", flush=True)


def generator() -> torch.Generator:
    """What both draw the noise of a chunk from."""
    return torch.Generator().manual_seed(11)


def noisy() -> Tensor:
    """A noisy chunk."""
    return torch.randn(1, HORIZON, ACTION, generator=generator())


def observations(frames: int = 2) -> tuple[dict[str, Tensor], Tensor]:
    """Frames of both cameras, in [0, 255], and states."""
    g = torch.Generator().manual_seed(5)
    return {key: torch.randint(0, 256, (frames, 3, SIZE, SIZE), dtype=torch.uint8, generator=g) for key in IMAGES}, torch.rand(frames, STATE, generator=g)


def lerobot_cases(folder: Path) -> Iterator[Case]:
    """Policies of LeRobot."""
    import lerobot
    from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
    from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors

    visual, states, actions = FeatureType.VISUAL, FeatureType.STATE, FeatureType.ACTION
    features = {f"observation.images.{key}": PolicyFeature(visual, (3, SIZE, SIZE)) for key in IMAGES}
    spread = NormalizationMode.MEAN_STD
    crop = {"crop_shape": (84, 84)}
    variants: dict[str, dict[str, Any]] = {
        "default": {},
        "default size": REAL_SIZE,
        "ResNet-34, DDIM, an encoder per camera": {"vision_backbone": "resnet34", "noise_scheduler_type": "DDIM", "num_inference_steps": 10, "separate": True},
        "BatchNorm, no FiLM scale, sample prediction, linear": {
            "use_group_norm": False, "use_film_scale_modulation": False, "prediction_type": "sample", "beta_schedule": "linear",
        },
        "mean_std everywhere, no crop": {"crop_shape": None, "normalization_mapping": {"VISUAL": spread, "STATE": spread, "ACTION": spread}},
    }  # fmt: skip
    g = torch.Generator().manual_seed(3)
    statistics: dict[str, dict[str, Tensor]] = {
        name: {"mean": torch.rand(shape, generator=g), "std": 0.2 + torch.rand(shape, generator=g)} for name, shape in [(name, (3, 1, 1)) for name in features]
    }
    for name, size in (("observation.state", STATE), ("action", ACTION)):
        low, high = -torch.rand(size, generator=g), 1.0 + torch.rand(size, generator=g)
        statistics[name] = {"min": low, "max": high, "mean": (low + high) / 2.0, "std": high / 3.0}
    images, state = observations()
    for number, (name, own) in enumerate(variants.items()):
        own = {**crop, **UNET, **own}
        separate = own.pop("separate", False)
        config = DiffusionConfig(
            input_features={**features, "observation.state": PolicyFeature(states, (STATE,))},
            output_features={"action": PolicyFeature(actions, (ACTION,))},
            use_separate_rgb_encoder_per_camera=separate,
            pretrained_backbone_weights=None,
            device="cpu",
            **own,
        )
        told = dict(statistics)
        if not separate:  # ours keeps the normalisation of images with the encoder
            told["observation.images.wrist"] = told["observation.images.front"]
        torch.manual_seed(number)
        policy = DiffusionPolicy(config).eval()
        before, after = make_diffusion_pre_post_processors(config, told)
        place = folder / f"lerobot{number}"
        for part in (policy, before, after):
            part.save_pretrained(place)
        seen = [before({**{f"observation.images.{key}": images[key][k] / 255.0 for key in IMAGES}, "observation.state": state[k]}) for k in range(2)]
        batch = {key: torch.stack([frame[key] for frame in seen], dim=1) for key in (*features, "observation.state")}
        batch["observation.images"] = torch.stack([batch[key] for key in features], dim=-4)
        condition = policy.diffusion._prepare_global_conditioning(batch)
        noise = policy.diffusion.unet(noisy(), torch.tensor([STEP]), global_cond=condition)
        chunk = after(policy.diffusion.conditional_sample(1, condition, generator=generator()))
        yield Case(f"LeRobot {lerobot.__version__}, {name}", open_policy(place, {}), images, state, noise, chunk)


def stanford_cases(folder: Path) -> Iterator[Case]:
    """Checkpoints of diffusion_policy: its own configuration file, resolved by hydra, and its own way of writing a workspace."""
    import dill
    import hydra
    from diffusion_policy.model.common.normalizer import LinearNormalizer, SingleFieldLinearNormalizer
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("eval", eval, replace=True)
    shapes = {key: {"shape": [3, SIZE, SIZE], "type": "rgb"} for key in IMAGES} | {"tcp": {"shape": [STATE - 1]}, "finger": {"shape": [1]}}
    shapes = {name: shapes[name] for name in ("tcp", "wrist", "finger", "front")}
    configs = Path(sys.path[0]) / "diffusion_policy" / "config"
    image, hybrid, transformer = (f"train_diffusion_{kind}_workspace" for kind in ("unet_image", "unet_hybrid", "transformer_hybrid"))
    small = {f"policy.{name}": value for name, value in UNET.items()}
    variants: dict[str, dict[str, Any]] = {
        image: {},
        f"{image}, smaller": small,
        hybrid: {},
        f"{hybrid}, smaller, BatchNorm, sample prediction": {**small, "policy.obs_encoder_group_norm": False, "policy.noise_scheduler.prediction_type": "sample"},
        transformer: {"horizon": HORIZON},
        f"{transformer}, smaller, three frames": {"horizon": HORIZON, "n_obs_steps": 3, "policy.n_layer": 3, "policy.n_emb": 64},
        f"{image}, one ResNet-34 for all, BatchNorm, no ImageNet norm, no FiLM scale, DDIM": {
            **small,
            "policy.obs_encoder.rgb_model.name": "resnet34", "policy.obs_encoder.share_rgb_model": True, "policy.obs_encoder.use_group_norm": False,
            "policy.obs_encoder.imagenet_norm": False, "policy.cond_predict_scale": False, "policy.num_inference_steps": 10,
            "policy.noise_scheduler": {"_target_": "diffusers.schedulers.scheduling_ddim.DDIMScheduler", "num_train_timesteps": 100, "beta_schedule": "linear",
                                       "prediction_type": "sample", "clip_sample": True},
        },
    }  # fmt: skip
    for number, (name, own) in enumerate(variants.items()):
        images, state = observations(own.get("n_obs_steps", 2))
        cfg = OmegaConf.load(configs / f"{name.partition(',')[0]}.yaml")
        del cfg["defaults"]
        cfg.task = {"name": "test", "shape_meta": {"obs": shapes, "action": {"shape": [ACTION]}}}
        crop = "policy.crop_shape" if name.startswith((hybrid, transformer)) else "policy.obs_encoder.crop_shape"
        for key, value in {crop: [84, 84], **own}.items():
            OmegaConf.update(cfg, key, value, merge=False)
        torch.manual_seed(number)
        with contextlib.redirect_stdout(sys.stderr):  # robomimic tells much
            policy = hydra.utils.instantiate(cfg.policy).eval()
        normaliser = LinearNormalizer()
        data = {"tcp": torch.rand(50, STATE - 1), "finger": torch.rand(50, 1), "action": 3.0 * torch.randn(50, ACTION)}
        normaliser.fit(data)
        for key in IMAGES:
            normaliser[key] = SingleFieldLinearNormalizer.create_manual(
                scale=torch.tensor([2.0]), offset=torch.tensor([-1.0]),
                input_stats_dict={kind: torch.tensor([value]) for kind, value in (("min", 0.0), ("max", 1.0), ("mean", 0.5), ("std", 0.29))},
            )  # fmt: skip
        policy.set_normalizer(normaliser)
        place = folder / f"{number}.ckpt"
        payload = {"cfg": cfg, "state_dicts": {"model": policy.state_dict(), "ema_model": policy.state_dict()}, "pickles": {"epoch": dill.dumps(3)}}
        torch.save(payload, place, pickle_module=dill)
        frames = {**{key: images[key] / 255.0 for key in IMAGES}, "finger": state[:, :1], "tcp": state[:, 1:]}
        seen = policy.obs_encoder(policy.normalizer.normalize(frames))
        told = {"cond": seen[None]} if name.startswith(transformer) else {"global_cond": seen.reshape(1, -1)}
        noise = policy.model(noisy(), torch.tensor([STEP]), **told)
        empty = torch.zeros(1, HORIZON, ACTION)
        drawn = policy.conditional_sample(empty, empty.bool(), generator=generator(), **told)
        yield Case(f"diffusion_policy, {name}", open_policy(place, {}), images, state, noise, policy.normalizer["action"].unnormalize(drawn))


if __name__ == "__main__":
    main()
