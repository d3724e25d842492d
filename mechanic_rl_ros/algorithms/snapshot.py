"""Networks and tuners of a learner at one moment, to save or to go back to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from safetensors.torch import load, save
from torch import Tensor, nn

from mechanic_rl_ros.tuner import RelativeMechanic

TensorsByName = dict[str, Tensor]


@dataclass(frozen=True)
class Snapshot:
    """What training changes, as bytes that nobody changes any more.

    Attributes:
        version: Of the learner.
        data: Tensors of networks, tuners and running figures, as safetensors.
        groups: Of every tuner: its parameter groups, as JSON.
    """

    version: int
    data: bytes
    groups: str

    @cached_property
    def sha256(self) -> str:
        """Tells contents apart."""
        return hashlib.sha256(self.groups.encode() + self.data).hexdigest()

    @classmethod
    def take(cls, version: int, networks: Mapping[str, nn.Module], tuners: Mapping[str, Any], numbers: Mapping[str, Tensor]) -> Snapshot:
        """Copies everything."""
        tensors, groups = pack_training(networks, tuners, numbers)
        return cls(version, to_bytes(tensors), json.dumps(groups))

    def put_back(self, networks: Mapping[str, nn.Module], tuners: Mapping[str, Any], numbers: Mapping[str, Tensor]) -> None:
        """Makes all as it was."""
        unpack_training(load(self.data), json.loads(self.groups), networks, tuners, numbers)


def to_bytes(tensors: TensorsByName) -> bytes:
    """Tensors of any device as safetensors."""
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def pack_training(
    networks: Mapping[str, nn.Module], tuners: Mapping[str, Any], numbers: Mapping[str, Tensor]
) -> tuple[TensorsByName, dict[str, list[dict[str, Any]]]]:
    """Tensors by name, not copied, and the parameter groups of every tuner."""
    tensors: TensorsByName = {f"number/{name}": number for name, number in numbers.items()}
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, network in networks.items():
        tensors.update({f"network/{name}/{key}": tensor for key, tensor in network.state_dict().items()})
    for role, tuner in tuners.items():
        state = tuner.state_dict()
        groups[role] = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
        tensors.update({f"tuner/{role}/{index}/{key}": tensor for index, entry in state["state"].items() for key, tensor in entry.items()})
    return tensors, groups


def unpack_training(
    tensors: TensorsByName,
    groups: Mapping[str, list[dict[str, Any]]],
    networks: Mapping[str, nn.Module],
    tuners: Mapping[str, Any],
    numbers: Mapping[str, Tensor],
) -> None:
    """Takes back what ``pack_training`` gave."""
    for name, network in networks.items():
        network.load_state_dict(below(tensors, f"network/{name}"))
    for role, tuner in tuners.items():
        _restore_tuner(tuner, below(tensors, f"tuner/{role}"), groups[role])
    for name, number in numbers.items():
        number.copy_(tensors[f"number/{name}"])


def below(tensors: TensorsByName, prefix: str) -> TensorsByName:
    """The tensors whose names begin with ``prefix/``, without it."""
    return {name.removeprefix(f"{prefix}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")}


def _restore_tuner(tuner: RelativeMechanic, tensors: TensorsByName, groups: list[dict[str, Any]]) -> None:
    state: dict[int, TensorsByName] = {}
    for name, tensor in tensors.items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = tensor
    own = tuner.state_dict()["param_groups"]
    tuner.load_state_dict({"state": state, "param_groups": [{**mine, **saved} for mine, saved in zip(own, groups, strict=True)]})
