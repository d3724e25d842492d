"""A checkpoint of diffusion_policy is opened without running its pickle, and predicts what it predicted there."""

import math
import pickle
import sys
import types
import zipfile

import pytest
import torch

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.importing.inert import Archive
from mechanic_rl_ros.importing.stanford import read_stanford
from mechanic_rl_ros.policy.policy import Policy


def make_settings(**changes):
    """The configuration of a small image policy, with references as its authors use them."""
    encoder = {
        "_target_": "diffusion_policy.model.vision.multi_image_obs_encoder.MultiImageObsEncoder",
        "rgb_model": {"_target_": "diffusion_policy.model.vision.model_getter.get_resnet", "name": "resnet18", "weights": None},
        "resize_shape": None,
        "crop_shape": [40, 44],
        "random_crop": True,
        "use_group_norm": True,
        "share_rgb_model": False,
        "imagenet_norm": True,
    }
    noise = {
        "_target_": "diffusers.schedulers.scheduling_ddim.DDIMScheduler",
        "num_train_timesteps": 20,
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "squaredcos_cap_v2",
        "clip_sample": True,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "prediction_type": "epsilon",
    }
    policy = {
        "_target_": "diffusion_policy.policy.diffusion_unet_image_policy.DiffusionUnetImagePolicy",
        "shape_meta": "${shape_meta}",
        "obs_encoder": {**encoder, **changes.pop("obs_encoder", {})},
        "noise_scheduler": {**noise, **changes.pop("noise_scheduler", {})},
        "horizon": "${horizon}",
        "num_inference_steps": 4,
        "obs_as_global_cond": "${obs_as_global_cond}",
        "diffusion_step_embed_dim": 16,
        "down_dims": [16, 32],
        "kernel_size": 5,
        "n_groups": 8,
        "cond_predict_scale": True,
        **changes.pop("policy", {}),
    }
    observations = {
        "wrist": {"shape": [3, 48, 48], "type": "rgb"},
        "front": {"shape": [3, 48, 48], "type": "rgb"},
        "tcp": {"shape": [3], "type": "low_dim"},
        "finger": {"shape": [1]},
    }
    return {
        "horizon": 8,
        "n_obs_steps": 2,
        "n_action_steps": 4,
        "obs_as_global_cond": True,
        "shape_meta": {"obs": observations, "action": {"shape": [4]}},
        "policy": policy,
        **changes,
    }


@pytest.fixture
def foreign(monkeypatch):
    """A module with the classes that such files name. It is gone when they are read."""
    module = types.ModuleType("omegaconf_of_theirs")
    for name in ("DictConfig", "ListConfig", "AnyNode"):
        setattr(module, name, type(name, (), {"__module__": module.__name__}))

    def node(value):
        kind = module.DictConfig if isinstance(value, dict) else module.ListConfig if isinstance(value, list) else module.AnyNode
        made = kind()
        if isinstance(value, dict):
            made.__dict__["_content"] = {key: node(item) for key, item in value.items()}
        elif isinstance(value, list):
            made.__dict__["_content"] = [node(item) for item in value]
        else:
            made.__dict__["_val"] = value
        made.__dict__["_metadata"] = {"key_type": "any"}
        return made

    class Configuration:
        def write(self, path, settings, tensors):
            sys.modules[module.__name__] = module
            try:
                torch.save({"cfg": node(settings), "state_dicts": {"model": {}, "ema_model": tensors}, "pickles": {"epoch": b"x"}}, path)
            finally:
                del sys.modules[module.__name__]
            return path

    return Configuration()


