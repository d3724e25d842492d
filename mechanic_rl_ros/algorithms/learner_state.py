"""Everything that a learner is, as one folder: written in one step, read back bit-equal."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mechanic_rl_ros.algorithms.snapshot import Snapshot, below, pack_training, to_bytes, unpack_training
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.folder import existing_folder, replacing_folder
from mechanic_rl_ros.policy.tensors import read_tensors

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
    tensors, groups = pack_training(learner.networks, learner.tuners, learner.numbers)
    tensors["generator"] = learner.generator.get_state()
    parts = {"practice": learner.practice.state(), "shown": learner.demonstrations.state(), "memory": learner.memory()}
    parts |= {"acting": dict(learner.guard.acting), "first": dict(learner.guard.first)}
    tensors.update({f"{part}/{key}": tensor for part, own in parts.items() for key, tensor in own.items()})
    data, snapshots = to_bytes(tensors), learner.guard.snapshots
    manifest = {
        "algorithm": type(learner).__name__,
        "signature": learner.checkpoint.signature,
        "encoder": learner.fingerprint,
        "generator_device": learner.generator.device.type,
        "sha256": hashlib.sha256(data).hexdigest(),
        "tuners": groups,
        "gate": learner.gate.state(),
        "guard": learner.guard.state(),
        "snapshots": {name: {"version": item.version, "groups": item.groups, "sha256": item.sha256} for name, item in snapshots.items()},
        "episode_ids": sorted(learner.episode_ids),
        **learner.counters(),
    }
    with replacing_folder(directory, "learner state") as folder:
        (folder / TENSORS).write_bytes(data)
        for snapshot in {item.sha256: item for item in snapshots.values()}.values():
            _write_once(snapshot, existing_folder(directory), folder)
        (folder / MANIFEST).write_text(json.dumps({**manifest, "checksum": checksum(manifest)}))
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
    except (ValueError, RecursionError) as error:
        raise DamagedStateError(f"learner state {directory} is not valid JSON: it is damaged, start without it") from error
    if not isinstance(manifest, dict) or manifest.get("sha256") != hashlib.sha256(data).hexdigest() or not _is_whole(manifest):
        raise DamagedStateError(f"learner state {directory} does not match its checksum: it is damaged, start without it")
    if (manifest.get("signature"), manifest.get("encoder")) != (learner.checkpoint.signature, learner.fingerprint):
        raise UserError(f"learner state {directory} belongs to another base checkpoint: start from that one, or without it")
    if manifest.get("algorithm") != type(learner).__name__:
        raise UserError(f"learner state {directory} is of learner {manifest.get('algorithm')}: go on with that one, or choose another run directory")
    tensors = read_tensors(data, f"learner state {directory}", DamagedStateError, most=len(data))  # its checksum is right: it is our own
    try:
        _take(learner, manifest, tensors, {name: _read_snapshot(folder, entry) for name, entry in manifest["snapshots"].items()})
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise DamagedStateError(f"learner state {directory} is incomplete ({str(error).splitlines()[0]}): it is damaged, start without it") from error


def checksum(manifest: dict[str, Any]) -> str:
    """Of all that the manifest says, as it is read back."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(manifest)), sort_keys=True).encode()).hexdigest()


def _is_whole(manifest: dict[str, Any]) -> bool:
    """Whether the manifest matches its own checksum; earlier versions wrote none."""
    return "checksum" not in manifest or manifest["checksum"] == checksum({key: value for key, value in manifest.items() if key != "checksum"})


def _write_once(snapshot: Snapshot, before: Path, folder: Path) -> None:
    """Snapshots stay the same for many saves: one that lies in the folder ``before`` gets another name there instead of being written again."""
    name = _snapshot_name(snapshot.sha256)
    try:
        os.link(before / name, folder / name)
    except OSError:
        (folder / name).write_bytes(snapshot.data)


def _read_snapshot(folder: Path, entry: dict[str, Any]) -> Snapshot:
    snapshot = Snapshot(int(entry["version"]), (folder / _snapshot_name(entry["sha256"])).read_bytes(), entry["groups"])
    if snapshot.sha256 != entry["sha256"]:
        raise ValueError("a snapshot does not match its checksum")
    return snapshot


def _snapshot_name(sha256: str) -> str:
    return f"snapshot_{sha256[:16]}.safetensors"


def _take(learner: Learner, manifest: dict[str, Any], tensors: dict[str, Tensor], snapshots: dict[str, Snapshot]) -> None:
    unpack_training(tensors, manifest["tuners"], learner.networks, learner.tuners, learner.numbers)
    _restore_generator(learner, manifest, tensors["generator"])
    learner.practice.restore(below(tensors, "practice"))
    learner.demonstrations.restore(below(tensors, "shown"))
    learner.set_memory(below(tensors, "memory"))
    learner.gate.restore(manifest["gate"])
    acting, first = ({name: tensor.to(learner.device) for name, tensor in below(tensors, part).items()} for part in ("acting", "first"))
    learner.guard.restore(manifest["guard"], acting, first, snapshots)
    learner.episode_ids = set(manifest["episode_ids"])
    learner.set_counters(manifest)


def _restore_generator(learner: Learner, manifest: dict[str, Any], state: Tensor) -> None:
    """On another kind of device random numbers begin anew: its generator has another state, and other ones after each version."""
    generator = learner.generator
    if manifest["generator_device"] == generator.device.type:
        generator.set_state(state)
    else:
        generator.manual_seed(generator.initial_seed() + manifest["version"])
