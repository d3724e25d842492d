"""What every learner does alike, and what each of them learns from."""

import copy
import dataclasses
import resource

import numpy as np
import pytest
import torch
import yaml

from mechanic_rl_ros.algorithms import learner as learner_module
from mechanic_rl_ros.algorithms.behaviour_cloning import BehaviourCloningConfig, clone
from mechanic_rl_ros.algorithms.cloning import Dagger
from mechanic_rl_ros.algorithms.consistency import one_step
from mechanic_rl_ros.algorithms.demonstrations import takeovers
from mechanic_rl_ros.algorithms.dppo import Dppo
from mechanic_rl_ros.algorithms.registry import LEARNERS, learner_of
from mechanic_rl_ros.data import Outcome, Source
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import config_directory
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import unpack_weights
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.practice import practise
from mechanic_rl_ros.replay.frame_files import FullDiskError
from mechanic_rl_ros.rollout import record_episode, run_episode
from mechanic_rl_ros.study.tuners import Cell, factory

COMMON = {"warmup_episodes": 2, "batch_size": 16, "replay_frames": 600, "updates_per_episode": 2}
QUICK = {"critic_updates": 2, "iteration_episodes": 2, "epochs": 2, "value_iterations": 0, "head_updates": 5}


def quick(name: str, **changes):
    """Settings for seconds instead of hours."""
    kind = learner_of(name).Config
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{key: value for key, value in {**COMMON, **QUICK, **changes}.items() if key in known})


def begin(name: str, checkpoint, hopeful: bool = True, **changes):
    """A learner; a hopeful one believes that one episode has succeeded and another one has not."""
    config = quick(name, **changes)
    prepared = learner_of(name).prepare(config, checkpoint, 0)
    learner = learner_of(name).create(config, prepared, seed=1)
    learner.successes = learner.failures = learner.rewarded = int(hopeful)
    return learner


def practise_with(learner, world, seeds) -> None:
    actor = Actor(learner.checkpoint, explore=True)
    for seed in seeds:
        learner.add_episode(run_episode(world, actor, seed))


def taken_over(world, seed: int, after: int = 3):
    """An episode that somebody takes over."""
    step = 0

    def choose(observation):
        nonlocal step
        step += 1
        return world.expert() if step > after else np.array([-np.sign(world.target) * 0.5, 0, 0, -1], np.float32)

    return record_episode(world, choose, seed, f"taken-{seed}", source=lambda: Source.HUMAN if step > after else Source.POLICY)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_learns_publishes_and_goes_on_bit_by_bit(name, checkpoint, world, tmp_path):
    learner = begin(name, checkpoint)
    practise_with(learner, world, range(3))
    if name == "dagger":
        learner.add_episode(taken_over(world, 5))
    assert learner.updates_due() > 0
    before = {key: tensor.clone() for key, tensor in learner.acting_policy().head.state_dict().items()}
    while learner.updates_due():
        learner.update()
    after = learner.acting_policy().head.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    actor = Actor(learner.checkpoint)
    version, tensors, metadata = unpack_weights(learner.weights(), actor.signature)
    actor.load(tensors, version, metadata)
    assert actor.has_critic == (learner.critics() is not None)
    learner.save(tmp_path / "state")
    resumed = learner_of(name).create(learner.config, learner.checkpoint, seed=99)
    resumed.restore(tmp_path / "state")
    for each in (learner, resumed):
        practise_with(each, world, range(10, 12))
        while each.updates_due():
            each.update()
    assert learner.weights() == resumed.weights()
    assert {**learner.status(), "update_ms": 0} == {**resumed.status(), "update_ms": 0}


@pytest.mark.parametrize("name", LEARNERS)
def test_practice_without_a_single_success_leaves_what_acts_as_it_is_and_is_said(name, checkpoint, world):
    learner = begin(name, checkpoint, hopeful=False)
    before = {key: tensor.clone() for key, tensor in learner.acting_policy().state_dict().items()}
    world.max_steps = 4
    practise_with(learner, world, [seed for seed in range(40) if abs(_target(world, seed)) > 0.15][:4])
    while learner.updates_due():
        learner.update()
    assert learner.successes == 0
    assert "not one of 4 episodes" in learner.notice() or "nobody took over" in learner.notice()
    assert all(torch.equal(before[key], tensor) for key, tensor in learner.acting_policy().state_dict().items())


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "dagger"])
def test_success_without_reward_and_success_without_end_are_said_and_leave_what_acts_as_it_is(name, checkpoint, world, monkeypatch):
    monkeypatch.setattr("mechanic_rl_ros.algorithms.learner_status.ALL_SOLVED", 4)
    unrewarded, perfect = (begin(name, checkpoint, hopeful=False) for _ in range(2))
    before = unrewarded.acting_policy().state_dict()
    for seed in range(4):
        episode = run_episode(world, Actor(unrewarded.checkpoint, explore=True), seed)
        solved = dataclasses.replace(episode, outcome=Outcome.SUCCESS, rewards=np.eye(1, episode.steps, episode.steps - 1, dtype=np.float32)[0])
        perfect.add_episode(solved)
        unrewarded.add_episode(dataclasses.replace(solved, rewards=np.zeros_like(solved.rewards), outcome=Outcome.SUCCESS if seed else Outcome.TIMEOUT))
    for learner in (unrewarded, perfect) if unrewarded.needs_reward else (perfect,):
        while learner.updates_due():
            learner.update()
        assert all(torch.equal(before[key], tensor) for key, tensor in learner.acting_policy().state_dict().items())
    for learner in (unrewarded, perfect):
        assert "add up to" not in learner.notice()
    assert "had a reward" in unrewarded.notice()
    assert "all of 4 episodes succeeded" in perfect.notice()


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "dagger"])
def test_rewards_that_do_not_add_up_to_success_are_said_where_critics_need_them(name, checkpoint, world):
    learner = begin(name, checkpoint, hopeful=False)
    for seed, reward in enumerate((-0.5, 0.0, 1.0, 100.0)):
        episode = run_episode(world, Actor(learner.checkpoint, explore=True), seed)
        rewards = np.eye(1, episode.steps, 0, dtype=np.float32)[0] * np.float32(reward)
        learner.add_episode(dataclasses.replace(episode, outcome=Outcome.SUCCESS if reward > 0.0 else Outcome.TIMEOUT, rewards=rewards))
    told = "the rewards of 2 of 4 episodes add up to less than 0 or more than 1" in learner.notice()
    assert told == learner.needs_reward


