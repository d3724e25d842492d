"""Reading YAML that a person wrote: what is wrong with it is said in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from mechanic_rl_ros.errors import UserError, first_line
from mechanic_rl_ros.paths import config_directory


def yaml_path(name: str | os.PathLike[str], folder: str) -> Path:
    """The file ``name``, or where it is no YAML file the one of that name in ``config/folder/``."""
    return Path(name) if str(name).endswith((".yaml", ".yml")) else config_directory() / folder / f"{name}.yaml"


def read_yaml(path: str | os.PathLike[str], what: str, remedy: str) -> Any:
    """Plain data from a file.

    Args:
        path: The file.
        what: What it holds, for the line that says what is wrong.
        remedy: What to do where it cannot be read.

    Raises:
        UserError: It cannot be read, or is no YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read {what} {path} ({error.strerror}): {remedy}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a ValueError: a date that there is not, for example
        raise UserError(f"{what} {path} is not valid YAML: {first_line(error)}") from error
