"""A LeRobot policy that is opened here predicts what it predicted there."""

import json

import pytest
import torch

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.importing.lerobot import read_lerobot
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.policy import Policy

IMAGES = ("observation.images.front", "observation.images.wrist")


def part(tensors, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def observed(published, settings, tensors, statistics, images, states):
    """What the original's U-Net is conditioned on: (1, observation) from two frames."""
    modes, frames = (
        settings["normalization_mapping"],
        [published.normalised(states, statistics["observation.state"], settings["normalization_mapping"]["STATE"])],
    )
    for place, name in enumerate(IMAGES):
        prefix = f"diffusion.rgb_encoder.{place}." if settings["use_separate_rgb_encoder_per_camera"] else "diffusion.rgb_encoder."
        seen = published.normalised(images[name] / 255.0, statistics[name], modes["VISUAL"])
        frames.append(published.encode(part(tensors, prefix), settings, seen))
    return torch.cat(frames, dim=1).flatten()[None]


@pytest.mark.parametrize("layout", ["old", "new"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vision_backbone": "resnet34", "use_group_norm": False, "use_film_scale_modulation": False},
        {"use_separate_rgb_encoder_per_camera": False, "n_groups": 4, "kernel_size": 3, "down_dims": [16, 24]},
    ],
)
def test_an_imported_policy_predicts_the_noise_of_the_original(published, tmp_path, layout, changes):
    settings, statistics = published.make_settings(**changes), published.make_statistics()
    if not settings["use_separate_rgb_encoder_per_camera"]:
        statistics[IMAGES[1]] = statistics[IMAGES[0]]
    tensors = published.make_tensors(settings)
    imported = read_lerobot(published.write_folder(tmp_path / "policy", settings, tensors, statistics, layout))
    policy = Policy(imported.config).eval()
    policy.load_state_dict(imported.policy)

    torch.manual_seed(5)
    images = {name: torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8) for name in IMAGES}
    states, noisy = torch.rand(2, 4), torch.randn(1, 8, 4)
    with torch.no_grad():
        frames = torch.cat([policy.encode({name.rsplit(".", 1)[-1]: images[name] for name in IMAGES}), states], dim=1)
        ours = policy.head(noisy, torch.tensor([7]), policy.observe(frames[None]))
        theirs = published.predict_noise(
            part(tensors, "diffusion.unet."), settings, noisy, torch.tensor([7]), observed(published, settings, tensors, statistics, images, states)
        )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert float(ours.std()) > 0.05


