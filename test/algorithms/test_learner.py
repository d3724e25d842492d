"""The learner: when it updates, what it learns from, what it publishes, and that it goes on bit by bit."""

import copy
import dataclasses
import json
from collections import deque

import pytest
import torch

from mechanic_rl_ros.algorithms.filtered_iql import FilteredIql, FilteredIqlConfig
from mechanic_rl_ros.algorithms.learner_status import scale_record
from mechanic_rl_ros.data import Outcome, Source
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.acting import Actor, acting_tensors
from mechanic_rl_ros.policy.checkpoint import Checkpoint, unpack_weights
from mechanic_rl_ros.policy.frames import encode_episode

QUICK = FilteredIqlConfig(warmup_episodes=3, critic_updates=4, updates_per_episode=2, batch_size=16, replay_frames=400)


@pytest.fixture
def learner(checkpoint, practise) -> FilteredIql:
    learner = FilteredIql.create(QUICK, checkpoint, seed=1)
    for seed in range(3):
        learner.add_episode(practise(seed, expert=seed % 2 == 0, best_of_n=seed == 1))
    return learner


def update(learner: FilteredIql, count: int) -> None:
    for _ in range(count):
        learner.update()


def test_updates_are_paid_for_by_episodes(checkpoint, practise):
    learner, due = FilteredIql.create(QUICK, checkpoint), []
    for seed in range(5):
        learner.add_episode(practise(seed))
        due.append(learner.updates_due())
    assert due == [0, 0, 4, 6, 8]
    update(learner, 3)
    assert learner.updates_due() == 5
    assert learner.version == 3


def test_a_gradient_that_is_not_finite_is_left_out_and_reported_and_harms_nothing(learner):
    update(learner, 5)
    poison = next(learner.policy.head.parameters()).register_hook(lambda gradient: torch.full_like(gradient, torch.nan))
    update(learner, 2)
    poison.remove()
    skipped = 2 * QUICK.actor_updates
    assert learner.status()["skipped_gradients"] == skipped
    update(learner, 3)
    assert learner.status()["skipped_gradients"] == skipped
    assert all(bool(torch.isfinite(tensor).all()) for tensor in learner.to_checkpoint().policy.values())


def test_an_episode_counts_once(learner, practise):
    rows = len(learner.practice)
    assert learner.add_episode(practise(0)) is False
    assert len(learner.practice) == rows
    assert learner.status()["episodes"] == 3


def test_an_episode_of_another_robot_is_refused(learner, practise):
    episode = practise(77)
    episode.embodiment = dataclasses.replace(episode.embodiment, policy_rate=5.0)
    with pytest.raises(UserError, match="policy_rate"):
        learner.add_episode(episode)


def test_the_actor_waits_for_the_critics_and_the_encoder_never_changes(learner):
    def snapshot(module):
        return {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def same(before, module):
        return all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())

    actor, critic, encoder, target = (snapshot(module) for module in (learner.policy.head, learner.q, learner.policy.encoders, learner.target_q))
    update(learner, QUICK.critic_updates)
    assert same(actor, learner.policy.head)
    assert not same(critic, learner.q)
    assert not same(target, learner.target_q)
    update(learner, 1)
    assert not same(actor, learner.policy.head)
    assert same(encoder, learner.policy.encoders)


def test_the_first_steps_of_what_acts_are_small_and_those_of_new_critics_are_not(learner):
    assert {role: tuner.param_groups[0]["pretrained"] for role, tuner in learner.tuners.items()} == {"actor": True, "critic": False, "value": False}


def test_only_solved_episodes_and_demonstrations_teach_the_actor(checkpoint, practise, monkeypatch):
    learner = FilteredIql.create(dataclasses.replace(QUICK, critic_updates=0), checkpoint)
    for seed in range(3):
        episode = practise(seed, expert=False)
        assert not episode.success
        learner.add_episode(episode)
    learner.successes = learner.failures = learner.rewarded = 1  # of an episode that the replay does not hold any more
    weights = []
    genuine = learner.policy.loss

    def watched(*arguments):
        losses = genuine(*arguments)
        losses.register_hook(weights.append)
        return losses

    monkeypatch.setattr(learner.policy, "loss", watched)
    learner.update()
    assert len(weights) == QUICK.actor_updates
    for shown in weights:
        torch.testing.assert_close(shown, torch.tensor([0.25] * 4 + [0.0] * 12), msg="a quarter of a batch of 16")


