"""Acting: frames encoded once, reproducible noise, best-of-N, weights swapped only when everything is right."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy import linear, unet
from mechanic_rl_ros.policy.acting import Actor, acting_tensors
from mechanic_rl_ros.policy.checkpoint import pack_weights, unpack_weights
from mechanic_rl_ros.policy.part_config import GaussianConfig, UnetDenoiserConfig
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.schedule import NoiseSchedule
from mechanic_rl_ros.policy.weights import WeightsError


def message(actor: Actor, version: int = 9, **changes) -> bytes:
    metadata = {"signature": actor.signature, "encoder": actor.fingerprint, "prefers_best_of_n": True, **changes.pop("metadata", {})}
    tensors = {name: tensor.clone() for name, tensor in acting_tensors(actor.policy, actor.critic).items()}
    tensors.update(changes)
    return pack_weights(version, tensors, metadata)


def receive(actor: Actor, data: bytes) -> None:
    version, tensors, metadata = unpack_weights(data, actor.signature)
    actor.load(tensors, version, metadata)


def test_a_chunk_has_the_shape_and_range_of_actions(checkpoint, observe):
    actor = Actor(checkpoint)
    for best_of_n in (False, True):
        actor.observe(observe(0))
        chunk = actor.act(best_of_n)
        assert chunk.shape == (8, 4)
        assert chunk.dtype == np.float32
        assert np.abs(chunk).max() <= 1.0


def test_the_same_seed_gives_the_same_chunk_and_another_one_does_not(checkpoint, observe):
    actor = Actor(checkpoint)

    def act(seed: int) -> np.ndarray:
        actor.reset(seed)
        actor.observe(observe(0))
        actor.observe(observe(1))
        return actor.act(best_of_n=True)

    assert np.array_equal(act(3), act(3))
    assert not np.array_equal(act(3), act(4))


def test_every_frame_is_encoded_at_most_once_and_only_the_window_counts(checkpoint, observe, monkeypatch):
    actor, encoded = Actor(checkpoint), []
    genuine = actor.policy.encode
    monkeypatch.setattr(actor.policy, "encode", lambda images: encoded.append(len(images["front"])) or genuine(images))
    actor.observe(observe(0))
    actor.act()
    actor.observe(observe(1))
    actor.act()
    for step in range(2, 6):
        actor.observe(observe(step))
    actor.act()
    actor.act()
    assert encoded == [1, 1, 2]


def test_what_is_encoded_ahead_is_not_encoded_again_and_gives_the_same_chunk(checkpoint, observe, monkeypatch):
    ahead, usual, encoded = Actor(checkpoint), Actor(checkpoint), []
    genuine = ahead.policy.encode
    monkeypatch.setattr(ahead.policy, "encode", lambda images: encoded.append(len(images["front"])) or genuine(images))
    for step in range(3):
        ahead.observe(observe(step))
        usual.observe(observe(step))
    ahead.encode()
    ahead.encode()
    for actor in (ahead, usual):
        actor.observe(observe(3))
    np.testing.assert_allclose(ahead.act(), usual.act(), atol=1e-5)
    assert encoded == [2, 1], "both frames that a window may hold, then the one that came"


def test_frames_are_joined_oldest_first(checkpoint, observe, monkeypatch):
    actor, windows = Actor(checkpoint), []
    genuine = actor.policy.observe
    monkeypatch.setattr(actor.policy, "observe", lambda frames: windows.append(frames.clone()) or genuine(frames))
    states = []
    for step in range(3):
        actor.observe(observe(step))
        states.append(torch.from_numpy(observe(step).state))
        actor.act()
    assert torch.equal(windows[0][0, :, -4:], torch.stack([states[0], states[0]]))
    assert torch.equal(windows[2][0, :, -4:], torch.stack([states[1], states[2]]))


def test_best_of_n_plays_the_chunk_that_both_critics_like(checkpoint, observe, monkeypatch):
    actor = Actor(checkpoint)
    actor.observe(observe(0))
    seen = []
    monkeypatch.setattr(
        actor.critic, "forward", lambda observation, chunks: seen.append(chunks) or torch.tensor([[0.0, 5, 1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]])
    )
    chosen = actor.act(best_of_n=True)
    assert np.array_equal(chosen, seen[0][2].numpy())


def test_without_critics_it_acts_plainly(checkpoint, observe):
    checkpoint.critics = None
    actor = Actor(checkpoint)
    assert not actor.prefers_best_of_n

    def act(best_of_n: bool) -> np.ndarray:
        actor.reset(0)
        actor.observe(observe(0))
        return actor.act(best_of_n)

    assert np.array_equal(act(True), act(False))


def test_good_weights_are_swapped_in(checkpoint, observe):
    checkpoint.critics = None
    actor = Actor(checkpoint)
    bias = torch.full_like(actor.policy.head.leave.bias, 0.5)
    receive(actor, message(actor, **{"head.leave.bias": bias}))
    assert (actor.version, actor.prefers_best_of_n, actor.has_critic) == (9, True, True)
    assert torch.equal(actor.policy.head.leave.bias, bias)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"head.leave.bias": torch.full((32,), float("nan"))}, "not finite"),
        ({"head.leave.bias": torch.full((32,), float("inf"))}, "not finite"),
        ({"head.leave.bias": torch.full((32,), 1e9)}, "absurdly large"),
        ({"head.leave.bias": torch.zeros(31)}, "shape"),
        ({"head.leave.bias": torch.zeros(32, dtype=torch.int64)}, "not floats"),
        ({"extra": torch.zeros(1)}, "unknown"),
        ({"metadata": {"signature": "0" * 16}}, "architecture"),
        ({"metadata": {"encoder": "0" * 16}}, "another encoder"),
        ({"metadata": {"encoder": None}}, "another encoder"),
    ],
)
def test_bad_weights_are_refused_and_the_old_ones_stay(checkpoint, changes, reason):
    actor = Actor(checkpoint)
    before = {name: tensor.clone() for name, tensor in acting_tensors(actor.policy, actor.critic).items()}
    with pytest.raises(WeightsError, match=reason):
        receive(actor, message(actor, **changes))
    assert actor.version == 7
    assert all(torch.equal(before[name], tensor) for name, tensor in acting_tensors(actor.policy, actor.critic).items())


def test_a_unet_whose_convolutions_are_in_bfloat16_chooses_nearly_the_same_also_with_new_weights(checkpoint, observe):
    torch.manual_seed(0)
    config = dataclasses.replace(checkpoint.config, head=UnetDenoiserConfig(widths=(16, 32), step_width=16), schedule=NoiseSchedule(prediction="sample"))
    made = dataclasses.replace(checkpoint, config=config, policy=Policy(config).state_dict())
    exact, rounded = Actor(made), Actor(made, precision="bfloat16")

    def difference() -> float:
        chunks = []
        for actor in (exact, rounded):
            actor.reset(0)
            actor.observe(observe(0))
            chunks.append(actor.act())
        return float(np.abs(chunks[0] - chunks[1]).max())

    assert 0.0 < difference() < 0.02
    head = {name: tensor for name, tensor in Policy(config).state_dict().items() if name.startswith("head.")}
    fresh = message(Actor(dataclasses.replace(made, policy={**made.policy, **head})))
    for actor in (exact, rounded):
        receive(actor, fresh)
    assert 0.0 < difference() < 0.02


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_packed_convolutions_choose_the_same_and_those_of_old_weights_are_not_used(checkpoint, observe, monkeypatch, precision):
    torch.manual_seed(0)
    config = dataclasses.replace(checkpoint.config, head=UnetDenoiserConfig(widths=(16, 32), step_width=16), schedule=NoiseSchedule(prediction="sample"))
    made = dataclasses.replace(checkpoint, config=config, policy=Policy(config).state_dict())
    plain, packed = Actor(made, precision=precision), Actor(made, precision=precision)  # their convolutions are small
    tolerance, used, genuine = 1e-5 if precision == "float32" else 0.02, [], unet.packed_linear
    monkeypatch.setattr(unet, "packed_linear", lambda *parts: used.append(1) or genuine(*parts))
    monkeypatch.setattr(linear, "MANY", 1)
    packed.prepare()

    def choose() -> list[np.ndarray]:
        used.clear()
        chunks = []
        for actor in (plain, packed):
            actor._window.clear()
            actor._generator.manual_seed(0)
            actor.observe(observe(0))
            chunks.append(actor.act())
        np.testing.assert_allclose(*chunks, atol=tolerance)
        return chunks

    able = precision == "float32" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    first = choose()
    assert bool(used) == able
    head = {name: tensor for name, tensor in Policy(config).state_dict().items() if name.startswith("head.")}
    fresh = message(Actor(dataclasses.replace(made, policy={**made.policy, **head})))
    for actor in (plain, packed):
        receive(actor, fresh)
    second = choose()
    assert not used
    assert np.abs(second[1] - first[1]).max() > 0.05
    packed.reset()
    choose()
    assert bool(used) == able
    copied = copy.deepcopy(packed.policy)
    assert not any(module._is_packed() for module in copied.modules() if isinstance(module, unet.Packable))


def test_a_compiled_denoiser_chooses_the_same_also_with_new_weights(checkpoint, observe, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain, compiled = Actor(checkpoint), Actor(checkpoint, compiled=True)
    head = {name: tensor for name, tensor in Policy(checkpoint.config).state_dict().items() if name.startswith("head.")}
    fresh = message(Actor(dataclasses.replace(checkpoint, policy={**checkpoint.policy, **head})))
    for _ in range(2):
        for best_of_n in (False, True):
            chunks = []
            for actor in (plain, compiled):
                actor.reset(0)
                actor.observe(observe(0))
                chunks.append(actor.act(best_of_n))
            np.testing.assert_allclose(*chunks, atol=1e-4)
        for actor in (plain, compiled):
            receive(actor, fresh)


def test_a_denoiser_that_torch_cannot_compile_is_refused_with_one_line(checkpoint, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: torch.linalg.cholesky)
    with pytest.raises(UserError, match=r"cannot compile the denoiser here \(.*\): install a C"):
        Actor(checkpoint, compiled=True)
    steered = dataclasses.replace(checkpoint.config, steering=16)
    with pytest.raises(UserError, match="cannot compile the denoiser"):
        Actor(dataclasses.replace(checkpoint, config=steered, policy=Policy(steered).state_dict()), compiled=True)
    config = dataclasses.replace(checkpoint.config, head=GaussianConfig())
    with pytest.raises(UserError, match="has no sampler to compile"):
        Actor(dataclasses.replace(checkpoint, config=config, policy=Policy(config).state_dict()), compiled=True)


def test_missing_tensors_are_refused(checkpoint):
    actor = Actor(checkpoint)
    tensors = dict(acting_tensors(actor.policy, actor.critic))
    tensors.pop("head.leave.bias")
    with pytest.raises(WeightsError, match="missing"):
        actor.load(tensors, 9, {"encoder": actor.fingerprint})


@pytest.mark.parametrize("cut", [0, 7, 8, 100, -1])
def test_a_truncated_message_is_refused(checkpoint, cut):
    actor = Actor(checkpoint)
    with pytest.raises(WeightsError):
        unpack_weights(message(actor)[:cut], actor.signature)


def test_a_foreign_message_is_refused(checkpoint):
    from safetensors.torch import save

    actor = Actor(checkpoint)
    headers = [None, {"mechanic_rl_ros": "[]"}, {"mechanic_rl_ros": "[" * 100_000}]
    for data in (b"\x80\x04K\x01.", b"\xff" * 64, *(save({"a": torch.zeros(1)}, metadata=header) for header in headers)):
        with pytest.raises(WeightsError):
            unpack_weights(data, actor.signature)


def test_a_negative_version_is_refused(checkpoint):
    actor = Actor(checkpoint)
    with pytest.raises(WeightsError, match="version"):
        unpack_weights(message(actor, version=-1), actor.signature)


def test_an_actor_for_practice_explores_and_diffusion_policies_act_alike_to_the_last_bit(checkpoint, observe):
    gaussian = dataclasses.replace(checkpoint.config, head=GaussianConfig())
    other = dataclasses.replace(checkpoint, config=gaussian, policy=Policy(gaussian).state_dict())

    def act(source, **options) -> np.ndarray:
        actor = Actor(source, seed=1, **options)
        actor.observe(observe(0))
        return actor.act()

    assert np.array_equal(act(checkpoint), act(checkpoint, explore=True))
    assert not np.array_equal(act(other), act(other, explore=True))
