"""The guard: ruined weights never get out, a drop of success is undone, and nothing else changes."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from mechanic_rl_ros.algorithms.filtered_iql import FilteredIql, FilteredIqlConfig
from mechanic_rl_ros.algorithms.guard import PATIENCE, chosen_by
from mechanic_rl_ros.algorithms.registry import learner_of
from mechanic_rl_ros.algorithms.success_record import PERIOD
from mechanic_rl_ros.algorithms.weight_check import FARTHEST
from mechanic_rl_ros.data import Episode, Outcome, Source
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import checkpoint_directory
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint, unpack_weights
from mechanic_rl_ros.rollout import run_episode
from mechanic_rl_ros.sim.environment import Environment

QUICK = FilteredIqlConfig(warmup_episodes=3, critic_updates=4, updates_per_episode=2, batch_size=64, replay_frames=600)


@pytest.fixture
def checkpoint() -> Checkpoint:
    """A policy that has something to lose."""
    return Checkpoint.load(checkpoint_directory("lift"))


@pytest.fixture(scope="module")
def lifted() -> list[Episode]:
    """What the shipped policy does, solved and not; but as if of no version, so that the guard does not count them."""
    checkpoint = Checkpoint.load(checkpoint_directory("lift"))
    environment, actor = Environment(checkpoint.task, checkpoint.embodiment), Actor(checkpoint)
    episodes = [run_episode(environment, actor, seed) for seed in range(6)]
    return [dataclasses.replace(episode, sources=np.full(episode.steps, Source.HOLD, np.uint8)) for episode in episodes]


@pytest.fixture
def make(checkpoint, lifted):
    """A learner that has published a version with an actor that learns."""

    def make(**changes) -> FilteredIql:
        learner = FilteredIql.create(dataclasses.replace(QUICK, **changes), checkpoint, seed=1)
        learner.farthest = math.inf  # the first steps lead far: what is tested here does not hang on how far
        for episode in lifted:
            learner.add_episode(episode)
        update(learner, 6)
        assert published(learner)[0] == 6
        return learner

    return make


@pytest.fixture
def learner(make) -> FilteredIql:
    return make()


@pytest.fixture
def acted(practise):
    """An episode that a policy acted in."""
    episode = practise(0)

    def acted(version: int, success: bool = True, **changes) -> Episode:
        outcome = Outcome.SUCCESS if success else Outcome.TIMEOUT
        versions, sources = np.full(episode.steps, version), np.full(episode.steps, int(Source.POLICY), np.uint8)
        return dataclasses.replace(episode, **{"outcome": outcome, "policy_versions": versions, "sources": sources, **changes})

    return acted


def update(learner: FilteredIql, count: int) -> None:
    for _ in range(count):
        learner.update()


def published(learner: FilteredIql) -> tuple[int, dict[str, torch.Tensor]]:
    return unpack_weights(learner.weights(), learner.checkpoint.signature)[:2]


def ruin(learner: FilteredIql, deviation: float = 10.0) -> None:
    """Large random weights in the actor, and in what its tuner averages."""
    torch.manual_seed(0)
    for tensor in (*learner.policy.head.parameters(), *(state["average"] for state in learner.tuners["actor"].state.values())):
        tensor.data.normal_(0.0, deviation)


def trained(learner: FilteredIql) -> tuple[bytes, str]:
    """Networks and tuners, all of it."""
    snapshot = learner.snapshot()
    return snapshot.data, snapshot.groups


def same(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("deviation", [1.0, 10.0, 1e5, torch.inf])
def test_ruined_weights_never_get_out_and_what_acted_goes_on_acting(learner, deviation):
    before, checkpoint = published(learner)[1], learner.to_checkpoint()
    ruin(learner, deviation)
    update(learner, 1)
    version, tensors = published(learner)
    assert version == 6
    assert same(tensors, before)
    assert same(learner.to_checkpoint().policy, checkpoint.policy)
    assert learner.to_checkpoint().version == 6
    status = learner.status()
    assert (status["withheld"], status["rollbacks"]) == (1, 0)
    assert status["notice"].startswith("version 7 withheld: ")


def test_a_version_is_judged_once(learner):
    ruin(learner)
    update(learner, 1)
    for _ in range(2 * PATIENCE):
        learner.weights()
    assert learner.status()["withheld"] == 1


def test_when_many_versions_in_a_row_are_withheld_the_learner_goes_back_and_the_next_one_acts(learner):
    start = published(FilteredIql.create(QUICK, learner.checkpoint, seed=1))[1]
    ruin(learner)
    for _ in range(PATIENCE):
        assert published(learner)[0] == 6
        update(learner, 1)
    version, tensors = published(learner)
    assert version == learner.version == 6 + PATIENCE + 1
    assert same(tensors, start), "the newest snapshot is of the beginning: no period is over"
    assert f"{PATIENCE} versions in a row were withheld" in learner.status()["notice"]
    update(learner, 2)
    assert published(learner)[0] == version + 2
    assert (learner.status()["withheld"], learner.status()["rollbacks"], learner.status()["notice"]) == (PATIENCE, 1, "")


def learn_well_then_badly(learner, acted) -> bytes:
    """Two good periods, then a bad one; the state with which the better one began."""
    for number in range(PERIOD):
        learner.guard.count(learner, acted(6, success=number % 2 == 0))
    update(learner, 2)
    assert published(learner)[0] == 8
    good = trained(learner)
    for _ in range(PERIOD):
        learner.guard.count(learner, acted(8))
    update(learner, 3)
    assert published(learner)[0] == 11
    for _ in range(PERIOD - 1):
        learner.guard.count(learner, acted(11, success=False))
    assert trained(learner) != good
    assert learner.status()["rollbacks"] == 0
    return good


def test_when_success_drops_networks_and_tuners_return_to_the_best_period_as_a_new_version(learner, acted):
    good = learn_well_then_badly(learner, acted)
    rows, drawn = len(learner.practice), learner.generator.get_state()
    learner.gate.prefers_best_of_n = True
    learner.guard.count(learner, acted(11, success=False))
    assert trained(learner) == good
    assert not learner.gate.prefers_best_of_n, "the critics that it has seen to choose well are gone"
    assert learner.version == 12
    assert published(learner)[0] == 12
    assert (len(learner.practice), learner.updates) == (rows, 11)
    assert torch.equal(learner.generator.get_state(), drawn)
    assert learner.status()["notice"].startswith(
        f"went back to version 8, which is now version 12: 0 of the last {PERIOD} episodes succeeded, {PERIOD} of {PERIOD}"
    )
    for _ in range(2 * PERIOD):
        learner.guard.count(learner, acted(11, success=False))
    for number in range(2 * PERIOD):
        learner.guard.count(learner, acted(12, success=number % 2 == 0))
    assert learner.status()["rollbacks"] == 1, "what was seen before does not count again, nor do episodes of what was undone"


def test_a_learner_that_was_killed_still_goes_back(learner, checkpoint, acted, tmp_path):
    good = learn_well_then_badly(learner, acted)
    learner.save(tmp_path / "state")
    resumed = FilteredIql.create(QUICK, checkpoint, seed=99)
    resumed.restore(tmp_path / "state")
    resumed.guard.count(resumed, acted(11, success=False))
    assert trained(resumed) == good
    assert published(resumed)[0] == 12


def test_what_is_withheld_stays_so_after_a_restart(learner, checkpoint, tmp_path):
    before = published(learner)[1]
    ruin(learner)
    update(learner, 1)
    learner.save(tmp_path / "state")
    resumed = FilteredIql.create(QUICK, checkpoint, seed=99)
    resumed.restore(tmp_path / "state")
    assert same(published(resumed)[1], before)
    assert {**resumed.status(), "update_ms": 0} == {**learner.status(), "update_ms": 0}
    for each in (learner, resumed):
        update(each, PATIENCE)
    assert learner.weights() == resumed.weights()


def test_a_guard_that_withholds_nothing_changes_no_bit_of_learning(make, acted):
    guarded, alone = make(), make(guard=False)
    for each in (guarded, alone):
        for _ in range(3):
            update(each, 2)
            each.weights()
            for _ in range(PERIOD):
                each.guard.count(each, acted(each.version))
    assert (guarded.guard.withheld, guarded.guard.rollbacks) == (0, 0)
    assert guarded.guard.snapshots
    assert not alone.guard.snapshots
    assert guarded.weights() == alone.weights()
    assert trained(guarded) == trained(alone)
    assert torch.equal(guarded.generator.get_state(), alone.generator.get_state())


def test_without_a_guard_everything_acts(make):
    learner = make(guard=False)
    ruin(learner)
    update(learner, 1)
    assert published(learner)[0] == 7


def test_only_what_the_policy_did_alone_counts_for_the_version_that_chose_most_of_it(acted):
    assert chosen_by(acted(7)) == 7
    steps = acted(7).steps
    assert chosen_by(acted(7, policy_versions=np.array([7] * 2 + [8] * (steps - 2)))) == 8
    assert chosen_by(acted(7, sources=np.array([Source.HUMAN] + [Source.POLICY] * (steps - 1)))) == -1
    assert chosen_by(acted(7, sources=np.array([Source.HOLD] + [Source.POLICY] * (steps - 1)))) == 7
    assert chosen_by(acted(7, sources=np.full(steps, Source.HOLD))) == -1


def test_aborted_episodes_say_nothing_about_success(learner, acted):
    before = learner.guard.record.state()
    learner.guard.count(learner, acted(6, outcome=Outcome.ABORTED))
    assert learner.guard.record.state() == before


def test_a_snapshot_is_written_once_and_checked(learner, checkpoint, tmp_path):
    learner.save(tmp_path / "state")
    (file,) = (tmp_path / "state").glob("snapshot_*")
    place = file.stat().st_ino
    update(learner, 1)
    learner.save(tmp_path / "state")
    assert file.stat().st_ino == place
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match="checksum"):
        FilteredIql.create(QUICK, checkpoint).restore(tmp_path / "state")


@pytest.mark.parametrize("name", ["sac", "td3", "ddpg", "dsrl"])
def test_an_actor_that_climbs_a_critic_may_go_far_but_not_jump(checkpoint, lifted, name):
    kind = learner_of(name)
    config = dataclasses.replace(kind.Config.from_yaml(), warmup_episodes=1, critic_updates=0, batch_size=16)
    learner = kind.create(config, kind.prepare(config, checkpoint, 0), seed=1)
    for episode in lifted:
        learner.add_episode(episode)
    update(learner, 2)
    assert published(learner)[0] == 2
    averages = [state["average"] for state in learner.tuners["actor"].state.values()]
    torch.manual_seed(0)
    torch._foreach_add_(averages, [0.3 * torch.randn_like(average) for average in averages])
    learner.version += 1
    assert published(learner)[0] == 2
    assert "deviations away from those of the acting policy" in learner.status()["notice"]
    head = learner.acting_policy().head.state_dict()
    learner.guard.first = learner.guard.acting
    learner.guard.acting = {**learner.guard.acting, **{f"head.{key}": tensor for key, tensor in head.items()}}  # as if it had come here by short steps
    learner.version += 1
    assert published(learner)[0] == 4


def test_ruin_does_not_pass_in_small_steps(learner):
    learner.farthest, learner.guard.first = FARTHEST, learner.guard.acting
    torch.manual_seed(0)
    averages = [state["average"] for state in learner.tuners["actor"].state.values()]
    harm = [0.01 * torch.randn_like(average) for average in averages]
    while not learner.guard.withheld:
        torch._foreach_add_(averages, harm)
        learner.version += 1
        assert published(learner)[0] >= learner.version - 1
        assert learner.version < 100
    assert "those of what acted when this period began" in learner.status()["notice"]
