"""The learner with its replay in files: what a crash, damage and a restart leave of it."""

import shutil

import pytest

from mechanic_rl_ros.algorithms import learner_input
from mechanic_rl_ros.algorithms.filtered_iql import FilteredIql, FilteredIqlConfig

QUICK = FilteredIqlConfig(warmup_episodes=3, critic_updates=4, updates_per_episode=2, batch_size=16, replay_frames=60)


@pytest.fixture
def create(checkpoint):
    return lambda folder, seed=1: FilteredIql.create(QUICK, checkpoint, seed=seed, folder=folder / "replay")


@pytest.fixture
def encoded(monkeypatch) -> list[str]:
    """Ids of the episodes that were encoded."""
    ids, genuine = [], learner_input.encode_episode

    def watched(policy, episode, *arguments):
        ids.append(episode.id)
        return genuine(policy, episode, *arguments)

    monkeypatch.setattr(learner_input, "encode_episode", watched)
    return ids


def learn(learner: FilteredIql, episodes, updates: int = 2) -> None:
    for episode in episodes:
        learner.add_episode(episode)
    for _ in range(updates):
        learner.update()


def test_a_learner_killed_after_it_wrote_episodes_continues_bit_by_bit_and_encodes_none_again(create, practise, tmp_path, encoded):
    learner = create(tmp_path / "run")
    episodes = [practise(seed, expert=seed % 2 == 0) for seed in range(12)]
    learn(learner, episodes[:9], updates=6)
    learner.save(tmp_path / "run" / "state")
    for episode in episodes[9:]:
        learner.add_episode(episode)
    shutil.copytree(tmp_path / "run", tmp_path / "crashed")
    learn(learner, [], updates=5)
    encoded.clear()
    resumed = create(tmp_path / "crashed", seed=99)
    resumed.restore(tmp_path / "crashed" / "state")
    learn(resumed, episodes, updates=5)
    assert encoded == []
    assert learner.weights() == resumed.weights()
    assert {**learner.status(), "update_ms": 0} == {**resumed.status(), "update_ms": 0}
    assert resumed.practice.episodes < 12, "the ring has gone round"


def test_a_save_does_not_grow_with_the_frames_of_the_replay(create, practise, tmp_path):
    learner = create(tmp_path)
    sizes = []
    for seed in range(12):
        learner.add_episode(practise(seed))
        if seed in (1, 11):
            learner.save(tmp_path / "state")
            sizes.append((tmp_path / "state" / "learner.safetensors").stat().st_size)
    assert sizes[1] - sizes[0] < 10 * 100


def test_of_a_damaged_replay_only_the_frames_are_made_anew(create, practise, tmp_path, encoded):
    learner = create(tmp_path)
    episodes = [practise(seed, expert=seed > 0) for seed in range(5)]
    learn(learner, episodes, updates=6)
    learner.save(tmp_path / "state")
    path = tmp_path / "replay" / "frames.bin"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    encoded.clear()
    resumed = create(tmp_path)
    resumed.restore(tmp_path / "state")
    assert len(resumed.practice) < len(learner.practice)
    assert [resumed.add_episode(episode) for episode in episodes] == [True, False, False, False, False]
    assert encoded == [episodes[0].id]
    assert {**learner.status(), "update_ms": 0} == {**resumed.status(), "update_ms": 0}
    assert learner.weights() == resumed.weights()