def test_critics_learn_the_discounted_distance_to_success(checkpoint, practise):
    learner = FilteredIql.create(dataclasses.replace(QUICK, critic_updates=1000, batch_size=32, demonstration_share=0.0, polyak=0.05), checkpoint)
    for seed in range(10):
        learner.add_episode(practise(seed, expert=seed % 4 < 2))
    update(learner, 150)
    rows = learner.practice.rows(learner.practice.positions())
    value = learner.value(learner.policy.observe(rows.frames)).detach()
    solved_now = (rows.returns > 0) & (rows.solved > 0)
    assert float(value[solved_now].mean()) > 0.6
    assert float(value[solved_now].mean()) > float(value[rows.solved == 0].mean()) + 0.1


def test_what_weighs_nothing_teaches_nothing_and_rows_come_in_few_sizes(learner, monkeypatch):
    losses, seen = learner.policy.loss, []

    def loss(observation, chunks, generator):
        seen.append((observation, losses(observation, chunks, generator)))
        return seen[-1][1]

    monkeypatch.setattr(learner.policy, "loss", loss)
    monkeypatch.setattr(type(learner), "shown_rows", 0)
    rows = learner.practice.sample(40, learner.generator)
    observation = learner.policy.observe(rows.frames)
    weight = torch.zeros(40)
    for count, size in ((1, 16), (16, 16), (17, 32), (40, 40)):
        weight[:count] = torch.linspace(1.0, 0.5, count)
        learner.clone(rows, observation, weight)
        assert len(seen[-1][0]) == size
        assert torch.equal(seen[-1][0], observation[:size])
        assert learner.losses["actor_loss"] == pytest.approx(float((weight[:size] * seen[-1][1].detach()).sum() / weight.sum()), rel=1e-5)
    learner.clone(rows, observation, torch.zeros(40))
    assert len(seen) == 4, "nothing to learn from is no step"


def test_published_weights_act(learner, checkpoint):
    update(learner, 6)
    actor = Actor(checkpoint)
    version, tensors, metadata = unpack_weights(learner.weights(), actor.signature)
    actor.load(tensors, version, metadata)
    assert version == learner.version == actor.version == 6
    assert actor.has_critic
    expected = learner.tuners["actor"].averages()[0]
    assert torch.equal(tensors["head.observe.weight"], expected)
    assert not torch.equal(expected, learner.policy.head.observe.weight)


def test_the_checkpoint_of_a_learner_acts_like_its_weights(learner, tmp_path):
    update(learner, 6)
    learner.to_checkpoint().save(tmp_path)
    again = Checkpoint.load(tmp_path)
    actor = Actor(again)
    _, tensors, _ = unpack_weights(learner.weights(), actor.signature)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in acting_tensors(actor.policy, actor.critic).items())
    assert again.version == 6
    assert again.metadata["practised_episodes"] == 3


def test_a_restored_learner_continues_bit_by_bit(learner, checkpoint, practise, tmp_path):
    update(learner, 6)
    learner.save(tmp_path / "state")
    resumed = FilteredIql.create(QUICK, checkpoint, seed=99)
    resumed.restore(tmp_path / "state")
    for each in (learner, resumed):
        each.add_episode(practise(50))
        update(each, 5)
    assert learner.weights() == resumed.weights()
    mine, theirs = learner.status(), resumed.status()
    assert {**mine, "update_ms": 0} == {**theirs, "update_ms": 0}


def test_a_damaged_save_is_refused(learner, checkpoint, tmp_path):
    learner.save(tmp_path / "state")
    path = tmp_path / "state" / "learner.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        FilteredIql.create(QUICK, checkpoint).restore(tmp_path / "state")
    with pytest.raises(UserError, match="cannot read"):
        FilteredIql.create(QUICK, checkpoint).restore(tmp_path / "nowhere")