def _target(world, seed: int) -> float:
    world.reset(seed)
    return world.target


def test_what_a_person_did_counts_as_executed_and_as_a_demonstration(checkpoint, world):
    learner = begin("filtered_iql", checkpoint)
    rows, shown = len(learner.practice), len(learner.demonstrations)
    episode = taken_over(world, 5)
    ((first, last),) = takeovers(episode)
    assert (first, last) == (3, episode.steps)
    learner.add_episode(episode)
    assert len(learner.practice) == rows + episode.steps
    assert len(learner.demonstrations) == shown + last - first
    newest = learner.demonstrations.rows(learner.demonstrations.positions()[-1:])
    torch.testing.assert_close(newest.chunks[0, 0], torch.from_numpy(episode.actions[-1]))


def test_a_correction_that_is_handed_back_teaches_what_was_executed_after_it(checkpoint, world):
    learner = begin("dagger", checkpoint)
    episode = run_episode(world, Actor(checkpoint, seed=3), next(seed for seed in range(40) if abs(_target(world, seed)) > 0.15))
    assert episode.steps > 8
    sources = np.where(np.isin(np.arange(episode.steps), (3, 4)), Source.HUMAN, Source.POLICY).astype(np.uint8)
    learner.add_episode(dataclasses.replace(episode, sources=sources))
    rows = learner.demonstrations.rows(learner.demonstrations.positions()[-2:])
    horizon = min(rows.chunks.shape[1], episode.steps - 3)
    torch.testing.assert_close(rows.chunks[0, :horizon], torch.from_numpy(episode.actions[3 : 3 + horizon]))
    assert not torch.equal(rows.frames[0, 0], rows.frames[0, 1]), "what was seen before the correction is part of what the policy sees"


def test_a_rescue_is_no_success_of_the_policy_and_says_nothing_to_the_gate(checkpoint, world):
    learner = begin("filtered_iql", checkpoint)
    rescued = taken_over(world, 5)
    assert rescued.success
    voted = copy.deepcopy(learner.gate.state())
    learner.add_episode(dataclasses.replace(rescued, best_of_n=True))
    rows = learner.practice.rows(learner.practice.positions()[-rescued.steps :])
    assert not rows.solved.any(), "what the policy did before the rescue would be cloned"
    assert (learner.successes, learner.failures) == (1, 2), "it counts as a failure of the policy"
    assert learner.gate.state() == voted


def test_takeovers_that_ended_well_leave_with_the_checkpoint(checkpoint, world):
    learner, before = begin("filtered_iql", checkpoint), len(checkpoint.demonstrations["lengths"])
    solved = taken_over(world, 5)
    world.max_steps = 5
    failed = taken_over(world, next(seed for seed in range(40) if abs(_target(world, seed)) > 0.18))
    assert (solved.success, failed.success) == (True, False)
    for episode in (solved, failed):
        learner.add_episode(episode)
    kept = learner.to_checkpoint().demonstrations
    assert kept["lengths"].tolist() == [*checkpoint.demonstrations["lengths"].tolist(), solved.steps - 3 + 1]
    shown = sum(checkpoint.demonstrations["lengths"].tolist())
    torch.testing.assert_close(kept["frames"][:shown], checkpoint.demonstrations["frames"])
    torch.testing.assert_close(kept["actions"][shown:-1], torch.from_numpy(solved.actions[3:]).half())
    assert learner.demonstrations.episodes == before + 2


