"""The folder of a run: made before anything starts, so that a place that cannot be written is found at once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mechanic_rl_ros import __version__
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import config_directory
from mechanic_rl_ros.replay.atomic import write_atomically

OPTIONS = "run.json"


def default_folder(now: str) -> Path:
    """``runs/<now>``, with a number behind it when it is taken."""
    folder, number = Path("runs") / now, 2
    while folder.exists():
        folder, number = Path("runs") / f"{now}-{number}", number + 1
    return folder


def open_run(folder: Path, options: dict[str, Any], parameter_file: str | os.PathLike[str] = "") -> Path:
    """Makes the folder of a run, or goes on with one that was started with the same options.

    The configuration files are copied, those that are in use in place of the package's, so that the folder says how it was made.

    Args:
        folder: Where.
        options: Plain data that says what the run is.
        parameter_file: Node parameters of this start of the run, config/nodes.yaml when left out. Another start may have others.

    Returns:
        The folder as an absolute path.

    Raises:
        UserError: It holds a run with other options, or something else.
        OSError: It cannot be written.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    options = json.loads(json.dumps({"version": __version__, **options}))
    before = _read_options(folder)
    if before is None and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no run: choose another folder with --run-directory")
    if before is not None and before != options:
        differing = next(key for key in sorted(before.keys() | options.keys()) if before.get(key) != options.get(key))
        found = f"{differing} {before.get(differing)!r}, not {options.get(differing)!r}"
        raise UserError(f"{folder} holds a run with {found}: use the same options to go on with it, or another --run-directory")
    used = _used_files(Path(parameter_file or config_directory() / "nodes.yaml"), str(options.get("embodiment", "")))
    write_atomically(folder / OPTIONS, json.dumps(options, indent=1).encode() + b"\n")
    shutil.copytree(config_directory(), folder / "config", dirs_exist_ok=True)
    for name, data in used.items():
        (folder / "config" / name).write_bytes(data)
    return folder


def learner_file(parameter_file: Path | None) -> str | None:
    """File with settings of the learner that node parameters name; None where it is the package's, or cannot be found, which the node reports."""
    try:
        named = next(_learner_files(yaml.safe_load(parameter_file.read_bytes())), "") if parameter_file else ""
    except (OSError, yaml.YAMLError):
        return None
    return named if Path(named).is_file() else None


def _used_files(parameter_file: Path, embodiment: str) -> dict[str, bytes]:
    """Contents by name below ``config/``, read before anything is written there: they may be the copies of an earlier start."""
    used = {"nodes.yaml": parameter_file.read_bytes()}
    others = {"learner.yaml": next(_learner_files(yaml.safe_load(used["nodes.yaml"])), ""), f"embodiment/{Path(embodiment).name}": embodiment}
    return used | {name: Path(file).read_bytes() for name, file in others.items() if Path(file).is_file()}  # who needs one that is missing says so


def _learner_files(section: Any) -> Iterator[str]:
    """The values of the parameter ``learner_file``, at whatever namespace."""
    for name, value in section.items() if isinstance(section, dict) else ():
        if name == "learner_file":
            yield str(value)
        yield from _learner_files(value)


def _read_options(folder: Path) -> dict[str, Any] | None:
    path = folder / OPTIONS
    if not path.exists():
        return None
    try:
        options = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: choose another folder with --run-directory") from error
    return options if isinstance(options, dict) else None