def make_tensors(published, settings):
    """Random weights and normalisers under the names that diffusion_policy gives them."""
    policy = settings["policy"]
    s = {"down_dims": policy["down_dims"], "diffusion_step_embed_dim": 16, "kernel_size": 5, "use_film_scale_modulation": policy["cond_predict_scale"]}
    encoder = {"vision_backbone": "resnet18", "use_group_norm": policy["obs_encoder"]["use_group_norm"]}
    torch.manual_seed(0)
    tensors = {}
    for name, tensor in published.make_unet(s, 4, 16 + 2 * (4 + 2 * 512)).items():
        there = name.replace(".conv1.block.", ".blocks.0.block.").replace(".conv2.block.", ".blocks.1.block.")
        parts = there.split(".")
        if parts[0] in ("down_modules", "up_modules") and parts[2] == "2":
            there = ".".join([*parts[:3], "conv", *parts[3:]])
        tensors[f"model.{there}"] = tensor
    for key in ["rgb"] if policy["obs_encoder"]["share_rgb_model"] else ["front", "wrist"]:
        for name, tensor in published._encoder(encoder, 2).items():
            if name.startswith("backbone."):
                _, stage, rest = name.split(".", 2)
                stages = {"0": "conv1", "1": "bn1", **{str(4 + k): f"layer{1 + k}" for k in range(4)}}
                tensors[f"obs_encoder.key_model_map.{key}.{stages[stage]}.{rest}"] = tensor
    for name, size in (("front", 1), ("wrist", 1), ("tcp", 3), ("finger", 1), ("action", 4)):
        image = name in ("front", "wrist")
        tensors[f"normalizer.params_dict.{name}.scale"] = torch.full((1,), 2.0) if image else 0.5 + torch.rand(size)
        tensors[f"normalizer.params_dict.{name}.offset"] = torch.full((1,), -1.0) if image else torch.randn(size)
    tensors["_dummy_variable"] = torch.zeros(0)
    return tensors


def encode(published, tensors, settings, key, images):
    """Features (B, 512) of one camera by its tensors."""
    own, encoder = {}, settings["policy"]["obs_encoder"]
    prefix = f"obs_encoder.key_model_map.{'rgb' if encoder['share_rgb_model'] else key}."
    names = {"conv1": "0", "bn1": "1", **{f"layer{1 + k}": str(4 + k) for k in range(4)}}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            stage, _, rest = name.removeprefix(prefix).partition(".")
            own[f"backbone.{names[stage]}.{rest}"] = tensor
    seen = images / 255.0 * 2.0 - 1.0
    if encoder["imagenet_norm"]:
        seen = (seen - torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    s = {"crop_shape": encoder["crop_shape"], "use_group_norm": encoder["use_group_norm"], "vision_backbone": "resnet18"}
    return published.backbone(own, s, seen).mean(dim=(2, 3))


@pytest.mark.parametrize(
    "changes",
    [{}, {"obs_encoder": {"share_rgb_model": True, "use_group_norm": False, "imagenet_norm": False}, "policy": {"cond_predict_scale": False}}],
)
def test_an_imported_policy_predicts_the_noise_of_the_original(published, foreign, tmp_path, changes):
    settings = make_settings(**changes)
    tensors = make_tensors(published, settings)
    imported = read_stanford(foreign.write(tmp_path / "latest.ckpt", settings, tensors))
    policy = Policy(imported.config).eval()
    policy.load_state_dict(imported.policy)
    images = {key: torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8) for key in ("front", "wrist")}
    finger, tcp, noisy, step = torch.rand(2, 1), torch.rand(2, 3), torch.randn(1, 8, 4), torch.tensor([7])
    parts = [encode(published, tensors, settings, key, images[key]) for key in ("front", "wrist")]
    for name, value in (("finger", finger), ("tcp", tcp)):
        parts.append(value * tensors[f"normalizer.params_dict.{name}.scale"] + tensors[f"normalizer.params_dict.{name}.offset"])
    unet = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    unet = {name.replace(".blocks.0.", ".conv1.").replace(".blocks.1.", ".conv2.").replace(".2.conv.", ".2."): tensor for name, tensor in unet.items()}
    s = {"diffusion_step_embed_dim": 16, "kernel_size": 5, "n_groups": 8, "down_dims": [16, 32]}
    s["use_film_scale_modulation"] = settings["policy"]["cond_predict_scale"]
    with torch.no_grad():
        frames = torch.cat([policy.encode(images), finger, tcp], dim=1)
        ours = policy.head(noisy, step, policy.observe(frames[None]))
        theirs = published.predict_noise(unet, s, noisy, step, torch.cat(parts, dim=1).flatten()[None])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert float(ours.std()) > 0.05
    scale, offset = tensors["normalizer.params_dict.action.scale"], tensors["normalizer.params_dict.action.offset"]
    torch.testing.assert_close(imported.policy["action_mean"] * scale + offset, torch.zeros(4), atol=1e-6, rtol=0)
    assert (imported.config.past_actions, imported.config.schedule.visited) == (1, [15, 10, 5, 0])


