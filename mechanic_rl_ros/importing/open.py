"""Opening a policy of other software, whichever it is."""

from __future__ import annotations

from pathlib import Path

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.importing.imported import Imported
from mechanic_rl_ros.importing.lerobot import read_lerobot
from mechanic_rl_ros.importing.stanford import read_stanford


def open_policy(path: Path, cameras: dict[str, str]) -> Imported:
    """Reads a folder of LeRobot, or a .ckpt of diffusion_policy.

    Args:
        path: Folder or file.
        cameras: Camera key for every image that the policy takes, by its name there; by default the last part of that name.

    Raises:
        UserError: It is neither, or cannot be read.
    """
    if path.is_dir():
        return read_lerobot(path, cameras)
    if path.is_file():
        return read_stanford(path, cameras)
    raise UserError(f"there is no {path}: give the folder of a LeRobot policy, or a .ckpt of diffusion_policy")
