"""What all commands say in the same way: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import errno
import os
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from mechanic_rl_ros.errors import UserError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.EFBIG: "free some space or choose another folder",
    errno.EACCES: "choose a folder that you may write, or change its permissions",
    errno.EPERM: "choose a folder that you may write, or change its permissions",
    errno.EROFS: "choose a folder that you may write",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.ENOENT: "check the path",
    errno.EEXIST: "there is a file of that name: choose another folder",
    errno.EISDIR: "it is a folder: give a file",
}


def progress_bar() -> Progress:
    """A bar with count and remaining time on stderr, gone when it is done; nothing where stderr is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def loading(what: str = "loading") -> AbstractContextManager[object]:
    """A spinner on stderr while libraries and files are read; nothing where stderr is no terminal."""
    return err.status(what) if err.is_terminal else nullcontext()


def fail(text: str) -> None:
    """Prints one red line on stderr; nothing when ``text`` is empty, because help was shown instead."""
    if text:
        err.print(Text("mechanic-rl: " + " ".join(text.split()), style="bold red"), soft_wrap=True)


def explain(error: Exception) -> tuple[str, int]:
    """What went wrong as one line, and the exit status."""
    if isinstance(error, UserError):
        return str(error), 1
    if hasattr(error, "format_message"):  # wrong usage, found by typer
        message = " ".join(error.format_message().split()).rstrip(".")
        return message and f"{message}: see `{_command_path(error)} --help`", getattr(error, "exit_code", 2)
    if isinstance(error, OSError):
        where = f"{os.fspath(error.filename)}: " if error.filename else ""
        return f"{where}{error.strerror or error}: {_REMEDIES.get(error.errno or 0, 'run again with --debug to see where')}", 1
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name!r} is missing: `mechanic-rl doctor` tells how to get it", 1
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch says so with a RuntimeError
        return "not enough memory: use fewer workers or a smaller batch", 1
    return f"internal error ({type(error).__name__}: {error}): run again with --debug and report what it shows", 1


def _command_path(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "mechanic-rl"