def test_stretches_by_hand_are_found_also_where_they_are_all_of_an_episode(practise):
    episode = next(episode for episode in map(practise, range(20)) if episode.steps >= 5)
    assert takeovers(episode) == []
    sources = np.full(episode.steps, Source.HUMAN, np.uint8)
    assert takeovers(dataclasses.replace(episode, sources=sources)) == [(0, episode.steps)]
    sources[:] = Source.POLICY
    sources[0], sources[2:4] = Source.HUMAN, Source.EXPERT
    assert takeovers(dataclasses.replace(episode, sources=sources)) == [(0, 1), (2, 4)]


def test_an_episode_all_by_hand_is_a_demonstration_and_says_nothing_about_the_policy(checkpoint, world):
    learner, shown = begin("filtered_iql", checkpoint, hopeful=False), begin("filtered_iql", checkpoint).demonstrations.episodes
    solved = taken_over(world, 5, after=0)
    world.max_steps = 3
    failed = taken_over(world, next(seed for seed in range(40) if abs(_target(world, seed)) > 0.18), after=0)
    assert (solved.success, failed.success) == (True, False)
    for episode in (solved, failed):
        learner.add_episode(episode)
    assert (learner.successes, learner.failures, learner.demonstrations.episodes) == (0, 0, shown + 2)
    assert not learner.has_lessons
    assert learner.to_checkpoint().demonstrations["lengths"].tolist()[-1] == solved.steps + 1


def test_dagger_learns_to_do_what_was_shown_where_it_took_over(checkpoint, world):
    learner = begin("dagger", checkpoint, warmup_episodes=1, updates_per_episode=20)
    assert isinstance(learner, Dagger)
    practise_with(learner, world, range(1))
    assert "nobody took over" in learner.notice()
    episodes = [taken_over(world, seed) for seed in range(20, 32)]
    for episode in episodes:
        learner.add_episode(episode)
    assert learner.notice() == ""
    rows = learner.demonstrations.rows(learner.demonstrations.positions()[-30:])

    def error() -> float:
        generator = torch.Generator().manual_seed(0)
        policy = learner.acting_policy()
        with torch.no_grad():
            return float(policy.loss(policy.observe(rows.frames).repeat(8, 1), rows.chunks.repeat(8, 1, 1), generator).mean())

    before = error()
    while learner.updates_due():
        learner.update()
    assert error() < 0.7 * before


def test_takeovers_count_also_where_older_demonstrations_made_room_for_them(checkpoint, world, monkeypatch):
    monkeypatch.setattr(learner_module, "TAKEOVER_FRAMES", 10)
    learner = begin("dagger", checkpoint)
    shown = learner.demonstrations.episodes
    for seed in range(20, 23):
        learner.add_episode(taken_over(world, seed))
    assert learner.demonstrations.episodes <= shown
    assert learner.has_lessons
    kept = learner.to_checkpoint().demonstrations
    assert not torch.equal(kept["frames"], checkpoint.demonstrations["frames"][: len(kept["frames"])])


@pytest.mark.parametrize("name", ["filtered_iql", "td3"])
def test_demonstrations_keep_their_share_where_practice_is_drawn_by_priority(checkpoint, world, name):
    learner = begin(name, checkpoint, priority=0.9, demonstration_share=0.25, batch_size=64)
    practise_with(learner, world, range(3))
    positions = learner.practice.positions()
    learner.practice.update_priorities(positions, torch.linspace(1e-3, 1.0, len(positions)) ** 4)
    weights = learner.sample().weights
    assert float(weights[:48].std()) > 0.1, "practice is drawn by priority"
    assert float(weights[48:].sum() / weights.sum()) == pytest.approx(0.25)


def test_weights_of_awac_grow_with_the_advantage_and_are_bounded(checkpoint, world, monkeypatch):
    learner = begin("awac", checkpoint, critic_updates=0)
    practise_with(learner, world, range(3))
    seen = []
    genuine = learner.clone
    monkeypatch.setattr(learner, "clone", lambda rows, observation, weight: (seen.append(weight), genuine(rows, observation, weight)))
    for _ in range(3):
        learner.update()
    weights = torch.cat(seen)
    assert float(weights.std()) > 0
    assert float(weights.max()) <= np.exp(3.0) + 1e-3


def test_ppo_makes_chunks_that_earned_more_likelier_and_others_less(checkpoint, world):
    learner = begin("dppo", checkpoint, iteration_episodes=6, epochs=4, clip=0.2, largest_divergence=1e6, batch_size=64)
    assert isinstance(learner, Dppo)
    practise_with(learner, world, range(6))
    learner._begin()
    now = dict(learner.iteration)
    now["advantages"] = torch.where(torch.arange(len(now["advantages"])) % 2 == 0, 1.0, -1.0)
    learner.iteration = dict(now)
    before = _log_probability(learner, now)
    while learner.iteration:
        learner.update()
    change = _log_probability(learner, now) - before
    good = now["advantages"] > 0
    assert float(change[good].mean()) > float(change[~good].mean())


def _log_probability(learner, now) -> torch.Tensor:
    from mechanic_rl_ros.policy.chain import log_probability, unpack_chain

    policy = learner.acting_policy()
    with torch.no_grad():
        return log_probability(policy.head, policy.observe(now["frames"]), unpack_chain(now["traces"], learner.checkpoint.config).samples).mean(dim=1)


