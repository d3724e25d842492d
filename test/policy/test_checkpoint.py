"""Checkpoints: complete, atomic, and refused with one clear line when anything is wrong."""

import dataclasses
import json
import os

import pytest
import torch

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy import folder as folder_module
from mechanic_rl_ros.policy.acting import acting_tensors
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig, signature
from mechanic_rl_ros.policy.critic import TwinQ
from mechanic_rl_ros.policy.part_config import MlpDenoiserConfig, UnetDenoiserConfig
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.tensors import shapes_of
from mechanic_rl_ros.policy.weights import pack_weights, transfer_budget
from mechanic_rl_ros.transfer import WEIGHTS, Inbox, Outbox


def test_a_checkpoint_is_read_back_as_it_was_written(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "c")
    again = Checkpoint.load(tmp_path / "c", checkpoint.embodiment)
    assert (again.task, again.config, again.version, again.metadata) == (checkpoint.task, checkpoint.config, checkpoint.version, checkpoint.metadata)
    for name in ("policy", "critics", "demonstrations"):
        mine, theirs = getattr(checkpoint, name), getattr(again, name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert sorted(os.listdir(tmp_path)) == ["c"]


def test_a_missing_checkpoint_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot read checkpoint"):
        Checkpoint.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["weights.safetensors", "demonstrations.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_file_is_refused(checkpoint, tmp_path, name, damage):
    checkpoint.save(tmp_path)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    with pytest.raises(UserError, match=r"damaged|cannot read"):
        Checkpoint.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json", '{"format": 99}', '{"format": 1, "task": 3}'])
def test_a_malformed_manifest_is_refused(checkpoint, tmp_path, text):
    checkpoint.save(tmp_path)
    (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(UserError):
        Checkpoint.load(tmp_path)


def test_an_architecture_that_contradicts_its_signature_is_refused(checkpoint, tmp_path):
    checkpoint.save(tmp_path)
    manifest = json.loads((tmp_path / "checkpoint.json").read_text())
    manifest["config"]["head"]["width"] = 100
    (tmp_path / "checkpoint.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="contradicts itself"):
        Checkpoint.load(tmp_path)


def with_other_lengths(checkpoint):
    return dataclasses.replace(checkpoint, demonstrations={**checkpoint.demonstrations, "lengths": torch.tensor([4, 6])})


def with_another_embodiment(checkpoint, **changes):
    return dataclasses.replace(checkpoint, embodiment=dataclasses.replace(checkpoint.embodiment, **changes))


def with_weight(checkpoint, value):
    bias = checkpoint.policy["head.enter.bias"].clone()
    bias[0] = value
    return dataclasses.replace(checkpoint, policy={**checkpoint.policy, "head.enter.bias": bias})


def without_deviation(checkpoint):
    deviation = checkpoint.policy["frame_deviation"].clone()
    deviation[-1] = 0.0
    return dataclasses.replace(checkpoint, policy={**checkpoint.policy, "frame_deviation": deviation})


def with_outsized_actions(checkpoint):
    shown = checkpoint.demonstrations
    return dataclasses.replace(checkpoint, demonstrations={**shown, "actions": torch.full_like(shown["actions"], 500.0)})


WRONG = {
    "architecture": (
        lambda c: dataclasses.replace(c, config=PolicyConfig.for_embodiment(c.embodiment, head=MlpDenoiserConfig(width=100))),
        "made for another architecture",
    ),
    "not finite": (lambda c: with_weight(c, float("nan")), "not finite"),
    "too large": (lambda c: with_weight(c, 1e6), "absurdly large"),
    "lengths": (with_other_lengths, "demonstrations"),
    "cameras": (
        lambda c: with_another_embodiment(c, cameras={"roof": c.embodiment.cameras["front"]}),
        "its policy sees camera .*, its embodiment has only roof",
    ),
    "state": (lambda c: with_another_embodiment(c, state=c.embodiment.state[1:]), "4 numbers in the state, its embodiment 3"),
    "action": (lambda c: with_another_embodiment(c, action=c.embodiment.action[1:]), "4 numbers in the action, its embodiment 3"),
    "version": (lambda c: dataclasses.replace(c, version=-5), "version -5 is not between 0 and"),
    "version too large": (lambda c: dataclasses.replace(c, version=2**80), "version .* is not between 0 and"),
    "task": (lambda c: dataclasses.replace(c, task="../../x"), "its task has another name"),
    "no deviation": (without_deviation, "frame_deviation is zero somewhere"),
    "demonstrated actions": (with_outsized_actions, "actions of its demonstrations are not normalised"),
    "best of n": (lambda c: dataclasses.replace(c, metadata={"prefers_best_of_n": "no"}), "prefers_best_of_n is neither true nor false"),
    "noise": (lambda c: dataclasses.replace(c, metadata={"practice_noise": "abc"}), "practice_noise is 'abc'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_belong_together_is_neither_written_nor_read(checkpoint, tmp_path, monkeypatch, wrong):
    spoil, words = WRONG[wrong]
    checkpoint.save(tmp_path / "c")
    spoilt = spoil(checkpoint)
    with pytest.raises(UserError, match=f"is not written.*{words}"):
        spoilt.save(tmp_path / "c")
    Checkpoint.load(tmp_path / "c")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "_check", lambda self, what: None)  # somebody else wrote it
        spoilt.save(tmp_path / "c")
    with pytest.raises(UserError, match=f"^checkpoint .*/c[:,] .*{words}"):
        Checkpoint.load(tmp_path / "c")


def test_folders_of_a_similar_name_are_left_alone(checkpoint, tmp_path):
    for name in ("c.old", ".c.old", "c.previous"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years")
    checkpoint.save(tmp_path / "c")
    checkpoint.save(tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.old", "c", "c.old", "c.previous"]
    assert all((tmp_path / name / "thesis.tex").exists() for name in ("c.old", ".c.old", "c.previous"))


def test_another_embodiment_is_refused_with_the_differing_line(checkpoint, tmp_path):
    checkpoint.save(tmp_path)
    other = dataclasses.replace(checkpoint.embodiment, policy_rate=20.0)
    with pytest.raises(UserError, match="policy_rate"):
        Checkpoint.load(tmp_path, other)


@pytest.mark.parametrize("point", ["rename-1", "rename-2", "fsync-1", "fsync-3"])
def test_dying_at_any_moment_of_a_save_leaves_a_checkpoint_that_loads(checkpoint, tmp_path, monkeypatch, point):
    class Died(BaseException):
        pass

    path = tmp_path / "c"
    checkpoint.save(path)
    call, number = point.split("-")
    genuine, calls = getattr(os, call), []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == int(number):
            raise Died
        return genuine(*arguments)

    monkeypatch.setattr(folder_module.os, call, dying)
    with pytest.raises(Died):
        dataclasses.replace(checkpoint, version=8).save(path)
    monkeypatch.setattr(folder_module.os, call, genuine)
    assert Checkpoint.load(path).version in (7, 8)
    dataclasses.replace(checkpoint, version=9).save(path)
    assert Checkpoint.load(path).version == 9
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["c"]


def test_a_full_disk_is_one_line_and_the_old_checkpoint_stays(checkpoint, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "c")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        dataclasses.replace(checkpoint, version=8).save(tmp_path / "c")
    monkeypatch.undo()
    assert Checkpoint.load(tmp_path / "c").version == 7


def test_the_signature_tells_architectures_apart(checkpoint):
    config = checkpoint.config
    assert signature(config) == signature(PolicyConfig.from_dict(json.loads(json.dumps(config.to_dict()))))
    assert signature(config) != signature(dataclasses.replace(config, head=MlpDenoiserConfig(width=100)))


def test_a_file_that_is_not_safetensors_is_refused_even_with_a_right_checksum(checkpoint, tmp_path):
    import hashlib

    checkpoint.save(tmp_path)
    data = b"\x80\x04K\x01." * 100
    (tmp_path / "weights.safetensors").write_bytes(data)
    manifest = json.loads((tmp_path / "checkpoint.json").read_text())
    manifest["files"]["weights.safetensors"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (tmp_path / "checkpoint.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="damaged"):
        Checkpoint.load(tmp_path)


def test_two_versions_of_a_large_policy_wait_in_the_outbox_and_one_is_taken(checkpoint):
    config = dataclasses.replace(checkpoint.config, head=UnetDenoiserConfig(widths=(160, 320, 640)))
    tensors = acting_tensors(Policy(config), TwinQ(config))
    payload = pack_weights(1, tensors, {"signature": signature(config)})
    assert len(payload) > 64 * 2**20, "larger than what is allowed without asking"
    budget = transfer_budget(shapes_of(tensors))
    outbox, inbox = Outbox("learner", keep=2, limit_bytes=budget), Inbox(WEIGHTS, limit_bytes=budget, signature=signature(config))
    manifests = [outbox.put(WEIGHTS, f"weights_{version}", version, payload, signature(config)) for version in (1, 2)]
    assert outbox.held_bytes == 2 * len(payload)
    assert inbox.accept(manifests[1])
