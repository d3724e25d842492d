"""Files that are either there as a whole or not at all, also after a crash or a power failure."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes ``data`` beside ``path``, flushes it to disk, and renames it into place.

    A crash leaves at most a file named by ``temporary_name``, never half of ``path``. On an error, such as a full disk, the temporary file is removed.

    Raises:
        OSError: The folder cannot be written, or the disk is full. ``path`` is as it was.
    """
    path = Path(path)
    temporary = path.parent / temporary_name(path.name)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # a failed write, unlike a failed open, does not say which file
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    sync_directory(path.parent)


def temporary_name(name: str) -> str:
    """Name of the file that is written before it becomes ``name``; it carries the writer's process id."""
    return f".{name}.{os.getpid()}.tmp"


def sync_directory(path: Path) -> None:
    """Makes a rename in ``path`` survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
