"""Reading configuration dataclasses from YAML, every mistake named."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import config_directory
from mechanic_rl_ros.yaml_file import read_yaml

Configuration = TypeVar("Configuration")


def read_section(kind: type[Configuration], section: str, path: str | os.PathLike[str] | None = None) -> Configuration:
    """Builds the dataclass ``kind`` from one section of a YAML file, config/learner.yaml unless said otherwise.

    Fields that the file leaves out keep their defaults. Numbers have bounds in their field's metadata: ``field(metadata={"low": ..., "high": ...})``.

    Raises:
        UserError: The file is missing or malformed, a field is unknown, of the wrong kind, or out of range.
    """
    file = Path(path) if path is not None else config_directory() / "learner.yaml"
    data = read_yaml(file, "configuration", "give an existing YAML file")
    values = data.get(section, {}) if isinstance(data, dict) else None
    if not isinstance(values, dict):
        raise UserError(f"configuration {file} has no section {section!r}: compare it with config/learner.yaml")
    return kind(**_checked(kind, values, f"configuration {file}, {section}"))


def _checked(kind: Any, values: dict[str, Any], what: str) -> dict[str, Any]:
    known = {item.name: item for item in fields(kind)}
    checked = {}
    for name, value in values.items():
        if name not in known:
            raise UserError(f"{what}: unknown field {name!r}: use one of {', '.join(known)}")
        expected = type(known[name].default)
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not expected:
            raise UserError(f"{what}: {name} is {value!r}: give a value of type {expected.__name__}")
        low, high = known[name].metadata.get("low", value), known[name].metadata.get("high", value)
        if not low <= value <= high:
            raise UserError(f"{what}: {name} is {value}: choose a value between {low} and {high}")
        checked[name] = value
    return checked
