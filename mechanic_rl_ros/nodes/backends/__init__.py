"""What moves the robot: one small interface, one file for each kind of robot."""

from __future__ import annotations

from importlib import import_module

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes.backends.backend import Backend
from mechanic_rl_ros.nodes.base import Node

BACKENDS = {"mujoco": "MujocoBackend", "gazebo": "GazeboBackend", "franka": "FrankaBackend", "crisp": "CrispBackend"}


def make_backend(name: str, node: Node, embodiment: Embodiment) -> Backend:
    """The backend called ``name``, with its parameters, publishers and timers on ``node``.

    Raises:
        UserError: There is no such backend, a package that it needs is not installed, or a parameter is out of range.
    """
    if name not in BACKENDS:
        raise UserError(f"unknown backend {name!r}: use one of {', '.join(BACKENDS)}")
    module = import_module(f"{__name__}.{name}")
    backend: Backend = getattr(module, BACKENDS[name])(node, embodiment)
    return backend
