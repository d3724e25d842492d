"""A checkpoint: a folder with checkpoint.json, weights.safetensors and, optionally, demonstrations.safetensors."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PolicyConfig, signature
from mechanic_rl_ros.policy.critic import TwinQ, Value
from mechanic_rl_ros.policy.folder import existing_folder, replacing_folder
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.tensors import MAX_BYTES, Shapes, check_tensors, read_tensors, shapes_of
from mechanic_rl_ros.policy.weights import WeightsError, pack_weights, unpack_weights
from mechanic_rl_ros.replay.episode_check import ACTION_TOLERANCE, SAFE_NAME

__all__ = ["Checkpoint", "WeightsError", "critic_shapes", "pack_weights", "policy_shapes", "signature", "unpack_weights"]

FORMAT = 3
PRACTICE_NOISE = "practice_noise"  # in the metadata: deviation of a smooth noise on the actions while a robot practises, normalised
MANIFEST, WEIGHTS, DEMONSTRATIONS = "checkpoint.json", "weights.safetensors", "demonstrations.safetensors"


@dataclass
class Checkpoint:
    """A policy, what it was made for, and (optionally) its critics and the demonstrations that it came from.

    Attributes:
        task: Task name.
        embodiment: The robot.
        config: Architecture.
        policy: State of a ``Policy``.
        critics: State of ``TwinQ`` (prefix ``q.``) and ``Value`` (prefix ``value.``); None before any finetuning.
        demonstrations: ``frames`` float16 (N, frame_dim), ``actions`` float16 (N, A), ``lengths`` int64 (E,): frames of each episode, one more than
            its actions (the last action of each is a filler); None when they are not shipped.
        version: Number of updates behind the weights; 0 for a base checkpoint.
        metadata: Plain data: ``prefers_best_of_n``, how it was made.
    """

    task: str
    embodiment: Embodiment
    config: PolicyConfig
    policy: dict[str, Tensor]
    critics: dict[str, Tensor] | None = None
    demonstrations: dict[str, Tensor] | None = None
    version: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def signature(self) -> str:
        """Signature of the architecture."""
        return signature(self.config)

    def build_policy(self, device: torch.device | str = "cpu") -> Policy:
        """A policy with these weights, in evaluation mode."""
        policy = Policy(self.config)
        policy.load_state_dict(self.policy)
        return policy.to(device).eval()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the folder, replacing an older one in one step.

        Raises:
            UserError: ``load`` would refuse it, the disk is full, or the place cannot be written. What is there stays as it is.
        """
        self._check(f"checkpoint {path} is not written")
        weights = {f"policy.{name}": tensor for name, tensor in self.policy.items()}
        weights.update({f"critics.{name}": tensor for name, tensor in (self.critics or {}).items()})
        files = {WEIGHTS: _bytes(weights)}
        if self.demonstrations is not None:
            files[DEMONSTRATIONS] = _bytes(self.demonstrations)
        with replacing_folder(Path(path), "checkpoint") as folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            (folder / MANIFEST).write_text(json.dumps(self._manifest(files), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str], embodiment: Embodiment | None = None) -> Checkpoint:
        """Reads and checks a checkpoint.

        Args:
            path: The folder.
            embodiment: The robot in use; a checkpoint of another one is refused.

        Raises:
            UserError: The folder is missing, incomplete, damaged, of another format, architecture or embodiment.
        """
        folder = existing_folder(Path(path))
        manifest = _read_manifest(folder)
        what = f"checkpoint {path}"
        config, made_for = PolicyConfig.from_dict(manifest["config"], what), Embodiment.from_dict(manifest["embodiment"], f"embodiment of {what}")
        if embodiment is not None:
            embodiment.require_same(made_for, what)
        if manifest["signature"] != signature(config):
            raise UserError(f"{what} contradicts itself (signature {manifest['signature']}): it is damaged, get a fresh copy")
        weights = _read_file(folder, WEIGHTS, manifest)
        policy, critics = _part(weights, "policy."), _part(weights, "critics.")
        demonstrations = _read_file(folder, DEMONSTRATIONS, manifest) if DEMONSTRATIONS in manifest["files"] else None
        checkpoint = cls(manifest["task"], made_for, config, policy, critics or None, demonstrations, manifest["version"], manifest["metadata"])
        checkpoint._check(what)
        return checkpoint

    def _check(self, what: str) -> None:
        _require_fit(self.config, self.embodiment, what)
        if not 0 <= self.version < 2**63:
            raise UserError(f"{what}: version {self.version} is not between 0 and 2^63: get a fresh copy")
        if not SAFE_NAME.fullmatch(self.task):
            raise UserError(f"{what}: its task has another name than letters, digits, '.', '_' and '-' make: get a fresh copy")
        if not isinstance(self.metadata.get("prefers_best_of_n", False), bool):
            raise UserError(f"{what}: prefers_best_of_n is neither true nor false: get a fresh copy")
        noise = self.metadata.get(PRACTICE_NOISE, 0.0)
        if not isinstance(noise, (int, float)) or not 0.0 <= noise <= 1.0:
            raise UserError(f"{what}: {PRACTICE_NOISE} is {noise!r}, not a number from 0 to 1: get a fresh copy")
        check_tensors(self.policy, policy_shapes(self.config), what)
        for name in ("frame_deviation", "action_deviation"):
            if not bool(self.policy[name].all()):
                raise UserError(f"{what}: {name} is zero somewhere, by which nothing can be divided: its normalisation is damaged, get a fresh copy")
        if self.critics is not None:
            check_tensors(self.critics, critic_shapes(self.config), what)
        if self.demonstrations is not None:
            _check_demonstrations(self.demonstrations, self.config, what)

    def _manifest(self, files: dict[str, bytes]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "task": self.task,
            "version": self.version,
            "signature": self.signature,
            "config": self.config.to_dict(),
            "embodiment": self.embodiment.to_dict(),
            "metadata": self.metadata,
            "files": {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()},
        }


