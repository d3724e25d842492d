"""Reading the description of a policy from YAML: what it leaves out is as in the embedded default."""

from __future__ import annotations

import os
from typing import Any

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PolicyConfig, part_to_dict
from mechanic_rl_ros.policy.part_config import PARTS
from mechanic_rl_ros.yaml_file import read_yaml


def read_architecture(path: str | os.PathLike[str], embodiment: Embodiment) -> PolicyConfig:
    """The policy that a file such as config/policy/unet.yaml describes, for a robot.

    Raises:
        UserError: The file cannot be read, or describes no policy.
    """
    data = read_yaml(path, "policy description", "compare with config/policy/unet.yaml")
    described = PolicyConfig.for_embodiment(embodiment).to_dict()
    own = [name for name in described if name not in ("cameras", "state_dim", "action_dim")]  # those are the robot's
    if not isinstance(data, dict) or data.keys() - set(own):
        unknown = ", ".join(map(str, data.keys() - set(own))) if isinstance(data, dict) else repr(data)
        raise UserError(f"policy description {path}: {unknown} is not known: use {', '.join(own)}")
    for name, value in data.items():
        described[name] = {**_defaults(name, value, described[name]), **value} if isinstance(value, dict) and isinstance(described[name], dict) else value
    config = PolicyConfig.from_dict(described, f"policy description {path}")
    crop = getattr(config.encoder, "crop", (0, 0))
    for key, camera in embodiment.cameras.items():
        if crop[0] > camera.height or crop[1] > camera.width:
            raise UserError(
                f"policy description {path}: a crop of {crop[0]}x{crop[1]} is larger than the {camera.height}x{camera.width} images of camera {key}"
            )
    return config


def _defaults(name: str, value: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """Of the kind that is asked for."""
    kind = PARTS.get(name, {}).get(str(value.get("kind")))
    return described if kind is None else part_to_dict(kind())
