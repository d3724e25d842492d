"""Reading the description of a policy from YAML: what it leaves out is as in the embedded default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PARTS, PolicyConfig, part_to_dict


def read_architecture(path: str | os.PathLike[str], embodiment: Embodiment) -> PolicyConfig:
    """The policy that a file such as config/policy/unet.yaml describes, for a robot.

    Raises:
        UserError: The file cannot be read, or describes no policy.
    """
    try:
        data = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read policy description {path} ({error.strerror}): compare with config/policy/unet.yaml") from error
    except yaml.YAMLError as error:
        raise UserError(f"policy description {path} is not valid YAML: {str(error).splitlines()[0]}") from error
    described = PolicyConfig.for_embodiment(embodiment).to_dict()
    if not isinstance(data, dict) or data.keys() - described.keys():
        unknown = ", ".join(map(str, data.keys() - described.keys())) if isinstance(data, dict) else "no fields"
        raise UserError(f"policy description {path}: {unknown} is not known: use {', '.join(described)}")
    for name, value in data.items():
        described[name] = {**_defaults(name, value, described[name]), **value} if isinstance(value, dict) else value
    return PolicyConfig.from_dict(described, f"policy description {path}")


def _defaults(name: str, value: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """Of the kind that is asked for."""
    kind = PARTS.get(name, {}).get(str(value.get("kind")))
    return described if kind is None else part_to_dict(kind())