def test_probabilities_of_recorded_chains_are_those_that_the_actor_gave_them(checkpoint, world):
    learner = begin("dppo", checkpoint)
    practise_with(learner, world, range(2))
    learner._begin()
    recorded = learner.iteration["traces"][:, -5:].mean(dim=1)
    torch.testing.assert_close(_log_probability(learner, learner.iteration), recorded, atol=1e-4, rtol=1e-3)


def test_advantages_bootstrap_through_a_time_out_and_not_through_a_success(checkpoint):
    learner = begin("dppo", checkpoint, gamma=0.5, trace_decay=1.0)
    rewards, values = torch.tensor([0.0, 1.0]), torch.tensor([0.2, 0.4, 0.8])
    ended = learner._advantages(rewards, torch.tensor([0.5, 0.0]), values)
    torch.testing.assert_close(ended, torch.tensor([0.5 * 1.0 - 0.2, 1.0 - 0.4]))
    timed_out = learner._advantages(rewards, torch.tensor([0.5, 0.5]), values)
    torch.testing.assert_close(timed_out, torch.tensor([0.5 * 1.4 - 0.2, 1.4 - 0.4]))


def _iterate(learner, world, first: int, episodes: int = 6) -> list[bool]:
    """One iteration of PPO; of every update, whether the actor moved."""
    actor = Actor(learner.checkpoint, explore=True)
    version, tensors, metadata = unpack_weights(learner.weights(), actor.signature)
    actor.load(tensors, version, metadata)
    for seed in range(first, first + episodes):
        learner.add_episode(run_episode(world, actor, seed))
    moved = []
    while learner.updates_due():
        before = learner.policy.head.state_dict()["leave.weight"].clone()
        learner.update()
        moved.append(not torch.equal(before, learner.policy.head.state_dict()["leave.weight"]))
    return moved


def _divergence(learner, now) -> float:
    change = _log_probability(learner, now) - now["traces"][:, -5:].mean(dim=1)
    return float((change.exp() - 1.0 - change).mean())


@pytest.mark.parametrize("name", ["dppo", "reinforce"])
def test_ppo_finds_steps_with_which_a_whole_iteration_stays_where_its_data_say_something(name, checkpoint, world):
    learner = begin(name, checkpoint, iteration_episodes=6, epochs=10, batch_size=8)
    kept, genuine = [], learner._begin
    learner._begin = lambda: (genuine(), kept.append(learner.iteration))
    moved = _iterate(learner, world, 0)
    steps = int(kept[0]["length"])
    assert steps >= 10
    assert sum(moved) > steps  # began anew with shorter ones
    assert all(moved[-steps:])  # the last attempt came to its end
    assert float(learner.numbers["unit"]) < 1.0
    assert 0.0 < _divergence(learner, kept[0]) < learner.config.largest_divergence
    assert all(_iterate(learner, world, 10))  # what was found is kept


def test_ppo_takes_longer_steps_where_much_of_its_room_was_not_used(checkpoint, world):
    learner = begin("dppo", checkpoint, iteration_episodes=6)
    learner.numbers["unit"] = torch.tensor(1e-5)
    _iterate(learner, world, 0)
    assert float(learner.numbers["unit"]) == pytest.approx(2e-5)
    group = learner.tuners["actor"].param_groups[0]
    assert group["unit"] == pytest.approx(0.05 * 1e-5)
    assert not group["pretrained"]  # its iterations are too short for a unit that grows, and know how far they may go


def test_value_learns_for_a_whole_iteration_where_an_optimizer_with_a_rate_took_the_actor_too_far(checkpoint, world):
    config = quick("dppo", iteration_episodes=6, epochs=10)
    prepared = learner_of("dppo").prepare(config, checkpoint, 0)
    learner = learner_of("dppo").create(config, prepared, tuner=factory(Cell("adamw", 0.1, 1e-3, learner="dppo"), 1.0))
    learner.successes = learner.failures = learner.rewarded = 1
    values, lengths, descend, begin_iteration = [], [], learner.descend, learner._begin
    learner.descend = lambda role, loss: (values.append(role), descend(role, loss))[1]
    learner._begin = lambda: (begin_iteration(), lengths.append(int(learner.iteration["length"])))
    moved = _iterate(learner, world, 0)
    assert sum(moved) < lengths[0] == values.count("value")


def test_traces_of_another_policy_are_refused_and_nothing_is_kept(checkpoint, world):
    learner = begin("dppo", checkpoint)
    episode = run_episode(world, Actor(learner.checkpoint, explore=True), 3)
    with pytest.raises(UserError, match="another policy"):
        learner.add_episode(dataclasses.replace(episode, traces=episode.traces[:, 1:]))
    assert len(learner.practice) == 0
    assert not learner.flights


