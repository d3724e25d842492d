"""Reads the tensors of a pickled PyTorch file without running anything that is in it.

A pickle is a program. Here every class and function that it names becomes an inert record: nothing is imported, calling a record calls nothing, and
what would have been its state is kept as plain data. Tensors, too, are records until somebody asks for one; what they claim is checked then.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechanic_rl_ros.errors import UserError, first_line
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
MAX_PICKLE = 64 * 2**20  # bytes of the program itself
MAX_OPERATIONS = 1_000_000  # of the program; a large policy with its optimizer has a tenth of them
MAX_KINDS = 1000  # of different classes and functions
MAX_DEPTH = 100  # of tuples in tuples
MAX_PARTS = 1_000_000  # of a tuple and all that it holds, counted as often as it is there: so much is looked at for a hash
MAX_NODES = 100_000  # of a configuration
Size = tuple[int, int]  # how deep a value's tuples go, and how many parts there are in them, itself included
NO_TUPLE: Size = (0, 1)
MARK: Size = (-1, -1)  # on the stack: where the parts of a container begin


class Inert:
    """Stands for something that is not believed. ``name`` is what the file calls it, ``args`` what it was made from, ``state`` what it was given."""

    name = ""
    args: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Keeps the arguments of whatever way of making an object the file has chosen."""
        made = object.__new__(cls)
        made.args = args
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """Another record."""
        return Inert(*args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """What a dictionary of theirs would have taken."""

    def append(self, value: Any) -> None:
        """What a list of theirs would have taken."""

    def extend(self, values: Any) -> None:
        """What a list of theirs would have taken."""


class _Reader(pickle.Unpickler):
    kinds: dict[str, Any]

    def find_class(self, module: str, name: str) -> Any:
        """Never imports."""
        called = f"{module}.{name}"
        if called not in self.kinds:
            if len(self.kinds) >= MAX_KINDS:
                raise ValueError("too many classes")
            self.kinds[called] = type("Inert", (Inert,), {"name": called})
        return self.kinds[called]

    def persistent_load(self, pid: Any) -> Any:
        """A storage stays what the file says of it."""
        return pid


def _require_honest(program: bytes, path: Path) -> None:
    """Refuses a program that would end the reader instead of failing: by memory, or by tuples in tuples, whose hash is computed recursively."""
    stack: list[Size] = []  # of the tuples of every value
    memo: dict[int, Size] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(program)):
        if count >= MAX_OPERATIONS:
            raise UserError(f"file {path} has a structure of more than {MAX_OPERATIONS} operations: it is refused")
        taken = _taken(stack, opcode)
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            number = len(memo) if argument is None else argument
            if number > len(program):
                raise UserError(f"file {path} numbers more objects than it can hold: it is refused")
            stack += taken
            memo[number] = stack[-1]
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument or 0])
        elif opcode.name == "MARK":
            stack.append(MARK)
        elif opcode.name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"):
            stack.append((1 + max((depth for depth, _ in taken), default=0), 1 + sum(parts for _, parts in taken)))
            depth, parts = stack[-1]
            if depth > MAX_DEPTH or parts > MAX_PARTS:
                raise UserError(f"file {path} nests more than {MAX_DEPTH} tuples, or a tuple of more than {MAX_PARTS} parts: it is refused")
        else:
            stack += [max(taken) if opcode.name == "DUP" else NO_TUPLE] * len(opcode.stack_after)


def _taken(stack: list[Size], opcode: pickletools.OpcodeInfo) -> list[Size]:
    """Takes off the stack what an operation takes."""
    wanted = opcode.stack_before
    above: list[Size] = []
    if pickletools.markobject in wanted:
        while (value := stack.pop()) != MARK:
            above.append(value)
        wanted = wanted[: wanted.index(pickletools.markobject)]
    return [stack.pop() for _ in wanted] + above


