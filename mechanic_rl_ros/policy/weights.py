"""Weights on the wire: safetensors bytes with version, architecture signature and metadata, checked before use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import save
from torch import Tensor

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.tensors import LARGEST_WEIGHT, Shapes, bytes_of, check_tensors, read_tensors, shapes_of

HEADER = "mechanic_rl_ros"


class WeightsError(UserError):
    """Weights that must not act."""


def transfer_budget(shapes: Shapes) -> int:
    """Bytes that whoever sends or takes weights of these shapes should allow: three versions, and never less than 64 MiB."""
    return max(64 * 2**20, 3 * bytes_of(shapes))


def pack_weights(version: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Makes one message of one version.

    Args:
        version: Grows with every published version.
        tensors: Name -> tensor.
        metadata: Plain data; must hold ``signature``, the signature of the architecture.

    Returns:
        Bytes for ``unpack_weights``.
    """
    header = json.dumps({"version": int(version), "signature": metadata["signature"], "metadata": dict(metadata)}, sort_keys=True)
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata={HEADER: header})


def unpack_weights(data: bytes, signature: str) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    """Reads one message and checks everything that can be checked without the receiving network.

    Shapes belong to the receiver: ``Actor.load`` checks them.

    Args:
        data: Bytes made by ``pack_weights``.
        signature: The receiver's architecture.

    Returns:
        Version, tensors, metadata.

    Raises:
        WeightsError: The message is damaged, made for another architecture, or holds numbers that are not finite or absurdly large.
    """
    tensors = read_tensors(data, "weights message", WeightsError)
    header = _header(data)
    if header.get("signature") != signature:
        theirs = header.get("signature")
        raise WeightsError(f"weights message was made for architecture {theirs}, this policy is {signature}: start learner and policy from one checkpoint")
    version, metadata = header.get("version"), header.get("metadata")
    if not isinstance(version, int) or isinstance(version, bool) or version < 0 or not isinstance(metadata, dict):
        raise WeightsError("weights message has no valid version or metadata: it is refused")
    check_tensors(tensors, shapes_of(tensors), f"weights version {version}", WeightsError, LARGEST_WEIGHT)
    return version, tensors, metadata


def _header(data: bytes) -> dict[str, Any]:
    # safetensors: 8 bytes little-endian length, then JSON whose "__metadata__" maps strings to strings. `read_tensors` has validated both.
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][HEADER])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError("weights message has no header of this package: it is refused") from error
    if not isinstance(header, dict):
        raise WeightsError("weights message has a malformed header: it is refused")
    return header
