"""Frames in memory-mapped files: a ring that outlives the process, every episode with a checksum.

    replay/
        header.json      what the frames were made by (fingerprint of the encoders), records and sizes; a folder with another one is set aside
        frames.bin       one record per slot: features, state, action, reward
        images.bin       one record per slot, for learners that ask for images
        episodes.jsonl   one line per episode ever written: where it lies, and its checksum

Records are written with ``pwrite`` and only read through the map: a full disk is an error like any other, where a write through the map would kill
the process. A line is written after its frames, so what a line tells is there; what was overwritten since does not match its checksum any more.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.folder import set_aside
from mechanic_rl_ros.replay.atomic import write_atomically
from mechanic_rl_ros.replay.episode_index import Held

FORMAT = 1
SEGMENT = 64 * 1024 * 1024
"""Bytes by which files grow. What is not written yet takes no room on the disk."""

LARGE = 1024 * 1024 * 1024
"""Bytes of a file that may not stay in memory."""

LINE = 1024
"""Bytes that a line about an episode takes at most."""

KEPT_FREE = 512 * 1024 * 1024
"""Bytes on the disk that are left to recorded episodes and saved states, which matter more."""


class FullDiskError(UserError):
    """There is no room for an episode now."""


class FrameFiles:
    """A ring of records in a folder that one process writes.

    Attributes:
        columns: Field of a record -> tensor (slots so far, ...) that shows the file. Never written to.
        fault: What was found wrong on opening; empty if nothing.
        end: Position behind the newest episode ever written.
    """

    def __init__(self, folder: Path, types: Mapping[str, np.dtype[np.void]], slots: int, encoder: str) -> None:
        """Opens ``folder``, or makes it.

        Args:
            folder: Where the files lie.
            types: File -> its record.
            slots: Length of the ring.
            encoder: Fingerprint of the encoders that make the frames.

        Raises:
            UserError: The place cannot be written.
        """
        self.folder, self.fault = folder, ""
        self.columns: dict[str, Tensor] = {}
        self._slots, self._types = slots, dict(types)
        self._maps: dict[str, mmap.mmap] = {}
        self._known: dict[str, Held] = {}
        self._released = sys.maxsize
        header = {"format": FORMAT, "encoder": encoder, "slots": slots, "records": {name: repr(kind) for name, kind in types.items()}}
        try:
            self._open(header)
        except OSError as error:
            raise UserError(f"cannot use the replay in {folder} ({error.strerror}): free some space, or choose another run directory") from error
        self.end = max((held.end for held in self._known.values()), default=0)

    def reserve(self, held: Held) -> None:
        """Takes room on the disk for an episode, so that ``write`` does not fail for want of it.

        Raises:
            FullDiskError: The disk is full, or the place is still needed for the state that was saved last. All is as it was.
        """
        if held.end > self._released + self._slots:
            raise FullDiskError(f"the replay in {self.folder} must not overwrite what the last saved state counts: see why no state is saved")
        needed = held.frames * sum(kind.itemsize for kind in self._types.values())
        first_round = held.start < self._slots  # later ones go where others were
        if first_round and shutil.disk_usage(self.folder).free < needed + KEPT_FREE:
            raise FullDiskError(f"the disk of the replay in {self.folder} has less than {KEPT_FREE >> 20} MB left: free some space")
        with self._writing():
            for name, kind in self._types.items():
                first = held.start % self._slots
                self._grow(name, first + held.frames)
                os.posix_fallocate(self._files[name].fileno(), first * kind.itemsize, held.frames * kind.itemsize)
            os.posix_fallocate(self._journal.fileno(), self._journal_end, LINE)

    def write(self, held: Held, values: Mapping[str, Tensor]) -> Held:
        """Writes the frames of an episode, field by field, at the place that ``held`` names. Returns ``held`` with its checksum.

        Raises:
            FullDiskError: As ``reserve``.
        """
        self.reserve(held)
        records = {name: self._records(name, held.frames, values) for name in self._types}
        held = held._replace(checksum=_checksum(held, records.values()))
        line = json.dumps(held._asdict()).encode() + b"\n"
        with self._writing():
            for name, array in records.items():
                _write(self._files[name], array.view(np.uint8).data, held.start % self._slots * array.itemsize)
            _write(self._journal, memoryview(line), self._journal_end)
        self._journal_end += len(line)
        self.end = max(self.end, held.end)
        if held.id:
            self._known[held.id] = held
        return held

    def known(self, id: str) -> Held | None:
        """The episode of this name, if it is here and whole."""
        held = self._known.get(id)
        return held if held is not None and self.intact(held) else None

    def intact(self, held: Held) -> bool:
        """Whether the files hold exactly what was written for this episode."""
        first = held.start % self._slots
        if held.frames < 2 or held.start < 0 or first + held.frames > self._slots:
            return False
        # Not through the map, which reads page by page.
        read = (os.pread(self._files[name].fileno(), held.frames * kind.itemsize, first * kind.itemsize) for name, kind in self._types.items())
        return _checksum(held, read) == held.checksum

    def prefetch(self, file: str, slots: Tensor, count: int) -> None:
        """Has the ``count`` records from each of ``slots`` (B,) on read from the disk all at once. Small files are in memory soon, and left alone."""
        mapped, size = self._maps[file], self._types[file].itemsize
        if len(mapped) < LARGE:
            return
        for begin in (slots.clamp_min(0) * size).tolist():
            first = begin // mmap.PAGESIZE * mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, first, min(begin + count * size, len(mapped)) - first)

    def release(self, start: int) -> None:
        """What lies before position ``start`` may be overwritten, and nothing else."""
        self._released = start

    def state(self, end: int) -> dict[str, Tensor]:
        """Nothing: files are their own state. Makes what was written survive a power failure."""
        for file in (*self._files.values(), self._journal):
            os.fdatasync(file.fileno())
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Files are their own state; ``intact`` says which episodes are what they were."""

    def _open(self, header: dict[str, object]) -> None:
        path = self.folder / "header.json"
        try:
            foreign = self.folder.exists() and any(self.folder.iterdir()) and json.loads(path.read_text()) != header
        except (FileNotFoundError, ValueError):
            foreign = True
        if foreign:
            aside = set_aside(self.folder)
            self.fault = f"the replay in {self.folder} is damaged or of another encoder or size; it is now {aside}, and recorded episodes are encoded anew"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_atomically(path, json.dumps(header).encode())
        self._journal = _open(self.folder / "episodes.jsonl")
        self._files = {name: _open(self.folder / f"{name}.bin") for name in self._types}
        for name, kind in self._types.items():
            self._grow(name, max(1, self._files[name].seek(0, os.SEEK_END) // kind.itemsize))
        self._read_journal()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = FullDiskError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else UserError
            raise kind(f"an episode does not fit into the replay in {self.folder} ({error.strerror}): free some space") from error

    def _grow(self, name: str, slots: int) -> None:
        kind = self._types[name]
        if name in self._maps and slots * kind.itemsize <= len(self._maps[name]):
            return
        size = min(-(-slots * kind.itemsize // SEGMENT) * SEGMENT, self._slots * kind.itemsize)
        self._files[name].truncate(size)
        self._maps[name] = mmap.mmap(self._files[name].fileno(), size)
        if size >= LARGE:
            self._maps[name].madvise(mmap.MADV_RANDOM)  # no reading ahead: it would fill memory with what nobody asks for
        records = np.frombuffer(self._maps[name], kind, count=size // kind.itemsize)
        self.columns.update({field: torch.from_numpy(records[field]) for field in kind.names or ()})

    def _read_journal(self) -> None:
        """Takes the lines up to the first one that is not whole, and goes on behind them."""
        self._journal_end = 0
        for line in self._journal.readlines():
            try:
                held = Held(**json.loads(line))
            except (ValueError, TypeError):
                break
            self._known[held.id] = held
            self._journal_end += len(line)
        self._journal.truncate(self._journal_end)

    def _records(self, name: str, frames: int, values: Mapping[str, Tensor]) -> NDArray[np.void]:
        array = np.zeros(frames, self._types[name])
        for field in self._types[name].names or ():
            array[field] = values[field].cpu().numpy()
        return array


def _open(path: Path) -> FileIO:
    path.touch()
    return FileIO(path, "r+")


def _write(file: FileIO, data: memoryview, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(file.fileno(), data[written:], offset + written)


def _checksum(held: Held, parts: Iterable[Any]) -> int:
    checksum = zlib.crc32(f"{held.id} {held.frames} {held.solved} {held.terminal}".encode())
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return checksum