class PublishedTransformer(torch.nn.Module):
    """The time-series diffusion transformer with its published names: an action sees earlier ones, and the frames up to its own time."""

    def __init__(self, frame, frames, horizon=8, action=4, width=16):
        super().__init__()
        self.input_emb, self.pos_emb = torch.nn.Linear(action, width), torch.nn.Parameter(torch.randn(1, horizon, width))
        self.cond_obs_emb, self.cond_pos_emb = torch.nn.Linear(frame, width), torch.nn.Parameter(torch.randn(1, 1 + frames, width))
        self.encoder = torch.nn.Sequential(torch.nn.Linear(width, 4 * width), torch.nn.Mish(), torch.nn.Linear(4 * width, width))
        layer = torch.nn.TransformerDecoderLayer(width, 2, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.decoder, self.ln_f, self.head = torch.nn.TransformerDecoder(layer, 2), torch.nn.LayerNorm(width), torch.nn.Linear(width, action)
        later = torch.full((horizon, horizon), float("-inf"))
        self.register_buffer("mask", later.triu(1))
        self.register_buffer("memory_mask", torch.full((horizon, 1 + frames), float("-inf")).triu(2))

    def forward(self, noisy, step, frames):
        half = self.input_emb.out_features // 2
        angles = step[:, None] * torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
        tokens = torch.cat([torch.cat([angles.sin(), angles.cos()], dim=1)[:, None], self.cond_obs_emb(frames)], dim=1)
        memory = self.encoder(tokens + self.cond_pos_emb)
        return self.head(self.ln_f(self.decoder(self.input_emb(noisy) + self.pos_emb, memory, self.mask, self.memory_mask)))


def make_hybrid():
    """Configuration of the policy with encoders of robomimic; its observations are not in alphabetical order, and mixed."""
    settings = make_settings()
    policy = settings["policy"]
    del policy["obs_encoder"]
    policy["_target_"] = "diffusion_policy.policy.diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy"
    policy |= {"crop_shape": [40, 44], "obs_encoder_group_norm": True, "eval_fixed_crop": True}
    observations = settings["shape_meta"]["obs"]
    settings["shape_meta"]["obs"] = {name: observations[name] for name in ("wrist", "tcp", "front", "finger")}
    return settings


def make_hybrid_tensors(published, settings):
    """Its weights; robomimic keeps most parts of an encoder under two names."""
    image = make_settings()
    tensors = {name: tensor for name, tensor in make_tensors(published, image).items() if not name.startswith(("model.", "obs_encoder."))}
    s = {"down_dims": [16, 32], "diffusion_step_embed_dim": 16, "kernel_size": 5, "use_film_scale_modulation": True}
    tensors |= {f"model.{name}": tensor for name, tensor in published.make_unet(s, 4, 16 + 2 * (4 + 2 * 64)).items()}
    theirs = {"backbone.": "nets.0.nets.", "pool.nets.": "nets.1.nets.", "out.": "nets.3."}
    own = {}
    for key in ("front", "wrist"):
        own[key] = published._encoder({"vision_backbone": "resnet18", "use_group_norm": True}, 32)
        for name, tensor in own[key].items():
            for part in (part for part in theirs if name.startswith(part)):
                tensors[f"obs_encoder.obs_nets.{key}.{theirs[part]}{name.removeprefix(part)}"] = tensor
                if part == "backbone.":
                    tensors[f"obs_encoder.obs_nets.{key}.backbone.nets.{name.removeprefix(part)}"] = tensor
        tensors[f"obs_encoder.obs_nets.{key}.nets.1.temperature"] = torch.ones(1)
        tensors[f"obs_encoder.obs_nets.{key}.nets.1.pos_x"] = torch.zeros(1, 4)
    return tensors, own


def with_transformer(settings, tensors):
    """The same with a transformer, and that."""
    policy = settings["policy"]
    policy["_target_"] = "diffusion_policy.policy.diffusion_transformer_hybrid_image_policy.DiffusionTransformerHybridImagePolicy"
    policy |= {"n_layer": 2, "n_head": 2, "n_emb": 16, "n_cond_layers": 0, "causal_attn": True, "time_as_cond": True, "obs_as_cond": True}
    network = PublishedTransformer(4 + 2 * 64, settings["n_obs_steps"])
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("model.")}
    return {**tensors, **{f"model.{name}": tensor.detach() for name, tensor in network.state_dict().items()}}, network


