"""What the command node computes in every period, compiled from ``src/way.cpp`` and ``src/servo.cpp``; the same in numpy acts where it is not built.

Numbers travel as C structures that are laid out here; ``benchmark/commander.py`` says what it saves.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mechanic_rl_ros.safety.kinematics import Kinematics

LIBRARY = Path(__file__).parent / "libmechanic_arm.so"
"""Built together with the package."""

Joints = ctypes.c_double * 7
Corner = ctypes.c_double * 3


class Chain(ctypes.Structure):
    """``Chain`` of src/arm.h."""

    _fields_ = (("origins", ctypes.c_double * 112), ("tool", ctypes.c_double * 16))


def chain_of(kinematics: Kinematics) -> Chain:
    """The arm's chain of joints."""
    return Chain((ctypes.c_double * 112)(*kinematics.origins.ravel()), (ctypes.c_double * 16)(*kinematics.tool.ravel()))


def joints(values: ArrayLike) -> Any:
    """A number for every joint as a C array; one number counts for all."""
    return Joints(*np.broadcast_to(np.asarray(values, dtype=np.float64), 7))


def corner(values: ArrayLike) -> Any:
    """A point (3,) as a C array."""
    return Corner(*np.asarray(values, dtype=np.float64))


def require_layout(found: Any, name: str, numbers: type[ctypes.Structure]) -> None:
    """Refuses to compute with a library that is missing, or that takes numbers for others.

    Raises:
        RuntimeError: The library is not built, or from another version.
    """
    if found is None:
        raise RuntimeError("the library of the arm is not built: run make, or use the readable classes")
    if getattr(found, f"{name}_size")() != ctypes.sizeof(numbers):
        raise RuntimeError(f"{LIBRARY} was built from another version of src/{name}.cpp: run make")


@cache
def library() -> Any:
    """The library; None where it is not built."""
    if not LIBRARY.exists():
        return None
    found = ctypes.CDLL(str(LIBRARY))
    pointer = ctypes.c_void_p
    found.servo_joint_velocity.argtypes = [pointer] * 5
    found.servo_joint_velocity.restype = ctypes.c_int
    found.way_next.argtypes = [pointer, pointer, ctypes.c_double, pointer, pointer]
    found.way_next.restype = None
    found.way_stop.argtypes = [pointer] * 3
    found.way_stop.restype = ctypes.c_int
    return found
