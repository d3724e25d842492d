"""Optimizers whose step size nobody chooses."""

from mechanic_rl_ros.tuner.mechanic import Mechanic
from mechanic_rl_ros.tuner.relative import RelativeMechanic

__all__ = ["Mechanic", "RelativeMechanic"]