def test_an_episode_for_which_the_disk_had_no_room_teaches_ppo_once(checkpoint, world, tmp_path, monkeypatch):
    prepared = learner_of("dppo").prepare(quick("dppo"), checkpoint, 0)
    learner = learner_of("dppo").create(quick("dppo"), prepared, folder=tmp_path)
    before, episode = (run_episode(world, Actor(prepared, explore=True), seed) for seed in (2, 3))
    learner.add_episode(before)
    monkeypatch.setattr(learner.practice, "reserve", lambda frames: None)  # the room that it found is gone when the frames are written
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(FullDiskError):
            learner.add_episode(episode)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert learner.add_episode(episode)
    assert len(learner.flights) == 2


def test_an_aborted_episode_is_no_lesson_for_ppo(checkpoint, world):
    learner = begin("dppo", checkpoint)
    learner.add_episode(dataclasses.replace(run_episode(world, Actor(learner.checkpoint, explore=True), 3), outcome=Outcome.ABORTED))
    assert not learner.flights


def test_ppo_says_when_episodes_come_without_chains(checkpoint, practise):
    learner = begin("dppo", checkpoint)
    for seed in range(2):
        learner.add_episode(practise(seed))
    assert "no denoising chains" in learner.notice()
    assert learner.updates_due() == 0


def test_an_unknown_learner_is_named_with_those_there_are():
    with pytest.raises(UserError, match="unknown algorithm 'magic': use one of filtered_iql, "):
        learner_of("magic")


def test_every_learner_has_a_section_of_valid_settings_with_its_defaults_and_no_learning_rate():
    shipped = yaml.safe_load((config_directory() / "learner.yaml").read_text())
    for name, kind in LEARNERS.items():
        assert kind.Config.from_yaml() == kind.Config()
        assert name in shipped
        assert not any("rate" in field.name.split("_") or field.name == "lr" for field in dataclasses.fields(kind.Config))


def test_a_state_of_another_learner_is_refused(checkpoint, world, tmp_path):
    begin("cloning", checkpoint).save(tmp_path / "state")
    with pytest.raises(UserError, match="is of learner Cloning"):
        begin("dagger", checkpoint).restore(tmp_path / "state")


def test_critics_learn_from_demonstrations_before_the_first_episode(checkpoint):
    learner = begin("filtered_iql", checkpoint, pretraining_updates=60, batch_size=32)
    assert learner.updates_due() == 60
    head = {name: tensor.clone() for name, tensor in learner.policy.head.state_dict().items()}
    while learner.updates_due():
        learner.update()
    assert learner.updates == 60
    assert all(torch.equal(head[name], tensor) for name, tensor in learner.policy.head.state_dict().items())
    rows = learner.demonstrations.rows(learner.demonstrations.positions())
    observation, others = learner.policy.observe(rows.frames), 2 * torch.rand(rows.chunks.shape) - 1
    q, _ = learner.critics()
    assert float((q(observation, rows.chunks) - q(observation, others)).detach().mean()) > 0.1


def test_calibrated_pretraining_does_not_push_the_policys_own_chunks_below_what_demonstrations_earn(checkpoint):
    def value_of_own(calibrated: bool) -> float:
        learner = begin("filtered_iql", checkpoint, pretraining_updates=150, batch_size=32, calibrated=calibrated, conservatism=5.0)
        while learner.updates_due():
            learner.update()
        rows = learner.demonstrations.rows(learner.demonstrations.positions())
        observation = learner.policy.observe(rows.frames)
        own = learner.policy.sample(observation, len(observation), torch.Generator().manual_seed(0))
        return float(learner.critics()[0](observation, own).detach().mean())

    assert value_of_own(True) > value_of_own(False) + 0.1


def test_heads_of_classic_learners_begin_as_clones_and_answer_with_what_is_executed(checkpoint):
    config = quick("sac", head_updates=400)
    prepared = learner_of("sac").prepare(config, checkpoint, 0)
    policy = prepared.build_policy()
    assert prepared.config.prediction_horizon == checkpoint.config.past_actions + checkpoint.config.action_horizon
    learner = learner_of("sac").create(config, prepared)
    rows = learner.demonstrations.rows(learner.demonstrations.positions())
    error = (policy.head.mode(policy.observe(rows.frames)) - rows.chunks).square().mean()
    assert float(error.detach()) < 0.3 * float(rows.chunks.var())
    for name in policy.encoders.state_dict():
        assert torch.equal(policy.encoders.state_dict()[name], checkpoint.policy[f"encoders.{name}"])


@pytest.mark.parametrize("name", ["sac", "td3", "ddpg"])
def test_a_head_of_the_kind_that_is_wanted_goes_on_from_where_it_is(name, checkpoint):
    executed = checkpoint.config.past_actions + checkpoint.config.action_horizon
    head = learner_of(name).prepare(quick(name), checkpoint, 0).config.head
    config = dataclasses.replace(checkpoint.config, head=head, prediction_horizon=executed + 4)
    torch.manual_seed(5)
    trained = Policy(config)
    encoders = {key: tensor for key, tensor in checkpoint.policy.items() if not key.startswith("head.")}
    trained.load_state_dict({**trained.state_dict(), **encoders})
    own = dataclasses.replace(checkpoint, config=config, policy=trained.state_dict())
    prepared = learner_of(name).prepare(quick(name), own, 0)
    observation, generator = torch.randn(1, config.observation_dim), torch.Generator()
    answers = [policy.head.sample(observation, 1, generator) for policy in (prepared.build_policy(), trained)]
    torch.testing.assert_close(answers[0], answers[1][:, :executed])
    assert learner_of(name).prepare(quick(name), prepared, 0) is prepared


