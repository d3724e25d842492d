"""Reading and checking named tensors that somebody else wrote: nothing is believed before it is checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from mechanic_rl_ros.errors import UserError, first_line

LARGEST_WEIGHT = 1e4  # trained weights stay below 1e2; far larger ones are a blown-up learner or a flipped exponent bit
MAX_BYTES = 4 * 2**30  # a published U-Net has 1 GiB

Shapes = dict[str, tuple[int, ...]]


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def bytes_of(shapes: Shapes) -> int:
    """Bytes that float32 tensors of these shapes take."""
    return 4 * sum(math.prod(shape) for shape in shapes.values())


def read_tensors(data: bytes, what: str, error: type[UserError] = UserError, most: int = MAX_BYTES) -> dict[str, Tensor]:
    """Parses safetensors bytes.

    Raises:
        UserError: (or ``error``) the bytes are too many, or not a safetensors file.
    """
    if len(data) > most:
        raise error(f"{what} has {len(data)} bytes, more than the {most} allowed: it is refused")
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError, TypeError) as problem:
        raise error(f"{what} is damaged ({first_line(problem)}): it is refused, get a fresh copy") from problem


def read_file(path: Path, what: str | None = None) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        UserError: It is missing, too large, or not a safetensors file.
    """
    what = what or f"file {path}"
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{what} has {size} bytes, more than the {MAX_BYTES} allowed: it is refused")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {what} ({error.strerror}): get a fresh copy") from error
    return read_tensors(data, what)


def check_tensors(tensors: Mapping[str, Tensor], shapes: Shapes, what: str, error: type[UserError] = UserError, largest: float = LARGEST_WEIGHT) -> None:
    """Refuses missing, additional, misshapen, non-finite and absurdly large tensors.

    Raises:
        UserError: (or ``error``) names the first tensor that is wrong, and how.
    """
    for name in sorted(tensors.keys() ^ shapes.keys()):
        raise error(f"{what}: tensor {name} is {'missing' if name in shapes else 'unknown'}: it was made for another architecture")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name]:
            raise error(f"{what}: tensor {name} has shape {list(tensor.shape)}, not {list(shapes[name])}: it was made for another architecture")
        if not tensor.is_floating_point():
            raise error(f"{what}: tensor {name} holds {tensor.dtype}, not floats: it is refused")
        if not bool(torch.isfinite(tensor).all()) or (tensor.numel() and float(tensor.abs().max()) > largest):
            raise error(f"{what}: tensor {name} holds numbers that are not finite or absurdly large: it is refused")
