"""Denoisers and encoders of every kind: shapes, conditions computed once, causality, training, checkpoints."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import config_directory
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig, signature
from mechanic_rl_ros.policy.description import read_architecture
from mechanic_rl_ros.policy.part_config import MlpDenoiserConfig, ResnetEncoderConfig, TransformerDenoiserConfig, UnetDenoiserConfig
from mechanic_rl_ros.policy.parts import build_head
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.resnet import ResnetEncoder
from mechanic_rl_ros.policy.schedule import NoiseSchedule
from mechanic_rl_ros.tuner import RelativeMechanic

KINDS = {
    "mlp": MlpDenoiserConfig(width=32, depth=2, condition=16),
    "unet": UnetDenoiserConfig(widths=(16, 24), groups=4, step_width=16),
    "unet that only shifts": UnetDenoiserConfig(widths=(8, 16, 24), groups=8, step_width=16, scales=False),
    "transformer": TransformerDenoiserConfig(layers=2, heads=2, width=24),
}
SMALL = PolicyConfig(cameras=("front",), state_dim=3, action_dim=2)


@pytest.fixture(params=KINDS)
def config(request) -> PolicyConfig:
    return dataclasses.replace(SMALL, head=KINDS[request.param])


def test_every_denoiser_keeps_the_shape_of_a_chunk_and_uses_all_that_it_is_told(config):
    denoiser = build_head(config)
    chunks, steps, observation = torch.randn(5, 8, 2), torch.randint(50, (5,)), torch.randn(5, config.observation_dim)
    noise = denoiser(chunks, steps, observation)
    assert noise.shape == chunks.shape
    assert not torch.allclose(noise, denoiser(chunks, (steps + 7) % 50, observation))
    assert not torch.allclose(noise, denoiser(chunks, steps, observation + 1.0))
    assert not torch.allclose(noise, denoiser(chunks + 1.0, steps, observation))


def test_what_is_told_can_be_computed_for_all_steps_at_once(config):
    denoiser, visited = build_head(config).eval(), torch.tensor([40, 20, 0])
    chunks, observation = torch.randn(6, 8, 2), torch.randn(1, config.observation_dim)
    told = denoiser.condition(visited, observation)
    for place, step in enumerate(visited):
        once = denoiser.denoise(chunks, [part[place : place + 1] for part in told])
        torch.testing.assert_close(once, denoiser(chunks, torch.full((6,), int(step)), observation.expand(6, -1)), atol=1e-5, rtol=1e-4)


def test_every_denoiser_learns(config):
    torch.manual_seed(0)
    policy, generator = Policy(config), torch.Generator().manual_seed(0)
    observation = torch.randn(64, config.observation_dim)
    actions = torch.tanh(observation[:, :1, None] * torch.linspace(-1, 1, 8)[None, :, None]).expand(-1, -1, 2)
    tuner, losses = RelativeMechanic(policy.head.parameters()), []
    for _ in range(150):
        loss = policy.loss(observation, actions, generator).mean()
        tuner.zero_grad()
        loss.backward()
        tuner.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])


@pytest.mark.parametrize("past", [0, 1])
def test_the_transformer_is_causal(past):
    config = dataclasses.replace(SMALL, past_actions=past, head=KINDS["transformer"])
    denoiser = build_head(config).eval()
    chunks, step, frames = torch.randn(1, 8, 2), torch.tensor([9]), torch.randn(1, 2, config.frame_dim)
    before = denoiser(chunks, step, frames.flatten(1))
    later = chunks.clone()
    later[:, 5:] += 1.0
    torch.testing.assert_close(denoiser(later, step, frames.flatten(1))[:, :5], before[:, :5])
    assert not torch.allclose(denoiser(later, step, frames.flatten(1))[:, 5:], before[:, 5:])
    newer = frames.clone()
    newer[:, 1] += 1.0  # the newest frame: actions before it must not know it
    changed = (denoiser(chunks, step, newer.flatten(1)) - before).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.tolist() == [False] * past + [True] * (8 - past)


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_the_loss_is_zero_for_a_network_that_knows(prediction, monkeypatch):
    config = dataclasses.replace(SMALL, schedule=NoiseSchedule(prediction=prediction))
    policy, actions = Policy(config), torch.rand(4, 8, 2)
    policy.action_mean.fill_(0.2)
    policy.action_deviation.fill_(0.5)
    clean = (actions - 0.2) / 0.5

    def knows(noisy, steps, observation):
        alpha = config.schedule.alphas[steps].reshape(-1, 1, 1)
        return clean if prediction == "sample" else (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()

    monkeypatch.setattr(policy.head, "forward", knows)
    loss = policy.loss(torch.randn(4, config.observation_dim), actions, torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, torch.zeros(4), atol=1e-8, rtol=0)


def test_sampled_actions_leave_in_the_units_of_the_data_and_within_bounds(monkeypatch):
    policy = Policy(SMALL)
    policy.action_mean.copy_(torch.tensor([0.5, 0.0]))
    policy.action_deviation.copy_(torch.tensor([0.2, 4.0]))
    monkeypatch.setattr(policy.head, "denoise", lambda noisy, told: -1e3 * torch.ones_like(noisy))  # the clean sample is clipped to 1
    chunk = policy.sample(torch.randn(1, SMALL.observation_dim), 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(chunk, torch.tensor([0.7, 1.0]).expand(3, 8, 2))


@pytest.mark.parametrize("layers", [18, 34])
@pytest.mark.parametrize("group", [16, 0])
def test_resnet_encoders_give_features_that_do_not_depend_on_the_batch(layers, group):
    encoder = ResnetEncoder(ResnetEncoderConfig(layers, keypoints=4, group=group)).eval()
    images = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8)
    features = encoder(images)
    assert features.shape == (3, 8)
    torch.testing.assert_close(features[1:2], encoder(images[1:2]), atol=1e-5, rtol=1e-4)


def test_a_crop_is_in_the_centre_in_acting_and_anywhere_in_training():
    encoder = ResnetEncoder(ResnetEncoderConfig(keypoints=4, crop=(40, 40)))
    images = torch.randint(0, 256, (1, 3, 48, 48), dtype=torch.uint8)
    beside = images.clone()
    beside[..., :4, :] = 0  # outside the centre crop
    encoder.eval()
    torch.testing.assert_close(encoder(images), encoder(beside))
    encoder.train()
    torch.manual_seed(0)
    assert len({tuple(encoder(images).flatten().tolist()) for _ in range(8)}) > 1
    with pytest.raises(UserError, match="smaller than the crop"):
        encoder(images[..., :20, :])


def test_pretrained_weights_come_from_a_local_file(tmp_path):
    donor, encoder = ResnetEncoder(ResnetEncoderConfig(group=0)), ResnetEncoder(ResnetEncoderConfig(group=0))
    weights = {name: tensor + 0.01 for name, tensor in donor.backbone.state_dict().items()}
    save_file({**weights, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, tmp_path / "resnet18.safetensors")
    encoder.load_pretrained(tmp_path / "resnet18.safetensors")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in encoder.backbone.state_dict().items())
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="missing"):
        encoder.load_pretrained(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="No such file"):
        encoder.load_pretrained(tmp_path / "nothing.safetensors")
    larger = ResnetEncoder(ResnetEncoderConfig(layers=34, group=0)).backbone.state_dict()
    save_file(larger, tmp_path / "resnet34.safetensors")
    with pytest.raises(UserError, match=r"tensor layer1\.2.* is unknown: it was made for another architecture"):
        encoder.load_pretrained(tmp_path / "resnet34.safetensors")
    grouped = ResnetEncoder(ResnetEncoderConfig())  # does without the statistics of the file
    grouped.load_pretrained(tmp_path / "resnet18.safetensors")
    assert torch.equal(grouped.backbone.state_dict()["conv1.weight"], weights["conv1.weight"])


@pytest.mark.parametrize("shared", [False, True])
def test_a_policy_of_other_parts_survives_a_checkpoint_and_acts_alike(checkpoint, observe, shared, tmp_path):
    torch.manual_seed(0)
    config = dataclasses.replace(
        checkpoint.config,
        past_actions=1,
        encoder=ResnetEncoderConfig(keypoints=4, crop=(40, 40), shared=shared),
        head=KINDS["unet"],
        schedule=NoiseSchedule("linear", 20, 4, "sample", "ddpm", "leading", "plain"),
        clip=0,
    )
    other = dataclasses.replace(checkpoint, config=config, policy=Policy(config).state_dict(), critics=None, demonstrations=None)
    other.save(tmp_path / "policy")
    again = Checkpoint.load(tmp_path / "policy")
    assert again.config == config
    chunks = []
    for each in (other, again):
        actor = Actor(each)
        actor.observe(observe(0))
        actor.observe(observe(1))
        chunks.append(actor.act())
    assert chunks[0].shape == (7, 4)
    assert (chunks[0] == chunks[1]).all()


def test_two_architectures_with_the_same_tensors_and_another_meaning_have_different_signatures():
    assert signature(SMALL) != signature(dataclasses.replace(SMALL, schedule=NoiseSchedule(prediction="sample")))
    assert signature(SMALL) != signature(dataclasses.replace(SMALL, clip=0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": {"kind": "diffuser"}}, "head is of unknown kind: use mlp, unet, transformer"),
        ({"head": {"kind": "mlp", "width": 32}}, "missing or unknown fields"),
        ({"head": {"kind": "mlp", "width": 32, "depth": 0, "condition": 4}}, "depth is 0"),
        ({"head": {"kind": "unet", "widths": [], "kernel": 5, "groups": 8, "step_width": 8, "scales": True}}, "widths"),
        ({"schedule": {**dataclasses.asdict(NoiseSchedule()), "curve": "cubic"}}, "curve 'cubic' is unknown"),
        ({"schedule": {**dataclasses.asdict(NoiseSchedule()), "sampling_steps": 51}}, "more sampling steps"),
        ({"past_actions": 2}, "more actions are executed"),
        ({"action_horizon": 9}, "more actions are executed"),
        ({"cameras": [3]}, "cameras must be names"),
        ({"clip": True}, "clip is True"),
    ],
)
def test_a_description_that_cannot_be_is_refused_with_the_reason(changes, words):
    data = {**json.loads(json.dumps(SMALL.to_dict())), **changes}
    with pytest.raises(UserError, match=words):
        PolicyConfig.from_dict(data)


@pytest.mark.parametrize("name", ["unet", "transformer", "gaussian", "deterministic", "implicit"])
def test_shipped_descriptions_can_be_read_and_built(checkpoint, name):
    config = read_architecture(config_directory() / "policy" / f"{name}.yaml", checkpoint.embodiment)
    assert config.head.kind == name
    assert (config.state_dim, config.cameras) == (checkpoint.config.state_dim, checkpoint.config.cameras)
    with torch.device("meta"):
        Policy(config)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("head: [", "not valid YAML"),
        ("width: 3", "width is not known: use observation_horizon"),
        ("cameras: [top]", "cameras is not known"),
        ("7", "7 is not known"),
        ("head: {kind: unet, widths: [16, 32, 64, 128, 256]}", "8 actions cannot be halved 4 times"),
        ("head: {kind: unet, widths: [12, 20]}", "multiples of its groups"),
        ("head: {kind: transformer, width: 10, heads: 4}", "multiple of its heads"),
        ("encoder: {kind: resnet, layers: 50}", "18 and 34 layers"),
        ("encoder: {kind: resnet, group: 3}", "divide 64 channels"),
        ("encoder: {kind: resnet, crop: 44}", "crop is 44"),
        ("encoder: {kind: resnet, crop: [44]}", "crop is"),
        ("encoder: {kind: resnet, crop: [0, 44]}", "height and width, or neither"),
        ("encoder: {kind: resnet, crop: [96, 96]}", "larger than the 48x48 images"),
        ("head: {kind: unet, widths: 256}", "widths is 256"),
        ("head: {kind: unet, scales: 3}", "scales is 3"),
        ("head: {kind: unet, widths: [12, 24], groups: 4}", "of 8, the first"),
        ("head: {kind: mlp, width: [224]}", "width is"),
        ("head: {kind: transformer, width: 2, heads: 1}", "multiple of its heads"),
        ("prediction_horizon: {a: 1}", "prediction_horizon is"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused_with_the_reason(checkpoint, tmp_path, text, words):
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_architecture(path, checkpoint.embodiment)
    with pytest.raises(UserError, match="No such file"):
        read_architecture(tmp_path / "nothing.yaml", checkpoint.embodiment)