def policy_shapes(config: PolicyConfig) -> Shapes:
    """Names and shapes of a policy's tensors."""
    with torch.device("meta"):
        return shapes_of(Policy(config).state_dict())


def critic_shapes(config: PolicyConfig) -> Shapes:
    """Names and shapes of the critics' tensors."""
    with torch.device("meta"):
        twins, value = TwinQ(config).state_dict(), Value(config).state_dict()
    return {**{f"q.{name}": tuple(tensor.shape) for name, tensor in twins.items()}, **{f"value.{name}": tuple(tensor.shape) for name, tensor in value.items()}}


def _require_fit(config: PolicyConfig, embodiment: Embodiment, what: str) -> None:
    """Refuses a policy that takes or gives something else than its robot."""
    for name, wanted, channels in (("state", config.state_dim, embodiment.state), ("action", config.action_dim, embodiment.action)):
        if wanted != len(channels):
            raise UserError(f"{what}: its policy has {wanted} numbers in the {name}, its embodiment {len(channels)}: it is damaged, get a fresh copy")
    crop = getattr(config.encoder, "crop", (0, 0))
    for key in config.cameras:
        camera = embodiment.cameras.get(key)
        if camera is None:
            raise UserError(f"{what}: its policy sees camera {key}, its embodiment has only {', '.join(embodiment.cameras)}: it is damaged, get a fresh copy")
        if crop[0] > camera.height or crop[1] > camera.width:
            raise UserError(f"{what}: its crop of {crop[0]}x{crop[1]} is larger than the {camera.height}x{camera.width} of camera {key}: choose a smaller one")


def _bytes(tensors: dict[str, Tensor]) -> bytes:
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except OSError as error:
        raise UserError(
            f"cannot read checkpoint {folder} ({error.strerror}): give a folder with {MANIFEST}, or make one with `mechanic-rl pretrain`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"checkpoint {folder}: {MANIFEST} is not valid JSON: it is damaged, get a fresh copy") from error
    expected = {"task": str, "version": int, "signature": str, "config": dict, "embodiment": dict, "metadata": dict, "files": dict}
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"checkpoint {folder} is not of format {FORMAT}: make it again with this version of the package")
    for key, kind in expected.items():
        if not isinstance(manifest.get(key), kind):
            raise UserError(f"checkpoint {folder}: {MANIFEST} has no valid {key!r}: it is damaged, get a fresh copy")
    return manifest


def _read_file(folder: Path, name: str, manifest: dict[str, Any]) -> dict[str, Tensor]:
    what, entry = f"checkpoint file {folder / name}", manifest["files"].get(name)
    try:
        size = (folder / name).stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{what} has {size} bytes, more than the {MAX_BYTES} allowed: it is refused")
        data = (folder / name).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {what} ({error.strerror}): get a fresh copy of the checkpoint") from error
    if not isinstance(entry, dict) or entry.get("size") != len(data) or entry.get("sha256") != hashlib.sha256(data).hexdigest():
        raise UserError(f"{what} does not match its checksum in {MANIFEST}: it is damaged, get a fresh copy")
    return read_tensors(data, what)


def _check_demonstrations(tensors: dict[str, Tensor], config: PolicyConfig, what: str) -> None:
    lengths = tensors.get("lengths")
    if lengths is None or lengths.dtype != torch.int64 or lengths.dim() != 1 or (len(lengths) and int(lengths.min()) < 2):
        raise UserError(f"{what}: demonstrations have no valid lengths: it is damaged, get a fresh copy")
    frames = int(lengths.sum())
    floats = {name: tensor for name, tensor in tensors.items() if name != "lengths"}
    check_tensors(floats, {"frames": (frames, config.frame_dim), "actions": (frames, config.action_dim)}, f"{what}, demonstrations")
    if frames and float(tensors["actions"].abs().max()) > 1 + ACTION_TOLERANCE:
        raise UserError(f"{what}: actions of its demonstrations are not normalised to [-1, 1]: make it again from demonstrations that are")