def test_a_chunk_that_ends_with_what_is_executed_goes_on_until_the_next_one_is_there(checkpoint, world):
    prepared = learner_of("td3").prepare(quick("td3"), checkpoint, 0)
    actor = Actor(prepared)
    actor.observe(world.reset(3))
    chunk = actor.act()
    assert len(chunk) == prepared.config.action_horizon + 1
    np.testing.assert_array_equal(chunk[-1], chunk[-2])


@pytest.mark.parametrize("name", ["sac", "td3", "dsrl"])
def test_the_actor_climbs_its_critic(name, checkpoint, world, monkeypatch):
    """Of a critic that likes the first action small, whatever the observation."""
    learner = begin(name, checkpoint, critic_updates=0, updates_per_episode=60, batch_size=32)
    practise_with(learner, world, range(4))

    def likes(network):
        genuine = network.forward
        network.forward = lambda observation, chunks: genuine(observation, chunks) * 0.0 - (chunks[..., 0, 0] + 0.9).square()[None].expand(2, -1)

    for network in (learner.q, learner.target_q, *((learner.noise_q,) if name == "dsrl" else ())):
        likes(network)
    monkeypatch.setattr(learner, "regress", lambda *arguments: None)
    if name == "dsrl":  # it has critics of noise, which it likes as well
        genuine = learner.descend
        monkeypatch.setattr(learner, "descend", lambda role, loss: 0.0 if role == "value" else genuine(role, loss))
    rows = learner.practice.rows(learner.practice.positions()[:20])
    observation = learner.policy.observe(rows.frames)

    def first_action() -> float:
        head, generator = learner.acting_policy().head, torch.Generator().manual_seed(0)
        if name == "dsrl":
            return float(head.draw(observation, generator)[0][:, 0, 0].detach().mean())
        return float(head.sample(observation, len(observation), generator)[:, 0, 0].mean())

    before = first_action()
    while learner.updates_due():
        learner.update()
    assert first_action() < before - 0.2


def test_dsrl_leaves_the_denoiser_as_it_is_and_begins_nearly_like_it(checkpoint, world):
    learner = begin("dsrl", checkpoint)
    frozen = {name: tensor.clone() for name, tensor in learner.policy.head.denoiser.state_dict().items()}
    noise, _ = learner.policy.head.draw(torch.randn(500, learner.checkpoint.config.observation_dim), torch.Generator().manual_seed(0))
    assert abs(float(noise.detach().mean())) < 0.05
    assert 0.8 < float(noise.detach().std()) < 1.1
    practise_with(learner, world, range(3))
    while learner.updates_due():
        learner.update()
    assert all(torch.equal(frozen[name], tensor) for name, tensor in learner.policy.head.denoiser.state_dict().items())


def test_the_weight_of_the_entropy_falls_when_there_is_too_much_and_rises_when_there_is_too_little(checkpoint, world):
    for wanted, rises in ((-3.0, False), (0.6, True)):
        learner = begin("sac", checkpoint, critic_updates=0, updates_per_episode=10, target_entropy=wanted)
        practise_with(learner, world, range(4))
        before = float(learner.numbers["log_temperature"])
        for _ in range(20):
            learner.update()
        assert (float(learner.numbers["log_temperature"]) > before) == rises


@pytest.mark.parametrize("name", ["sac", "dsrl"])
def test_the_weight_of_the_entropy_is_slower_than_the_actor_however_far_the_entropy_is_off(name, checkpoint, world):
    learner = begin(name, checkpoint, critic_updates=0, updates_per_episode=20, target_entropy=-10.0)  # far less than there is
    practise_with(learner, world, range(3))
    before = float(learner.numbers["log_temperature"])
    for _ in range(40):
        learner.update()
    assert 0.0 < before - float(learner.numbers["log_temperature"]) <= 40 * learner.config.polyak + 1e-5


def test_ddpg_believes_one_critic_and_td3_the_smaller_of_two(checkpoint):
    values = torch.tensor([[0.5, 0.1], [0.2, 0.4]])
    assert begin("ddpg", checkpoint)._believed(values).tolist() == pytest.approx([0.5, 0.1])
    assert begin("td3", checkpoint)._believed(values).tolist() == pytest.approx([0.2, 0.1])


@pytest.mark.parametrize("name", ["dppo", "dsrl"])
def test_learners_of_denoisers_refuse_other_heads_in_one_line(name, checkpoint):
    deterministic = learner_of("td3").prepare(quick("td3"), checkpoint, 0)
    with pytest.raises(UserError, match="needs a policy that denoises"):
        learner_of(name).prepare(quick(name), deterministic, 0)


