"""Where the package's own files lie: beside the source in a checkout, under share/ once installed."""

from __future__ import annotations

from pathlib import Path


def share_directory() -> Path:
    """Folder that holds config/, description/, checkpoints/ and launch/.

    In a checkout that is the repository; after ``colcon build`` it is ``<prefix>/share/mechanic_rl_ros``.
    """
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "description").is_dir():
        return checkout
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("mechanic_rl_ros"))


def config_directory() -> Path:
    """Folder of the YAML parameter files."""
    return share_directory() / "config"


def description_directory() -> Path:
    """Folder of the robot and scene descriptions."""
    return share_directory() / "description"


def checkpoint_directory(task: str) -> Path:
    """Folder of the base checkpoint that ships for ``task``."""
    return share_directory() / "checkpoints" / task
