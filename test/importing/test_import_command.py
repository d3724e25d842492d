"""``mechanic-rl import``, in this process: what a person gets, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mechanic_rl_ros.algorithms.filtered_iql import FilteredIql, FilteredIqlConfig
from mechanic_rl_ros.cli.main import app
from mechanic_rl_ros.collection import CollectionConfig, collect
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.evaluation import evaluate
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.replay.store import EpisodeStore


@pytest.fixture
def folder(published, tmp_path):
    settings = published.make_settings(num_inference_steps=2, noise_scheduler_type="DDIM")
    return published.write_folder(tmp_path / "theirs", settings, published.make_tensors(settings), published.make_statistics())


@pytest.fixture
def run():
    def call(*arguments):
        done = CliRunner().invoke(app, ["import", *map(str, arguments)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return " ".join(done.output.split())

    return call


def test_a_policy_becomes_a_checkpoint_that_acts(run, folder, tmp_path):
    said = run(folder, "--task", "lift", "--output", tmp_path / "ours")
    assert "2 frames in, 8 actions out, 4 executed, ddim with 2 steps" in said
    assert "observation.images.front as camera front" in said
    assert "it can act, and be finetuned after importing it with --demonstrations" in said
    checkpoint = Checkpoint.load(tmp_path / "ours", load_embodiment())
    assert evaluate(checkpoint, "lift", range(1)).success in (0.0, 1.0)


def test_without_a_place_for_it_it_is_only_looked_at(run, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run(folder)
    assert "M parameters" in shown
    assert "Nothing was written" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
    with pytest.raises(UserError, match="--task"):
        run(folder, "--output", tmp_path / "ours")


@pytest.mark.parametrize("place", [".", "../theirs/.."])
def test_the_folder_that_one_is_in_is_not_replaced(run, folder, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="give the name of a new one with --output"):
        run(folder, "--task", "lift", "--output", place)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_training_data_in_other_units_are_named(run, published, tmp_path):
    settings, statistics = published.make_settings(), published.make_statistics()
    statistics["action"] = {"min": torch.full((4,), -512.0), "max": torch.full((4,), 512.0)}  # mm per second
    folder = published.write_folder(tmp_path / "theirs", settings, published.make_tensors(settings), statistics)
    with pytest.raises(UserError, match=r"its action gripper goes to .* times .*--units normalised"):
        run(folder, "--task", "lift", "--output", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    with pytest.raises(UserError, match=r"its action .* goes to 512 times .*train it with these units"):
        run(folder, "--task", "lift", "--output", tmp_path / "ours", "--units", "normalised")
    assert not (tmp_path / "ours").exists()


def test_a_task_that_cannot_be_a_name_is_refused(run, folder, tmp_path):
    with pytest.raises(UserError, match="cannot be a name"):
        run(folder, "--task", "../x y", "--output", tmp_path / "ours")


def test_with_demonstrations_it_can_be_finetuned(run, folder, tmp_path):
    store = EpisodeStore(tmp_path / "shown")
    for episode in collect("lift", load_embodiment(), CollectionConfig(episodes=1)):
        store.add(episode)
    run(folder, "--task", "lift", "--output", tmp_path / "ours", "--demonstrations", tmp_path / "shown")
    checkpoint = Checkpoint.load(tmp_path / "ours")
    learner = FilteredIql.create(FilteredIqlConfig(batch_size=8, critic_updates=0, warmup_episodes=1), checkpoint)
    learner.add_episode(next(iter(store.load())))
    learner.successes = learner.failures = 1  # else there would be nothing to gain
    learner.update()
    assert learner.status()["actor_loss"] > 0.0


def test_an_action_that_never_changed_in_training_does_not_outweigh_the_others(run, published, tmp_path):
    settings, statistics, robot = published.make_settings(num_inference_steps=2, noise_scheduler_type="DDIM"), published.make_statistics(), load_embodiment()
    statistics["action"]["min"][3] = statistics["action"]["max"][3] = 0.7 * robot.action[3].scale
    folder = published.write_folder(tmp_path / "theirs", settings, published.make_tensors(settings), statistics)
    moving = next(collect("lift", robot, CollectionConfig(episodes=1)))
    rounded = moving.actions.copy()
    rounded[:, 3] = 0.7 + 1e-5 * np.arange(len(rounded))
    for name, actions in (("moving", moving.actions), ("still", rounded)):
        EpisodeStore(tmp_path / name).add(dataclasses.replace(moving, actions=actions))
    with pytest.raises(UserError, match=f"moves action {robot.action[3].name}, which never changed"):
        run(folder, "--task", "lift", "--output", tmp_path / "ours", "--demonstrations", tmp_path / "moving")
    assert not (tmp_path / "ours").exists()
    run(folder, "--task", "lift", "--output", tmp_path / "ours", "--demonstrations", tmp_path / "still")
    learner = FilteredIql.create(FilteredIqlConfig(batch_size=8, critic_updates=0, warmup_episodes=1), Checkpoint.load(tmp_path / "ours"))
    learner.add_episode(moving)  # as when a person takes over
    learner.successes = learner.failures = 1  # else there would be nothing to gain
    learner.update()
    assert 0.0 < learner.status()["actor_loss"] < 10.0


def test_demonstrations_that_are_none_are_refused(run, folder, tmp_path):
    with pytest.raises(UserError, match="not a folder of demonstrations"):
        run(folder, "--task", "lift", "--output", tmp_path / "ours", "--demonstrations", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no solved demonstration"):
        run(folder, "--task", "lift", "--output", tmp_path / "ours", "--demonstrations", tmp_path / "empty")


def test_actions_are_scaled_to_the_robot_unless_they_are_already(run, folder, tmp_path):
    run(folder, "--task", "lift", "--output", tmp_path / "a")
    run(folder, "--task", "lift", "--output", tmp_path / "b", "--units", "normalised")
    physical, normalised = (Checkpoint.load(tmp_path / name).policy["action_deviation"] for name in ("a", "b"))
    scales = [channel.scale for channel in load_embodiment().action]
    assert (physical * physical.new_tensor(scales)).tolist() == pytest.approx(normalised.tolist())


def test_what_differs_from_the_robot_is_said_in_one_line(run, published, folder, tmp_path):
    settings = json.loads((folder / "config.json").read_text())
    settings["input_features"]["observation.images.overhead"] = settings["input_features"].pop("observation.images.front")
    settings["input_features"]["observation.images.wrist"]["shape"] = settings["input_features"]["observation.images.overhead"]["shape"] = [3, 96, 96]
    statistics = published.make_statistics()
    statistics["observation.images.overhead"] = statistics.pop("observation.images.front")
    other = published.write_folder(tmp_path / "other", settings, published.make_tensors(settings), statistics)
    with pytest.raises(UserError, match=r"its images are 96x96, those of camera wrist 48x48; .*there is no camera overhead, only front, wrist") as refusal:
        run(other, "--task", "lift", "--output", tmp_path / "ours")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "ours").exists()


def test_a_camera_can_be_named(run, folder, tmp_path):
    swapped = ("--camera", "observation.images.front=wrist", "--camera", "observation.images.wrist=front")
    run(folder, "--task", "lift", "--output", tmp_path / "ours", *swapped)
    assert Checkpoint.load(tmp_path / "ours").config.cameras == ("wrist", "front")
    for wrong, words in (("front", "give NAME=KEY"), ("observation.images.top=front", "takes no image observation.images.top")):
        with pytest.raises(UserError, match=words):
            run(folder, "--task", "lift", "--output", tmp_path / "x", "--camera", wrong)


def test_a_place_that_is_neither_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="give the folder of a LeRobot policy"):
        run(tmp_path / "nothing", "--task", "lift", "--output", tmp_path / "ours")