def test_the_policy_is_disturbed_while_dagger_practises_but_not_its_gripper_and_not_when_judged(checkpoint, world):
    prepared = learner_of("dagger").prepare(quick("dagger", noise=0.3), checkpoint, 0)
    chunks = {}
    for explore in (True, False):
        actor = Actor(prepared, explore=explore, seed=4)
        actor.observe(world.reset(3))
        chunks[explore] = actor.act()
    plain = Actor(checkpoint, seed=4)
    plain.observe(world.reset(3))
    np.testing.assert_array_equal(chunks[False], plain.act())
    difference = np.abs(chunks[True] - chunks[False])
    assert difference[:, :-1].max() > 0.05
    assert difference[:, -1].max() == 0.0


def test_rows_of_large_error_are_drawn_more_often_where_that_is_wanted(checkpoint, world, monkeypatch):
    learner = begin("filtered_iql", checkpoint, priority=0.9, demonstration_share=0.0, batch_size=64)
    practise_with(learner, world, range(3))
    surprising = learner.practice.positions()[5]
    genuine = learner.q.forward
    monkeypatch.setattr(learner.q, "forward", lambda observation, chunks: genuine(observation, chunks) * 0.0 + learner.surprise)
    drawn = []
    for _ in range(40):
        rows = learner.sample()
        learner.surprise = torch.where(rows.positions == surprising, 50.0, 0.1).expand(2, -1)
        learner.regress(rows, learner.policy.observe(rows.frames), torch.zeros(64))
        drawn.append(float((rows.positions == surprising).float().mean()))
    assert np.mean(drawn[20:]) > 5 / len(learner.practice)
    assert float(rows.weights[rows.positions == surprising].max()) < float(rows.weights.max()), "what is drawn more often weighs less"


def test_rows_that_are_drawn_more_often_do_not_count_more_for_the_actor(checkpoint, world, monkeypatch):
    learner = begin("filtered_iql", checkpoint, demonstration_share=0.5, batch_size=16)
    practise_with(learner, world, range(3))
    rows, heard, genuine = learner.sample(), [], learner.policy.loss

    def watched(*arguments):
        losses = genuine(*arguments)
        losses.register_hook(heard.append)
        return losses

    monkeypatch.setattr(learner.policy, "loss", watched)
    rows.weights[:8] = torch.linspace(0.1, 0.8, 8)
    learner.clone(rows, learner.policy.observe(rows.frames), torch.ones(16))
    shares = heard[0] * rows.weights.sum()
    torch.testing.assert_close(shares.sort().values, rows.weights.sort().values)


@pytest.mark.parametrize("name", ["filtered_iql", "awac"])
def test_the_actor_is_updated_several_times_for_one_of_the_critics_each_time_with_other_rows(name, checkpoint, world, monkeypatch):
    learner = begin(name, checkpoint, critic_updates=0, actor_updates=3)
    practise_with(learner, world, range(3))
    clone, cloned = learner.clone, []
    monkeypatch.setattr(learner, "clone", lambda rows, observation, weight: cloned.append(rows) or clone(rows, observation, weight))
    learner.update()
    steps = {role: {int(state["step"]) for state in tuner.state.values()} for role, tuner in learner.tuners.items()}
    assert steps == {role: {3 if role == "actor" else 1} for role in steps}
    assert len({tuple(rows.positions.tolist()) for rows in cloned}) == 3


def test_a_steered_denoiser_inpaints_as_its_denoiser_does(checkpoint):
    learner = begin("dsrl", checkpoint)
    observation, previous = torch.randn(1, checkpoint.config.observation_dim), torch.rand(8, 4) - 0.5
    chunk = learner.policy.resume(observation, 1, torch.Generator().manual_seed(0), previous, elapsed=2, delay=3)
    torch.testing.assert_close(chunk[0, :3], previous[2:5], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["filtered_iql", "cloning", "awac"])
def test_a_policy_of_one_step_is_not_practised_with_by_cloning(name, checkpoint):
    config = dataclasses.replace(checkpoint.config, schedule=one_step(checkpoint.config.schedule))
    with pytest.raises(UserError, match="acts in one step"):
        begin(name, dataclasses.replace(checkpoint, config=config))


@pytest.mark.parametrize("name", LEARNERS)
def test_practice_without_processes_runs_with_every_learner(name, checkpoint, world, monkeypatch):
    world.close = lambda: None
    monkeypatch.setattr("mechanic_rl_ros.practice.Environment", lambda task, embodiment: world)
    seen = []
    config = quick(name, largest_divergence=1e-9)
    learner = practise(checkpoint, config, 0, 6, 0.0, lambda practised: seen.append(practised.number))
    assert seen == [1, 2, 3, 4, 5, 6]
    assert learner.updates_due() == 0


def test_a_rollback_to_untrained_critics_trains_them_before_the_actor_listens(checkpoint, world):
    learner = begin("sac", checkpoint, critic_updates=5)
    young = learner.snapshot()
    practise_with(learner, world, range(3))
    while learner.updates_due():
        learner.update()
    assert learner.actor_learns
    learner.go_back(young)
    assert not learner.actor_learns
    assert learner.updates_due() == 5
    before = {key: tensor.clone() for key, tensor in learner.policy.head.state_dict().items()}
    for _ in range(5):
        learner.update()
    assert all(torch.equal(before[key], tensor) for key, tensor in learner.policy.head.state_dict().items())
    assert learner.actor_learns


