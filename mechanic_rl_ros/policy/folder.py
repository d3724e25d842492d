"""Replacing a whole folder so that a crash at any moment leaves the old or the new one, never a mixture."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from mechanic_rl_ros.errors import UserError


@contextmanager
def replacing_folder(path: Path, what: str) -> Iterator[Path]:
    """Yields an empty folder to fill; on success it takes the place of ``path``, otherwise it is removed.

    A folder cannot be renamed over a full one, so the old one is hidden first, as ``.<name>.previous`` beside it; ``existing_folder`` finds it there if
    the process dies between the two renames.

    Args:
        path: The folder to replace.
        what: Named in the error, for instance ``"checkpoint"``.

    Raises:
        UserError: The disk is full, or the place cannot be written.
    """
    path = Path(os.path.abspath(path))  # so that ``..`` has a name, too
    fresh: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        fresh.chmod(0o755)
        yield fresh
        for item in fresh.iterdir():
            _sync(item)
        _sync(fresh)
        _swap(fresh, path)
    except OSError as error:
        raise UserError(f"cannot write {what} {path} ({error.strerror or error}): free some space, or choose another folder") from error
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


def existing_folder(path: Path) -> Path:
    """``path``, or what a crash in the middle of ``replacing_folder`` left of it."""
    previous = _previous(Path(os.path.abspath(path)))
    return path if path.exists() or not previous.exists() else previous


def set_aside(path: Path) -> Path:
    """Renames a damaged folder to ``<path>.damaged``, or ``<path>.damaged-2`` and so on where that is taken, and returns its new place.

    Raises:
        UserError: The place cannot be written.
    """
    names = (f"{path.name}.damaged" + (f"-{number}" if number > 1 else "") for number in count(1))
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    try:
        os.rename(path, aside)
    except OSError as error:
        raise UserError(f"cannot move the damaged {path} to {aside} ({error.strerror}): move it away yourself") from error
    return aside


def _swap(fresh: Path, path: Path) -> None:
    if path.exists():
        shutil.rmtree(_previous(path), ignore_errors=True)
        os.rename(path, _previous(path))
    os.rename(fresh, path)
    _sync(path.parent)
    shutil.rmtree(_previous(path), ignore_errors=True)


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")  # a name that no user gives


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
