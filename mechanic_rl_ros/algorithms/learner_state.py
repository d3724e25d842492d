"""Everything that a learner is, as one folder: written in one step, read back bit-equal."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save
from torch import Tensor

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.folder import existing_folder, replacing_folder
from mechanic_rl_ros.policy.tensors import read_tensors
from mechanic_rl_ros.tuner import RelativeMechanic

if TYPE_CHECKING:
    from mechanic_rl_ros.algorithms.learner import Learner

MANIFEST, TENSORS = "learner.json", "learner.safetensors"


class DamagedStateError(UserError):
    """A saved learner that nobody can read any more."""


def write_learner(directory: Path, learner: Learner) -> None:
    """Saves ``learner`` into ``directory``.

    Raises:
        UserError: The disk is full, or the place cannot be written.
    """
    tensors: dict[str, Tensor] = {"generator": learner.generator.get_state()}
    groups: dict[str, Any] = {}
    for name, network in learner.networks.items():
        tensors.update({f"network/{name}/{key}": tensor for key, tensor in network.state_dict().items()})
    for role, tuner in learner.tuners.items():
        state = tuner.state_dict()
        groups[role] = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
        tensors.update({f"tuner/{role}/{index}/{key}": tensor for index, entry in state["state"].items() for key, tensor in entry.items()})
    parts = {"number": learner.numbers, "practice": learner.practice.state(), "shown": learner.demonstrations.state(), "memory": learner.memory()}
    tensors.update({f"{part}/{key}": tensor for part, own in parts.items() for key, tensor in own.items()})
    data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    manifest = {
        "algorithm": type(learner).__name__,
        "signature": learner.checkpoint.signature,
        "encoder": learner.fingerprint,
        "generator_device": learner.generator.device.type,
        "sha256": hashlib.sha256(data).hexdigest(),
        "tuners": groups,
        "gate": learner.gate.state(),
        "episode_ids": sorted(learner.episode_ids),
        **learner.counters(),
    }
    with replacing_folder(directory, "learner state") as folder:
        (folder / TENSORS).write_bytes(data)
        (folder / MANIFEST).write_text(json.dumps(manifest))
    learner.practice.saved()


def read_learner(directory: Path, learner: Learner) -> None:
    """Restores ``learner`` from ``directory``.

    Raises:
        DamagedStateError: The save is missing or damaged.
        UserError: It is of another checkpoint, or may not be read.
    """
    folder = existing_folder(directory)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        data = (folder / TENSORS).read_bytes()
    except OSError as error:
        kind = UserError if isinstance(error, PermissionError) else DamagedStateError
        raise kind(f"cannot read learner state {directory} ({error.strerror}): start without it") from error
    except ValueError as error:
        raise DamagedStateError(f"learner state {directory} is not valid JSON: it is damaged, start without it") from error
    if not isinstance(manifest, dict) or manifest.get("sha256") != hashlib.sha256(data).hexdigest():
        raise DamagedStateError(f"learner state {directory} does not match its checksum: it is damaged, start without it")
    if (manifest.get("signature"), manifest.get("encoder")) != (learner.checkpoint.signature, learner.fingerprint):
        raise UserError(f"learner state {directory} belongs to another base checkpoint: start from that one, or without it")
    if manifest.get("algorithm") != type(learner).__name__:
        raise UserError(f"learner state {directory} is of learner {manifest.get('algorithm')}: go on with that one, or choose another run directory")
    tensors = read_tensors(data, f"learner state {directory}", DamagedStateError)
    try:
        _take(learner, manifest, tensors)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedStateError(f"learner state {directory} is incomplete ({str(error).splitlines()[0]}): it is damaged, start without it") from error


def _take(learner: Learner, manifest: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    for name, network in learner.networks.items():
        network.load_state_dict(_below(tensors, f"network/{name}"))
    for role, tuner in learner.tuners.items():
        _restore_tuner(tuner, _below(tensors, f"tuner/{role}"), manifest["tuners"][role])
    _restore_generator(learner, manifest, tensors["generator"])
    for name, number in learner.numbers.items():
        number.copy_(tensors[f"number/{name}"])
    learner.practice.restore(_below(tensors, "practice"))
    learner.demonstrations.restore(_below(tensors, "shown"))
    learner.set_memory(_below(tensors, "memory"))
    learner.gate.restore(manifest["gate"])
    learner.episode_ids = set(manifest["episode_ids"])
    learner.set_counters(manifest)


def _restore_generator(learner: Learner, manifest: dict[str, Any], state: Tensor) -> None:
    """On another kind of device random numbers begin anew: its generator has another state, and other ones after each version."""
    generator = learner.generator
    if manifest["generator_device"] == generator.device.type:
        generator.set_state(state)
    else:
        generator.manual_seed(generator.initial_seed() + manifest["version"])


def _restore_tuner(tuner: RelativeMechanic, tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = tensor
    own = tuner.state_dict()["param_groups"]
    tuner.load_state_dict({"state": state, "param_groups": [{**mine, **saved} for mine, saved in zip(own, groups, strict=True)]})


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")}