def test_actions_leave_in_the_units_of_the_training_data(published, tmp_path):
    statistics = published.make_statistics()
    settings = published.make_settings()
    imported = read_lerobot(published.write_folder(tmp_path / "policy", settings, published.make_tensors(settings), statistics))
    low, high = statistics["action"]["min"], statistics["action"]["max"]
    mean, deviation = imported.policy["action_mean"], imported.policy["action_deviation"]
    torch.testing.assert_close(mean - deviation, low, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(mean + deviation, high, atol=1e-6, rtol=1e-6)


def test_images_that_are_of_the_size_already_need_no_resizing(published, tmp_path):
    settings = published.make_settings(resize_shape=[48, 48])
    folder = published.write_folder(tmp_path / "policy", settings, published.make_tensors(settings), published.make_statistics())
    assert read_lerobot(folder).image_sizes["front"] == (48, 48)


def test_horizons_schedule_and_cameras_are_those_of_the_original(published, tmp_path):
    settings = published.make_settings(num_inference_steps=5, noise_scheduler_type="DDIM")
    folder = published.write_folder(tmp_path / "policy", settings, published.make_tensors(settings), published.make_statistics())
    imported = read_lerobot(folder, {"observation.images.front": "overview"})
    config = imported.config
    assert (config.observation_horizon, config.prediction_horizon, config.action_horizon, config.past_actions) == (2, 8, 4, 1)
    assert (config.schedule.sampler, config.schedule.steps, config.schedule.visited) == ("ddim", 20, [16, 12, 8, 4, 0])
    assert imported.sources == {"overview": "observation.images.front", "wrist": "observation.images.wrist"}
    assert imported.image_sizes == {"overview": (48, 48), "wrist": (48, 48)}
    assert PolicyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_layout_of_2024_is_understood(published, tmp_path):
    settings, statistics = published.make_settings(), published.make_statistics()
    tensors = published.make_tensors(settings)
    inputs = settings.pop("input_features")
    settings["input_shapes"] = {name: feature["shape"] for name, feature in inputs.items()}
    settings["output_shapes"] = {"action": settings.pop("output_features")["action"]["shape"]}
    settings["input_normalization_modes"] = {name: "min_max" if name == "observation.state" else "mean_std" for name in inputs}
    settings["output_normalization_modes"] = {"action": "min_max"}
    for name in ("type", "normalization_mapping"):
        del settings[name]
    imported = read_lerobot(published.write_folder(tmp_path / "policy", settings, tensors, statistics, "old"))
    torch.testing.assert_close(imported.policy["encoders.wrist.mean"], statistics["observation.images.wrist"]["mean"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "act"}, "type 'act'"),
        ({"resize_shape": [32, 32]}, r"resize_shape \[32, 32\] is not supported"),
        ({"vision_backbone": "resnet50"}, "vision_backbone 'resnet50' is not supported"),
        ({"beta_end": 0.5}, "beta_end 0.5 is not supported"),
        ({"down_dims": []}, "head|down_dims"),
        ({"down_dims": [16, 32]}, "tensor .* (unknown|shape|missing)"),
        ({"horizon": 2}, "more actions are executed"),
        ({"n_obs_steps": "two"}, "n_obs_steps is two, not whole"),
        ({"n_action_steps": 4.9}, "n_action_steps is 4.9, not whole"),
        ({"horizon": 1e999}, "horizon is inf, not whole"),
        ({"use_group_norm": "no"}, "use_group_norm is 'no', neither true nor false"),
        ({"num_inference_steps": 0}, "sampling_steps"),
        ({"crop_shape": [40]}, "wrong or missing value"),
        ({"output_features": {}}, "no action"),
        ({"normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "SOFTMAX", "ACTION": "MIN_MAX"}}, "softmax"),
        ({"normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": None, "ACTION": "MIN_MAX"}}, "normalisation of observation.state is None"),
        (
            {"normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "QUANTILES", "ACTION": "MIN_MAX"}},
            "statistics q01 and q99 of observation.state are missing",
        ),
    ],
)
def test_what_cannot_be_imported_is_named_in_one_line(published, tmp_path, changes, words):
    settings = published.make_settings()
    folder = published.write_folder(tmp_path / "policy", {**settings, **changes}, published.make_tensors(settings), published.make_statistics())
    with pytest.raises(UserError, match=words) as refusal:
        read_lerobot(folder)
    assert "\n" not in str(refusal.value)


def test_a_number_that_never_changed_in_training_is_minus_one(published, tmp_path):
    settings, statistics = published.make_settings(), published.make_statistics()
    statistics["observation.state"]["max"][2] = statistics["observation.state"]["min"][2]
    imported = read_lerobot(published.write_folder(tmp_path / "policy", settings, published.make_tensors(settings), statistics))
    mean, deviation = imported.policy["frame_mean"][-4:], imported.policy["frame_deviation"][-4:]
    seen = statistics["observation.state"]["min"]
    torch.testing.assert_close((seen - mean) / deviation, -torch.ones(4), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("mode", "there"), [("MIN_MAX", -1.0), ("MEAN_STD", 0.0)])
@pytest.mark.parametrize("value", [0.0, 0.3, -40.0])
def test_an_action_that_never_changed_in_training_is_what_it_was_there(published, tmp_path, mode, there, value):
    settings, statistics = published.make_settings(), published.make_statistics()
    settings["normalization_mapping"] = {**settings["normalization_mapping"], "ACTION": mode}
    statistics["action"] |= {"mean": torch.zeros(4), "std": torch.ones(4)}
    for kind, of in statistics["action"].items():
        of[2] = 0.0 if kind == "std" else value
    imported = read_lerobot(published.write_folder(tmp_path / "policy", settings, published.make_tensors(settings), statistics))
    mean, deviation = imported.policy["action_mean"][2], imported.policy["action_deviation"][2]
    assert float((torch.tensor(value) - mean) / deviation) == pytest.approx(there, abs=0.1), "as the network was taught"
    assert [float(answer * deviation + mean) for answer in (-1.0, 0.0, 1.0)] == pytest.approx([value] * 3, rel=3e-6, abs=3e-6)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda s, t, k: k["observation.state"].update(min=torch.zeros(3)), "min and max of observation.state"),
        (lambda s, t, k: k["observation.state"].update(min=3.0 + torch.zeros(4)), "max of observation.state is below min"),
        (lambda s, t, k: k["observation.images.front"].update(std=-torch.ones(3, 1, 1)), "std of observation.images.front is below 0"),
        (lambda s, t, k: k["observation.images.front"].update(mean=torch.zeros(4, 1, 1)), "mean and std of observation.images.front"),
        (lambda s, t, k: t.update({"diffusion.rgb_encoder.0.out.weight": torch.zeros(12)}), "leave.weight"),
        (lambda s, t, k: t.update({"diffusion.rgb_encoder.0.backbone.0": torch.zeros(1)}), "unknown"),
        (lambda s, t, k: t.update({"language.weight": torch.zeros(1)}), "language.weight is unknown"),
        (lambda s, t, k: t.update({"diffusion.unet.mid_modules.0.cond_encoder.1.weight": torch.zeros(96, 5)}), "do not belong together"),
    ],
)
def test_damaged_tensors_and_statistics_are_named_in_one_line(published, tmp_path, damage, words):
    settings, statistics = published.make_settings(), published.make_statistics()
    tensors = published.make_tensors(settings)
    damage(settings, tensors, statistics)
    folder = published.write_folder(tmp_path / "policy", settings, tensors, statistics)
    with pytest.raises(UserError, match=words) as refusal:
        read_lerobot(folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("key", ["a.b", "keys", "all", "Front"])
def test_a_key_that_no_camera_can_have_is_refused(published, tmp_path, key):
    settings = published.make_settings()
    folder = published.write_folder(tmp_path / "policy", settings, published.make_tensors(settings), published.make_statistics())
    with pytest.raises(UserError, match="cannot be the key of a camera"):
        read_lerobot(folder, {"observation.images.front": key})


def rewrite_processors(folder, change):
    for file in folder.glob("policy_*processor.json"):
        data = json.loads(file.read_text())
        change(data["steps"][1]["config"])
        file.write_text(json.dumps(data))


def test_how_the_processors_normalise_counts_whatever_the_configuration_says(published, tmp_path):
    settings = published.make_settings()
    tensors, statistics = published.make_tensors(settings), published.make_statistics()
    statistics["action"].update(mean=torch.full((4,), 0.25), std=torch.full((4,), 0.5))
    folder = published.write_folder(tmp_path / "policy", settings, tensors, statistics)
    rewrite_processors(folder, lambda config: config.update(norm_map={"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MEAN_STD"}))
    imported = read_lerobot(folder)
    assert imported.policy["action_mean"].tolist() == [0.25] * 4
    assert imported.policy["action_deviation"] == pytest.approx(torch.full((4,), 0.5))


@pytest.mark.parametrize("change", [{"eps": 1e-3}, {"normalize_observation_keys": ["observation.state"]}])
def test_processors_that_normalise_in_another_way_are_refused(published, tmp_path, change):
    settings = published.make_settings()
    folder = published.write_folder(tmp_path / "policy", settings, published.make_tensors(settings), published.make_statistics())
    rewrite_processors(folder, lambda config: config.update(change))
    with pytest.raises(UserError, match="are not supported"):
        read_lerobot(folder)


@pytest.mark.parametrize("name", ["config.json", "policy_preprocessor.json"])
def test_a_file_that_is_nested_without_end_is_refused(published, tmp_path, name):
    settings = published.make_settings()
    folder = published.write_folder(tmp_path / "policy", settings, published.make_tensors(settings), published.make_statistics())
    (folder / name).write_text("[" * 100_000)
    with pytest.raises(UserError, match="not valid JSON"):
        read_lerobot(folder)


def test_a_folder_with_missing_or_damaged_files_is_refused(published, tmp_path):
    settings = published.make_settings()
    folder = published.write_folder(tmp_path / "policy", settings, published.make_tensors(settings), published.make_statistics())
    (folder / "policy_preprocessor.json").unlink()
    with pytest.raises(UserError, match="no statistics"):
        read_lerobot(folder)
    (folder / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(UserError, match="damaged"):
        read_lerobot(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        read_lerobot(folder)
    with pytest.raises(UserError, match="No such file"):
        read_lerobot(tmp_path / "nothing")


def test_an_unknown_input_is_refused(published, tmp_path):
    settings = published.make_settings()
    settings["input_features"]["observation.environment_state"] = {"type": "ENV", "shape": [7]}
    folder = published.write_folder(tmp_path / "policy", settings, published.make_tensors(published.make_settings()), published.make_statistics())
    with pytest.raises(UserError, match=r"observation\.environment_state, which no node provides"):
        read_lerobot(folder)
