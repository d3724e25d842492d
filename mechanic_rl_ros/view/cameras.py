"""Where cameras are and what they see: pinhole projection into the image as the policy gets it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import config_directory
from mechanic_rl_ros.yaml_file import read_yaml, yaml_path

NEAREST = 0.01  # m in front of the camera: what is closer or behind is not seen


@dataclass(frozen=True)
class CameraView:
    """One camera.

    Attributes:
        parent: Frame that it is fixed to.
        pose: Of its optical frame (x right, y down, z forward) in ``parent``, (4, 4), m.
        field_of_view: From the upper to the lower edge of the image, rad.
    """

    parent: str
    pose: NDArray[np.float64]
    field_of_view: float

    def project(self, points: NDArray[np.float64], parent: NDArray[np.float64], height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Pixels of points.

        Args:
            points: (N, 3), m, in the base frame.
            parent: Pose (4, 4) of the parent frame in the base frame.
            height: Rows of the image.
            width: Columns of the image.

        Returns:
            Column and row (N, 2), and whether each point is in front of the camera (N,).
        """
        seen = np.linalg.inv(parent @ self.pose)
        x, y, z = seen[:3, :3] @ points.T + seen[:3, 3:]
        ahead = z > NEAREST
        focal = 0.5 * height / np.tan(0.5 * self.field_of_view) / np.where(ahead, z, 1.0)
        return np.stack([0.5 * width + focal * x, 0.5 * height + focal * y], axis=1), ahead


def load_cameras(name: str | os.PathLike[str]) -> dict[str, CameraView]:
    """Reads cameras by the name of their embodiment, or from a YAML file; none where there is no file of that name.

    Raises:
        UserError: The file cannot be read or is malformed.
    """
    path = yaml_path(name, "cameras")
    if path.parent == config_directory() / "cameras" and not path.exists():
        return {}
    data = read_yaml(path, "cameras", "give a YAML file like config/cameras/fr3.yaml")
    try:
        return {str(key): _view(entry) for key, entry in data.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"cameras {path} are malformed ({str(error).splitlines()[0]}): compare them with config/cameras/fr3.yaml") from error


def _view(entry: dict[str, object]) -> CameraView:
    right, up, position = (np.array(entry[name], dtype=np.float64) for name in ("right", "up", "position"))
    degrees = float(str(entry["field_of_view"]))
    if not {right.shape, up.shape, position.shape} == {(3,)} or not np.isfinite([right, up, position]).all() or not 1.0 <= degrees <= 175.0:
        raise ValueError("position, right and up are three numbers each, field_of_view is 1 to 175 degrees")
    forward = np.cross(up, right)
    if np.linalg.norm(forward) < 0.5:
        raise ValueError("right and up are not axes of one image")
    forward /= np.linalg.norm(forward)
    right = right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = position
    return CameraView(str(entry["parent"]), pose, np.radians(degrees))