@pytest.mark.parametrize("head", ["unet", "transformer"])
def test_a_policy_with_encoders_of_robomimic_predicts_the_noise_of_the_original(published, foreign, tmp_path, head):
    settings = make_hybrid()
    tensors, encoders = make_hybrid_tensors(published, settings)
    if head == "transformer":
        tensors, network = with_transformer(settings, tensors)
    imported = read_stanford(foreign.write(tmp_path / "latest.ckpt", settings, tensors))
    policy = Policy(imported.config).eval()
    policy.load_state_dict(imported.policy)
    images = {key: torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8) for key in ("front", "wrist")}
    values, noisy, step = {"finger": torch.rand(2, 1), "tcp": torch.rand(2, 3)}, torch.randn(1, 8, 4), torch.tensor([7])
    s = {"crop_shape": [40, 44], "use_group_norm": True, "vision_backbone": "resnet18"}
    parts = []
    for name in settings["shape_meta"]["obs"]:
        if name in images:
            parts.append(published.encode(encoders[name], s, images[name] / 255.0 * 2.0 - 1.0))
        else:
            parts.append(values[name] * tensors[f"normalizer.params_dict.{name}.scale"] + tensors[f"normalizer.params_dict.{name}.offset"])
    s = {"diffusion_step_embed_dim": 16, "kernel_size": 5, "n_groups": 8, "down_dims": [16, 32], "use_film_scale_modulation": True}
    unet = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    with torch.no_grad():
        frames = torch.cat([policy.encode(images), values["finger"], values["tcp"]], dim=1)
        ours = policy.head(noisy, step, policy.observe(frames[None]))
        seen = torch.cat(parts, dim=1)
        theirs = network(noisy, step, seen[None]) if head == "transformer" else published.predict_noise(unet, s, noisy, step, seen.flatten()[None])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert float(ours.std()) > 0.05


@pytest.mark.parametrize("change", [{"n_cond_layers": 4}, {"causal_attn": False}, {"pred_action_steps_only": True}, {"time_as_cond": False}])
def test_a_transformer_of_another_kind_is_named(published, foreign, tmp_path, change):
    settings = make_hybrid()
    tensors, _ = with_transformer(settings, make_hybrid_tensors(published, settings)[0])
    settings["policy"] |= change
    with pytest.raises(UserError, match=rf"policy\.{next(iter(change))} .* is not supported"):
        read_stanford(foreign.write(tmp_path / "latest.ckpt", settings, tensors))


def test_a_transformer_for_other_frames_is_named(published, foreign, tmp_path):
    settings = make_hybrid()
    tensors, _ = with_transformer(settings, make_hybrid_tensors(published, settings)[0])
    tensors["model.cond_obs_emb.weight"] = tensors["model.cond_obs_emb.weight"][:, 1:]
    with pytest.raises(UserError, match="132 columns are expected"):
        read_stanford(foreign.write(tmp_path / "latest.ckpt", settings, tensors))


def test_a_spatial_softmax_of_another_temperature_is_named(published, foreign, tmp_path):
    settings = make_hybrid()
    tensors, _ = make_hybrid_tensors(published, settings)
    tensors["obs_encoder.obs_nets.wrist.nets.1.temperature"] = torch.full((1,), 0.5)
    with pytest.raises(UserError, match=r"temperature of 0\.5, which is not supported"):
        read_stanford(foreign.write(tmp_path / "latest.ckpt", settings, tensors))


def test_what_the_policy_itself_says_of_horizons_counts(published, foreign, tmp_path):
    """As where ``policy.n_action_steps`` was given on the command line; its authors write a sum."""
    settings = make_settings(policy={"n_obs_steps": "${n_obs_steps}", "n_action_steps": 3})
    tensors = make_tensors(published, settings)
    assert read_stanford(foreign.write(tmp_path / "own.ckpt", settings, tensors)).config.action_horizon == 3
    settings["policy"]["n_action_steps"] = "${eval:'${n_action_steps}+${n_latency_steps}'}"
    settings["n_latency_steps"] = 2
    assert read_stanford(foreign.write(tmp_path / "sum.ckpt", settings, tensors)).config.action_horizon == 6
    for name in ("horizon", "n_action_steps"):
        settings = make_settings(policy={name: "${eval:'2*${horizon}'}"})
        with pytest.raises(UserError, match=f"no valid policy.{name}"):
            read_stanford(foreign.write(tmp_path / "unknown.ckpt", settings, tensors))


def test_images_that_are_of_the_size_already_need_no_resizing(published, foreign, tmp_path):
    settings = make_settings(obs_encoder={"resize_shape": [48, 48]})
    assert read_stanford(foreign.write(tmp_path / "latest.ckpt", settings, make_tensors(published, settings))).image_sizes["wrist"] == (48, 48)


