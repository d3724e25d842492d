"""Places that results go to, tried before the work that makes them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mechanic_rl_ros.errors import UserError


def require_writable(folder: Path) -> None:
    """Makes ``folder`` where it is missing, and a file in it, for a moment.

    Raises:
        OSError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:  # would name the temporary file
        raise OSError(error.errno, error.strerror, os.fspath(folder)) from error


def require_place_for_checkpoint(folder: Path) -> None:
    """Checks that a checkpoint can be put at ``folder``, and that what it would replace is one.

    Raises:
        UserError: Something else is there.
        OSError: The place cannot be written.
    """
    from mechanic_rl_ros.policy.checkpoint import MANIFEST

    place = Path(os.path.abspath(folder))
    if place == Path.cwd() or place in Path.cwd().parents:
        raise UserError(
            f"{folder} is the folder that you are in, or holds it, and a checkpoint replaces a folder as a whole: give the name of a new one with --output"
        )
    if folder.exists() and not (folder / MANIFEST).exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is there and is no checkpoint: choose another folder with --output")
    require_writable(folder.absolute().parent)