def test_an_incomplete_save_is_refused(learner, checkpoint, tmp_path):
    learner.save(tmp_path)
    manifest = json.loads((tmp_path / "learner.json").read_text())
    del manifest["gate"], manifest["checksum"]  # as of an earlier version
    (tmp_path / "learner.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="incomplete"):
        FilteredIql.create(QUICK, checkpoint).restore(tmp_path)


@pytest.mark.parametrize("name", ["version", "updates", "successes"])
def test_a_number_that_changed_in_a_save_is_damage(learner, checkpoint, tmp_path, name):
    learner.save(tmp_path)
    manifest = json.loads((tmp_path / "learner.json").read_text())
    FilteredIql.create(QUICK, checkpoint).restore(tmp_path)
    (tmp_path / "learner.json").write_text(json.dumps({**manifest, name: manifest[name] + 8}))
    with pytest.raises(UserError, match="does not match its checksum"):
        FilteredIql.create(QUICK, checkpoint).restore(tmp_path)


def test_a_save_that_is_nested_without_end_is_damage(learner, checkpoint, tmp_path):
    learner.save(tmp_path)
    (tmp_path / "learner.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="not valid JSON"):
        FilteredIql.create(QUICK, checkpoint).restore(tmp_path)


def test_the_gate_hears_what_v_expected_of_a_scene_before_the_episode_was_learned_from(learner, practise):
    learner.add_episode(practise(40))
    with torch.no_grad():
        learner.value.layers[-1].weight.mul_(0.1)
        learner.value.layers[-1].bias.fill_(0.5)
    episode = practise(41)
    episode.sources[:] = int(Source.POLICY)
    first = encode_episode(learner.policy, episode)[0]
    observation = learner.policy.observe(first.repeat(learner.checkpoint.config.observation_horizon, 1)[None])
    expected, before = learner.value(observation).item(), learner.gate.state()["arms"][0][2]
    learner.add_episode(episode)
    assert 0.0 < expected < 1.0
    heard = learner.gate.state()["arms"][0][2] - before * (1.0 - 1.0 / learner.gate.memory)
    assert heard == pytest.approx(expected, abs=1e-3)  # the replay keeps features in half precision


def test_an_aborted_episode_is_learned_from_but_is_no_vote_for_the_gate(learner, practise):
    rows, plain = len(learner.practice), copy.deepcopy(learner.gate.state())
    learner.add_episode(dataclasses.replace(practise(60, expert=False), outcome=Outcome.ABORTED))
    assert len(learner.practice) > rows
    assert learner.gate.state() == plain


def test_a_save_of_another_base_is_refused(learner, checkpoint, tmp_path):
    learner.save(tmp_path / "state")
    other = copy.deepcopy(checkpoint)
    other.policy["frame_mean"] += 1.0
    with pytest.raises(UserError, match="another base checkpoint"):
        FilteredIql.create(QUICK, other).restore(tmp_path / "state")


def test_status_is_plain_data(learner):
    assert json.loads(json.dumps(learner.status()))["rows"] == len(learner.practice)
    assert learner.status()["actor_scale"] == 1.0


def test_the_scale_of_every_network_is_kept_after_every_update(learner):
    learner.scales.clear()
    before, seen = learner.updates, []
    for _ in range(3):
        learner.update()
        seen.append(tuple(tuner.scale for tuner in learner.tuners.values()))
    assert scale_record(learner) == {"networks": list(learner.tuners), "scales_from": before + 1, "scales": seen}
    learner.scales = deque(learner.scales, maxlen=2)
    learner.update()
    told = scale_record(learner)
    assert (told["scales_from"], told["scales"][0]) == (before + 3, seen[-1])


def test_scales_that_were_not_told_before_a_rollback_are_told_after_it(learner):
    learner.update()
    told = scale_record(learner)
    learner.go_back(learner.snapshot())
    assert scale_record(learner) == told


def test_a_checkpoint_without_demonstrations_is_refused(checkpoint):
    checkpoint.demonstrations = None
    with pytest.raises(UserError, match="demonstrations"):
        FilteredIql.create(QUICK, checkpoint)


def test_a_device_that_is_not_there_is_said(checkpoint):
    with pytest.raises(UserError, match="not available"):
        FilteredIql.create(QUICK, checkpoint, device="cuda:99")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("filtered_iql: {learning_rate: 1}", "unknown field"),
        ("filtered_iql: {gamma: 2}", "between"),
        ("filtered_iql: {batch_size: many}", "type int"),
        ("[", "YAML"),
        ("3", "section"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path, text, reason):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        FilteredIqlConfig.from_yaml(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)


def test_the_shipped_configuration_is_valid_and_has_no_learning_rate():
    from mechanic_rl_ros.algorithms.behaviour_cloning import BehaviourCloningConfig
    from mechanic_rl_ros.collection import CollectionConfig

    for kind in (FilteredIqlConfig, BehaviourCloningConfig, CollectionConfig):
        assert not any("rate" in name.split("_") or name == "lr" for name in kind.from_yaml().__dict__)
