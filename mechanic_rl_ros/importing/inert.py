"""Reads the tensors of a pickled PyTorch file without running anything that is in it.

A pickle is a program; this reader lets it build tensors, containers and numbers, and nothing else. Every class or function that the file names
becomes an inert placeholder: it is not imported, calling it calls nothing, and what would have been its state is kept as plain data.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.tensors import MAX_BYTES

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Inert:
    """Stands for something that is not believed. ``state`` is what it was given, ``items`` what was put into it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: Any = (args, kwargs)
        self.items: dict[str | int, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        return Inert(*args, **kwargs)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, (str, int)):
            self.items[key] = value

    def append(self, value: Any) -> None:
        """As of a list."""
        self.items[len(self.items)] = value

    def extend(self, values: Any) -> None:
        """As of a list."""
        for value in values:
            self.append(value)

    def __hash__(self) -> int:
        return id(self)


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}data.pkl"))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        """Never imports."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        return type(name, (Inert,), {})

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage: all of its numbers."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str) or not key.isalnum():
            raise ValueError("unknown storage")
        data = bytearray(self._archive.read(f"{self._root}data/{key}"))
        return torch.frombuffer(data, dtype=dtype, count=count) if count else torch.zeros(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any) -> Tensor:
    return torch.as_strided(storage, size, stride, offset).clone()


def _parameter(data: Tensor, *rest: Any) -> Tensor:
    return data


def read_inert(path: Path) -> Any:
    """What a file of ``torch.save`` holds: containers, numbers, text and tensors; everything else is ``Inert``.

    Raises:
        UserError: It cannot be read, is too large, or is no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise UserError(f"file {path} unpacks to more than the {MAX_BYTES} bytes allowed: it is refused")
            roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("data.pkl")]
            if len(roots) != 1:
                raise UserError(f"file {path} was not written by torch.save: give a .ckpt of diffusion_policy")
            return _Reader(archive, roots[0]).load()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): give a .ckpt of diffusion_policy") from error
    except zipfile.BadZipFile as error:
        raise UserError(f"file {path} was not written by torch.save: give a .ckpt of diffusion_policy") from error
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"file {path} is damaged ({type(error).__name__}): get a fresh copy") from error


def plain(value: Any, depth: int = 0) -> Any:
    """Containers, numbers and text; of configuration nodes (OmegaConf) what they hold."""
    if depth > 20:
        return None
    if isinstance(value, Inert):
        state = value.state
        if isinstance(state, dict) and "_content" in state:
            return plain(state["_content"], depth + 1)
        if isinstance(state, dict) and "_val" in state:
            return plain(state["_val"], depth + 1)
        return None
    if isinstance(value, dict):
        return {key: plain(item, depth + 1) for key, item in value.items() if isinstance(key, str)}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    return value if isinstance(value, (str, int, float, bool)) else None