class Archive:
    """A file of ``torch.save``.

    Attributes:
        content: Containers, numbers and text; everything else, tensors included, is ``Inert``.
    """

    def __init__(self, path: Path) -> None:
        """Reads the structure; no tensor.

        Raises:
            UserError: It cannot be read, or is no such file.
        """
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("data.pkl")]
                if len(roots) != 1:
                    raise UserError(f"file {path} was not written by torch.save: give a .ckpt of diffusion_policy")
                self.root = roots[0]
                if archive.getinfo(f"{self.root}data.pkl").file_size > MAX_PICKLE:
                    raise UserError(f"file {path} has a structure of more than {MAX_PICKLE} bytes: it is refused")
                program = archive.read(f"{self.root}data.pkl")
                _require_honest(program, path)
                reader = _Reader(io.BytesIO(program))
                reader.kinds = {"collections.OrderedDict": OrderedDict}
                self.content = reader.load()
        except OSError as error:
            raise UserError(f"cannot read {path} ({error.strerror}): give a .ckpt of diffusion_policy") from error
        except zipfile.BadZipFile as error:
            raise UserError(f"file {path} was not written by torch.save: give a .ckpt of diffusion_policy") from error
        except UserError:
            raise
        except Exception as error:  # a damaged pickle can raise anything
            raise UserError(f"file {path} is damaged ({type(error).__name__}): get a fresh copy") from error

    def tensors(self, records: Any) -> dict[str, Tensor]:
        """Reads the tensors among the values of a dictionary.

        Raises:
            UserError: One claims more than its storage has, or all of their storages hold more than ``MAX_BYTES``.
        """
        found: dict[str, Tensor] = {}
        left = MAX_BYTES
        try:
            with zipfile.ZipFile(self.path) as archive:
                for name, record in records.items():
                    if not isinstance(name, str) or not _is_tensor(record):
                        continue
                    found[name], read = self._tensor(archive, record, left)
                    left -= read
        except Exception as error:
            raise UserError(f"file {self.path} is damaged ({type(error).__name__}: {first_line(error)[:80]}): get a fresh copy") from error
        return found

    def _tensor(self, archive: zipfile.ZipFile, record: Inert, budget: int) -> tuple[Tensor, int]:
        """The tensor, and how many bytes were read for it: all of its storage, of which it may show little."""
        if record.name == "torch._utils._rebuild_parameter":
            record = record.args[0]
        (_, kind, key, _, count), offset, size, stride = record.args[:4]
        dtype, numbers = DTYPES[kind.name.removeprefix("torch.")], math.prod(size)
        if not isinstance(key, str) or not key.isalnum() or not all(type(item) is int and item >= 0 for item in (count, offset, *size, *stride)):
            raise ValueError("a tensor is not described by numbers")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if numbers else 0
        entry = archive.getinfo(f"{self.root}data/{key}")
        if numbers > count or last >= max(count, 1) or count * dtype.itemsize != entry.file_size or entry.file_size > budget:
            raise ValueError("a tensor reaches beyond its storage")
        if not numbers:
            return torch.zeros(size, dtype=dtype), 0
        return torch.as_strided(torch.frombuffer(bytearray(archive.read(entry)), dtype=dtype), size, stride, offset).clone(), entry.file_size


def _is_tensor(record: Any) -> bool:
    return isinstance(record, Inert) and record.name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter")


def plain(value: Any) -> Any:
    """Containers, numbers and text; of configuration nodes (OmegaConf) what they hold.

    Raises:
        ValueError: There is no end to it.
    """
    left = [MAX_NODES]

    def walk(item: Any, depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > 40:
            raise ValueError("a configuration without end")
        if isinstance(item, Inert):
            state = item.state if isinstance(item.state, dict) else {}
            return walk(state.get("_content", state.get("_val")), depth + 1) if state.keys() & {"_content", "_val"} else None
        if isinstance(item, dict):
            return {key: walk(part, depth + 1) for key, part in item.items() if isinstance(key, str)}
        if isinstance(item, (list, tuple)):
            return [walk(part, depth + 1) for part in item]
        return item if isinstance(item, (str, int, float, bool)) else None

    return walk(value, 0)
