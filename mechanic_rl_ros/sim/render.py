"""Camera images of a MuJoCo scene: by casting rays (no graphics library needed) or by MuJoCo's own renderer."""

from __future__ import annotations

from abc import ABC, abstractmethod

import mujoco
import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.errors import UserError

BACKGROUND = (0.22, 0.26, 0.32)  # RGB where no surface is hit
VISIBLE_GROUPS = np.array([1, 1, 1, 0, 0, 0], dtype=np.uint8)


class Renderer(ABC):
    """Turns the state of a scene into images."""

    @abstractmethod
    def render(self, data: mujoco.MjData, camera: str) -> NDArray[np.uint8]:
        """What ``camera`` sees: RGB (size, size, 3). Positions of bodies and cameras in ``data`` must be up to date."""

    def close(self) -> None:
        """Gives back what the renderer holds."""
        return None


class RayRenderer(Renderer):
    """One ray per pixel, Lambert shading by the scene's head light and its first directional light, no shadows."""

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        """Prepares square images of ``size`` pixels of every camera of ``model``."""
        self._model = model
        self._size = size
        pixels = size * size
        self._rays = [_rays(float(model.cam_fovy[camera]), size) for camera in range(model.ncam)]
        self._hit = np.empty(pixels, dtype=np.int32)
        self._distance = np.empty(pixels)
        self._normals = np.empty((pixels, 3))
        self._lamp = -np.array(model.light_dir[0])
        head = model.vis.headlight
        self._ambient, self._head, self._diffuse = float(head.ambient[0]), float(head.diffuse[0]), float(model.light_diffuse[0, 0])

    def render(self, data: mujoco.MjData, camera: str) -> NDArray[np.uint8]:
        """See ``Renderer.render``."""
        number = _camera(self._model, camera)
        directions = self._rays[number] @ data.cam_xmat[number].reshape(3, 3).T
        flat, normals = directions.reshape(-1), self._normals.reshape(-1)
        mujoco.mj_multiRay(
            self._model, data, data.cam_xpos[number], flat, VISIBLE_GROUPS, 1, -1, self._hit, self._distance, normals, len(self._hit), mujoco.mjMAXVAL
        )
        return self._shade(directions)

    def _shade(self, directions: NDArray[np.float64]) -> NDArray[np.uint8]:
        normals = self._normals
        light = -np.einsum("ij,ij->i", normals, directions)
        light *= self._head
        light += np.maximum(normals @ (self._diffuse * self._lamp), 0.0)
        light += self._ambient
        light[self._hit < 0] = 1.0
        colours = np.vstack([self._model.geom_rgba[:, :3], [BACKGROUND]])[self._hit]  # a miss is -1: the last row
        colours *= (255.0 * light)[:, None]
        return np.minimum(colours, 255.0).astype(np.uint8).reshape(self._size, self._size, 3)


class MujocoRenderer(Renderer):
    """MuJoCo's own renderer, with shadows; needs a graphics library (EGL, OSMesa or a display).

    A graphics context belongs to one thread. It is opened by the first ``render``, and ``close`` must come from the same thread; after that another one may
    render.
    """

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        """Square images of ``size`` pixels."""
        self._model, self._size = model, size
        self._renderer: mujoco.Renderer | None = None

    def render(self, data: mujoco.MjData, camera: str) -> NDArray[np.uint8]:
        """See ``Renderer.render``.

        Raises:
            UserError: Unknown camera, or there is no usable graphics library.
        """
        _camera(self._model, camera)
        if self._renderer is None:
            self._renderer = self._open()
        self._renderer.update_scene(data, camera=camera)
        return self._renderer.render().copy()

    def close(self) -> None:
        """Closes the graphics context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _open(self) -> mujoco.Renderer:
        try:
            return mujoco.Renderer(self._model, self._size, self._size)
        except Exception as error:  # what is raised depends on the platform's graphics library
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"MuJoCo's renderer has no graphics library here ({reason}): use renderer=rays, or install EGL and set MUJOCO_GL=egl") from error


def make_renderer(name: str, model: mujoco.MjModel, size: int) -> Renderer:
    """Renderer ``rays`` or ``mujoco`` for square images of ``size`` pixels.

    Raises:
        UserError: Unknown name.
    """
    kinds: dict[str, type[RayRenderer] | type[MujocoRenderer]] = {"rays": RayRenderer, "mujoco": MujocoRenderer}
    if name not in kinds:
        raise UserError(f"unknown renderer {name!r}: use one of {', '.join(sorted(kinds))}")
    return kinds[name](model, size)


def _camera(model: mujoco.MjModel, name: str) -> int:
    number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if number < 0:
        raise UserError(f"the scene has no camera {name!r}: use one of {', '.join(model.camera(index).name for index in range(model.ncam))}")
    return int(number)


def _rays(fovy: float, size: int) -> NDArray[np.float64]:
    """Unit directions (size * size, 3) through the pixel centres, row by row, in the camera's frame (x right, y up, looking along -z)."""
    reach = np.tan(np.radians(fovy) / 2.0)
    steps = ((np.arange(size) + 0.5) * 2.0 / size - 1.0) * reach
    x, y = np.meshgrid(steps, -steps)
    rays = np.stack([x, y, -np.ones_like(x)], axis=-1).reshape(-1, 3)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)
