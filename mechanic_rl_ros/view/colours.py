"""What colours mean, in RViz, in the overlay and in pictures. Red is kept for limits that act."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechanic_rl_ros.view.shapes import Colour

WORKSPACE: Colour = (0.55, 0.62, 0.70, 0.8)
TABLE: Colour = (0.62, 0.55, 0.45, 0.35)
KEEP_OUT: Colour = (0.95, 0.75, 0.20, 0.30)
LIMIT: Colour = (0.88, 0.10, 0.10, 1.0)
LIMIT_WALL: Colour = (0.88, 0.10, 0.10, 0.35)
OBJECT: Colour = (0.20, 0.45, 0.90, 0.9)
GOAL: Colour = (0.20, 0.70, 0.30, 0.6)
TEXT: Colour = (0.92, 0.92, 0.92, 1.0)

_OPEN, _CLOSED = np.array([0.96, 0.55, 0.08]), np.array([0.85, 0.15, 0.55])  # planned: orange with an open hand, magenta with a closed one
_TIME = np.array([[0.36, 0.30, 0.86], [0.10, 0.62, 0.68], [0.42, 0.76, 0.24]])  # executed: from violet through teal to green
_FAINTEST = 0.12


def planned_colours(closed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Colours (N, 4) of a planned path that fades towards the future; ``closed`` (N,) says where the hand is to be closed."""
    colours = np.empty((len(closed), 4))
    colours[:, :3] = np.where(closed[:, None], _CLOSED, _OPEN)
    colours[:, 3] = np.linspace(1.0, _FAINTEST, len(closed))
    return colours


def time_colours(progress: ArrayLike) -> NDArray[np.float64]:
    """Colours (N, 4) of an executed path; ``progress`` (N,) through the episode, 0 to 1."""
    stops = np.linspace(0.0, 1.0, len(_TIME))
    wanted = np.clip(np.asarray(progress, dtype=np.float64), 0.0, 1.0)
    return np.stack([*(np.interp(wanted, stops, channel) for channel in _TIME.T), np.ones_like(wanted)], axis=-1)