def test_what_only_practice_needs_does_not_leave_with_the_checkpoint(checkpoint, world):
    for name in ("dppo", "dagger"):
        learner = begin(name, checkpoint)
        practise_with(learner, world, range(1))
        tuned = learner.to_checkpoint()
        assert tuned.config.schedule.exploration == 0.0
        plain = Actor(dataclasses.replace(tuned, config=checkpoint.config), seed=4)
        exploring = Actor(tuned, seed=4, explore=True)
        for actor in (plain, exploring):
            actor.observe(world.reset(3))
        np.testing.assert_array_equal(plain.act(), exploring.act())


def test_chains_that_somebody_took_over_from_teach_ppo_nothing(checkpoint, world):
    learner = begin("dppo", checkpoint)
    world.reset(3)
    episode = run_episode(world, Actor(learner.checkpoint, explore=True), 3, takeover=3)
    assert episode.traces.size
    learner.add_episode(episode)
    assert not learner.flights


def test_dsrl_keeps_encoders_whose_names_look_like_its_own(checkpoint):
    other = dataclasses.replace(
        checkpoint, policy={name: tensor + 1.0 if name.startswith("encoders.") else tensor for name, tensor in checkpoint.policy.items()}
    )
    prepared = learner_of("dsrl").prepare(quick("dsrl"), other, 0)
    assert all(torch.equal(prepared.policy[name], tensor) for name, tensor in other.policy.items() if name.startswith("encoders."))
    classic = learner_of("td3").prepare(quick("td3"), prepared, 0)
    assert classic.config.steering == 0


def test_a_learner_that_draws_demonstrations_says_when_there_are_none(checkpoint):
    bare = dataclasses.replace(checkpoint, demonstrations=None)
    for name, changes in (("dagger", {}), ("awac", {"pretraining_updates": 3, "demonstration_share": 0.0})):
        with pytest.raises(UserError, match="has no demonstrations"):
            begin(name, bare, **changes)


def test_a_steered_denoiser_that_is_judged_has_one_answer_once_its_actor_has_learned_and_draws_before(checkpoint):
    learner = begin("dsrl", checkpoint)
    observation, previous = torch.randn(1, checkpoint.config.observation_dim), torch.rand(8, 4) - 0.5

    def sampled(seed: int, explore: bool) -> torch.Tensor:
        return learner.policy.sample(observation, 1, torch.Generator().manual_seed(seed), explore=explore)

    def resumed(seed: int, explore: bool) -> torch.Tensor:
        return learner.policy.resume(observation, 1, torch.Generator().manual_seed(seed), previous, elapsed=2, delay=1, explore=explore)

    for chunk in (sampled, resumed):
        assert not torch.equal(chunk(0, False), chunk(1, False)), "no noise is its favourite yet"
    learner.descend("actor", learner.policy.head.draw(observation, torch.Generator().manual_seed(0))[0].sum())
    for chunk in (sampled, resumed):
        assert torch.equal(chunk(0, False), chunk(1, False))
        assert not torch.equal(chunk(0, True), chunk(1, True))


MALFORMED = {
    "actions of another size": (lambda e: dataclasses.replace(e, actions=e.actions[:, :1]), "actions is"),
    "states of another size": (lambda e: dataclasses.replace(e, states=e.states[:, :1]), "states is"),
    "images of another size": (lambda e: dataclasses.replace(e, images={key: image[:, :20, :20] for key, image in e.images.items()}), "images"),
    "a camera missing": (lambda e: dataclasses.replace(e, images={"front": e.images["front"]}), "cameras"),
    "states that are no numbers": (lambda e: dataclasses.replace(e, states=e.states * np.float32(np.nan)), "states are not all finite"),
    "rewards that are no numbers": (lambda e: dataclasses.replace(e, rewards=e.rewards * np.float32(np.nan)), "rewards are not all finite"),
    "actions beyond their range": (lambda e: dataclasses.replace(e, actions=e.actions + np.float32(50.0)), "not normalised"),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_episode_is_refused_in_one_line_and_changes_nothing(checkpoint, practise, fault):
    spoil, words = MALFORMED[fault]
    learner = begin("filtered_iql", checkpoint)
    learner.add_episode(practise(1))
    held, known, voted = len(learner.practice), set(learner.episode_ids), copy.deepcopy(learner.gate.state())
    with pytest.raises(UserError, match=f"malformed: .*{words}"):
        learner.add_episode(spoil(practise(2)))
    assert (len(learner.practice), learner.episode_ids, learner.gate.state()) == (held, known, voted)


@pytest.mark.parametrize("fault", MALFORMED)
def test_malformed_demonstrations_are_refused_in_one_line(practise, fault):
    spoil, words = MALFORMED[fault]
    with pytest.raises(UserError, match=f"malformed: .*{words}"):
        clone([practise(1), spoil(practise(2))], BehaviourCloningConfig(encoder_updates=1, denoiser_updates=1))