def test_nothing_in_the_file_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "trap.ckpt"
    torch.save({"cfg": Trap(), "state_dicts": {"model": {"model.x": torch.ones(2)}}}, path)
    archive = Archive(path)
    assert not (tmp_path / "sprung").exists()
    torch.testing.assert_close(archive.tensors(archive.content["state_dicts"]["model"])["model.x"], torch.ones(2))
    with pytest.raises(UserError, match="shape_meta"):
        read_stanford(path)


def tampered(path, old, new):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    assert old in entries[name]
    entries[name] = entries[name].replace(old, new)
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    return path


@pytest.mark.parametrize(("old", "new"), [(b"K\x04\x85", b"K\x40\x85"), (b"K\x04tq", b"K\x40tq")])  # a size of 64; a storage of 64
def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path, old, new):
    path = tmp_path / "bad.ckpt"
    torch.save({"x": torch.ones(4)}, path)
    archive = Archive(tampered(path, old, new))
    with pytest.raises(UserError, match="beyond its storage"):
        archive.tensors(archive.content)


def test_many_views_of_one_large_storage_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mechanic_rl_ros.importing.inert.MAX_BYTES", 3 * 4000)
    storage = torch.zeros(1000)
    torch.save({f"x{number}": storage[number : number + 1] for number in range(4)}, tmp_path / "views.ckpt")
    archive = Archive(tmp_path / "views.ckpt")
    assert len(archive.tensors(dict(list(archive.content.items())[:3]))) == 3
    with pytest.raises(UserError, match="beyond its storage"):
        archive.tensors(archive.content)


def test_what_is_no_tensor_is_not_taken_for_one(tmp_path):
    path = tmp_path / "state.ckpt"
    torch.save({"x": torch.ones(4), "y": torch._utils._rebuild_tensor_v2}, path)
    archive = Archive(path)
    assert list(archive.tensors(archive.content)) == ["x"]  # a function is no tensor
    assert not archive.tensors(archive.content)["x"].requires_grad


def test_a_small_file_that_asks_for_much_memory_is_refused(tmp_path):
    path = tmp_path / "greedy.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}r" + (2**24).to_bytes(4, "little") + b".")
    with pytest.raises(UserError, match="more objects than it can hold"):
        Archive(path)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (b"}N" + b"\x85" * 200_000 + b"Ns", "nests more than 100 tuples"),  # the hash of such a key ends the process
        (b"}N" + b"N\x86" * 200_000 + b"Ns", "nests more than 100 tuples"),
        (b"}N" + b"".join(b"\x85\x940h" + bytes([number]) for number in range(150)) + b"Ns", "nests more than 100 tuples"),
        (b"})" + b"2\x86" * 60 + b"Ns", "a tuple of more than 1000000 parts"),
        (b"".join(b"ca%d\nb\n" % number for number in range(2000)), "is damaged"),
        (b"\x8f" * 1_000_001, "more than 1000000 operations"),
    ],
    ids=["tuples in tuples", "pairs in pairs", "tuples that were set aside", "one tuple over and over", "a class each", "sets"],
)
def test_a_small_file_that_would_end_the_reader_is_refused(tmp_path, program, words):
    path = tmp_path / "hostile.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x04" + program + b".")
    with pytest.raises(UserError, match=words):
        Archive(path)


def test_a_class_that_is_named_often_is_made_once(tmp_path):
    path = tmp_path / "often.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x04]" + b"ca\nb\na" * 5000 + b".")
    assert len(set(map(id, Archive(path).content))) == 1


