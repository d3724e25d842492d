"""The passes over memory that Mechanic makes, compiled where that can work on the tensors, torch's elsewhere; and the compiled library, for all tuners."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LIBRARY = Path(__file__).parent / "libmechanic_kernels.so"
"""Built from ``src/kernels.cpp`` together with the package."""


def products(directions: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """<D, g> and |g|^2 over all tensors, float64 (2,)."""
    library = library_for(directions, gradients)
    if library is None:
        return _sum([(torch.dot(_flat(d), _flat(g, d)), _square(_flat(g, d))) for d, g in zip(directions, gradients, strict=True)])
    out = torch.empty(len(directions), 2, dtype=torch.float64)
    library.mechanic_products(len(directions), pointers(directions), pointers(gradients), sizes(directions), torch.get_num_threads(), out.data_ptr())
    return out.sum(dim=0)


def place(directions: Sequence[Tensor], references: Sequence[Tensor], values: Sequence[Tensor], decays: Sequence[Any], scale: Tensor) -> Tensor:
    """D -= decay x and then x = x_ref + scale D, in place.

    Args:
        directions: D, changed where its decay is not 0.
        references: x_ref.
        values: x, changed; of the precision of D or lower.
        decays: One for every tensor, a number or a tensor of one number.
        scale: S, a tensor of one number.

    Returns:
        <D, x> and |x|^2 over all tensors after that, float64 (2,).
    """
    library = library_for(directions, references, values)
    if library is None:
        found = _sum([_place_one(*parts, scale) for parts in zip(directions, references, values, decays, strict=True)])
    else:
        out = torch.empty(len(directions), 2, dtype=torch.float64)
        columns = (pointers(directions), pointers(references), pointers(values), sizes(directions))
        library.mechanic_place(len(directions), *columns, numbers(map(float, decays)), float(scale), torch.get_num_threads(), out.data_ptr())
        found = out.sum(dim=0)
    return or_in_double_precision(found, directions, values)


def or_in_double_precision(found: Tensor, directions: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """<D, x> and |x|^2 as they were found, or made again where single precision could not hold them; on CUDA nobody waits to see that."""
    if found.is_cuda or bool(torch.isfinite(found).all()):
        return found
    # After a gradient of 1e19: the next slopes must be numbers all the same.
    wide = [(_flat(direction).double(), _flat(value).double()) for direction, value in zip(directions, values, strict=True)]
    return _sum([(torch.dot(direction, value), _square(value)) for direction, value in wide])


def _place_one(direction: Tensor, reference: Tensor, value: Tensor, decay: Any, scale: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(decay, Tensor) or decay != 0.0:
        direction.sub_(value * decay)
    value.copy_(torch.addcmul(reference, direction, scale.to(reference.dtype)))
    return torch.dot(_flat(direction), _flat(value, direction)), _square(_flat(value, direction))


def _flat(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    flat = tensor.detach().reshape(-1)
    return flat if like is None else flat.to(like.dtype)


def _square(flat: Tensor) -> Tensor:
    return torch.dot(flat, flat)


def _sum(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.stack([torch.stack([pair[k] for pair in pairs]).double().sum() for k in range(2)])


def library_for(*columns: Sequence[Tensor]) -> Any:
    """The library, if it can work on these tensors: float32 on the processor, of one layout, and in every column as many elements as in the others."""
    for column in columns:
        if any(part.dtype is not torch.float32 or not part.is_cpu or not part.is_contiguous() for part in column):
            return None
    counts = [[part.numel() for part in column] for column in columns]
    return _library() if all(own == counts[0] for own in counts[1:]) else None


@cache
def _library() -> Any:
    if not LIBRARY.exists():
        return None
    library = ctypes.CDLL(str(LIBRARY))
    pointer, size = ctypes.c_void_p, ctypes.c_int
    library.mechanic_products.argtypes = [size, *[pointer] * 3, size, pointer]
    library.mechanic_place.argtypes = [size, *[pointer] * 5, ctypes.c_double, size, pointer]
    library.mechanic_adam_place.argtypes = [size, *[pointer] * 10, ctypes.c_double, size, pointer]
    library.mechanic_relative_step.argtypes = [size, *[pointer] * 11, size, size]
    library.mechanic_products.restype = library.mechanic_place.restype = library.mechanic_adam_place.restype = None
    library.mechanic_relative_step.restype = size
    return library


def pointers(tensors: Sequence[Tensor]) -> Any:
    """Where the tensors lie, as a C array."""
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def sizes(tensors: Sequence[Tensor]) -> Any:
    """Their numbers of elements, as a C array."""
    return (ctypes.c_int64 * len(tensors))(*[tensor.numel() for tensor in tensors])


def numbers(values: Iterable[float]) -> Any:
    """Values as a C array of doubles."""
    found = list(values)
    return (ctypes.c_double * len(found))(*found)