def test_a_configuration_without_end_is_refused(tmp_path):
    shared: list = [1]
    for _ in range(20):
        shared = [shared] * 12
    path = tmp_path / "deep.ckpt"
    torch.save({"cfg": {"a": shared}, "state_dicts": {"model": {"x": torch.ones(1)}}}, path)
    with pytest.raises(UserError, match="without end"):
        read_stanford(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy": {"_target_": "diffusion_policy.policy.diffusion_transformer_lowdim_policy.X"}}, "_target_ .* not supported"),
        ({"obs_encoder": {"resize_shape": [32, 32]}}, "resize_shape"),
        ({"obs_encoder": {"crop_shape": {"front": [40, 44], "wrist": [40, 44]}}}, "crop_shape .* not supported"),
        ({"obs_encoder": {"crop_shape": [40]}}, "crop_shape .* not supported"),
        ({"obs_encoder": {"use_group_norm": "x"}}, "use_group_norm is 'x', neither true nor false"),
        ({"hybrid": True, "policy": {"crop_shape": [40]}}, r"policy.crop_shape \[40\] is not supported"),
        ({"noise_scheduler": {"clip_sample": 3.5}}, "clip_sample is 3.5, neither true nor false"),
        ({"noise_scheduler": {"beta_schedule": "sigmoid"}}, "beta_schedule 'sigmoid'"),
        ({"noise_scheduler": {"clip_sample_range": 2.0}}, "clip_sample_range 2.0 is not supported"),
        ({"noise_scheduler": {"thresholding": True}}, "thresholding"),
        ({"noise_scheduler": {"timestep_spacing": "trailing"}}, "timestep_spacing 'trailing'"),
        ({"noise_scheduler": {"set_alpha_to_one": False}}, "set_alpha_to_one"),
        ({"policy": {"kernel_size": None}}, "kernel_size"),
        ({"n_obs_steps": "${nowhere}"}, "n_obs_steps"),
        ({"n_obs_steps": "${n_obs_steps}"}, "n_obs_steps"),
        ({"shape_meta": {"obs": None, "action": {"shape": [4]}}}, "shape_meta.obs"),
        ({"shape_meta": {"obs": {"finger": {"shape": [-3]}}, "action": {"shape": [4]}}}, "finger has no valid shape"),
        ({"shape_meta": {"obs": {"front": {"shape": [], "type": "rgb"}}, "action": {"shape": [4]}}}, "front has no valid shape"),
        ({"shape_meta": {"obs": {"front": {"shape": [3, 48, 48], "type": "rgb"}}, "action": {"shape": [4]}}}, "low-dimensional"),
    ],
)
def test_what_cannot_be_imported_is_named_in_one_line(published, foreign, tmp_path, changes, words):
    settings = make_settings(**changes)
    if changes.get("hybrid"):
        settings["policy"]["_target_"] = make_hybrid()["policy"]["_target_"]
    path = foreign.write(tmp_path / "latest.ckpt", settings, make_tensors(published, make_settings()))
    with pytest.raises(UserError, match=words) as refusal:
        read_stanford(path)
    assert "\n" not in str(refusal.value)


def test_a_reference_to_a_mapping_is_followed(published, foreign, tmp_path):
    settings = make_settings()
    usual = read_stanford(foreign.write(tmp_path / "usual.ckpt", settings, make_tensors(published, settings)))
    told = {**settings, "shape_meta": "${task.shape_meta}", "task": {"shape_meta": settings["shape_meta"]}}
    assert read_stanford(foreign.write(tmp_path / "told.ckpt", told, make_tensors(published, settings))).config == usual.config


def test_cameras_that_share_an_encoder_must_be_normalised_alike(published, foreign, tmp_path):
    settings = make_settings(obs_encoder={"share_rgb_model": True})
    tensors = make_tensors(published, settings)
    tensors["normalizer.params_dict.wrist.scale"] = torch.full((1,), 3.0)
    with pytest.raises(UserError, match="normalised differently"):
        read_stanford(foreign.write(tmp_path / "latest.ckpt", settings, tensors))


def test_a_missing_normaliser_is_named(published, foreign, tmp_path):
    settings = make_settings()
    tensors = make_tensors(published, settings)
    del tensors["normalizer.params_dict.tcp.scale"]
    with pytest.raises(UserError, match="normaliser of tcp"):
        read_stanford(foreign.write(tmp_path / "latest.ckpt", settings, tensors))


def test_an_entry_that_ends_too_early_is_damage(tmp_path):
    path, shortened = tmp_path / "latest.ckpt", tmp_path / "short.ckpt"
    torch.save({"cfg": make_settings(), "state_dicts": {"ema_model": {"model.x": torch.ones(1000)}}}, path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(shortened, "w") as short:
        entries = {name: archive.read(name) for name in archive.namelist()}
        last = next(name for name in entries if "/data/" in name)
        for name in [*(name for name in entries if name != last), last]:
            short.writestr(name, entries[name] if name != last else bytes(16))
    data = bytearray(shortened.read_bytes())
    sizes = data.rfind(b"PK\x01\x02") + 20  # in the directory at the end, of the last entry
    data[sizes : sizes + 8] = 2 * (4000).to_bytes(4, "little")
    shortened.write_bytes(data)
    with pytest.raises(UserError, match=r"is damaged \((EOFError: EOFError|BadZipFile: Overlapped entries.*)\)"):  # newer versions of Python look for it
        read_stanford(shortened)


@pytest.mark.parametrize("content", [b"", b"PK nonsense", pickle.dumps({"old": 1})])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "latest.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"torch\.save"):
        read_stanford(path)
