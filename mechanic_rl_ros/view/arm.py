"""The arm as capsules and joints, for pictures."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from numpy.typing import NDArray

_LIGHT, _DARK, _INK = "#f4f5f7", "#5b6470", "#8a929c"
# Frames that a limb joins, width in points; an offset (m) is in the frame before it.
_CHAIN = ("link0", "link1", "link3", "link4", "link5", "link7", "link8", "hand")
_WIDTHS = (17.0, 16.0, 15.0, 14.0, 12.0, 10.0, 9.0)
_JOINTS = ("link1", "link3", "link4", "link5", "link7")


def draw_arm(axes: Axes3D, poses: Mapping[str, NDArray[np.float64]], opacity: float, layer: int) -> None:
    """Draws arm and hand.

    Args:
        axes: Where.
        poses: Of all frames in the base frame, (4, 4), by name.
        opacity: 0 to 1.
        layer: Order among other things.
    """
    prefix = next(name for name in poses if name.endswith("link0")).removesuffix("link0")
    place = {name.removeprefix(prefix): pose[:3, 3] for name, pose in poses.items()}
    limbs = [np.stack([place[start], place[end]]) for start, end in pairwise(_CHAIN)]
    for widen, colour in ((2.0, _INK), (0.0, _LIGHT)):  # a contour, then what it encloses
        _lines(axes, limbs, [width + widen for width in _WIDTHS], colour, opacity, layer)
    joints = np.stack([place[name] for name in _JOINTS])
    axes.plot(*joints.T, "o", color=_DARK, markersize=8, alpha=opacity, zorder=layer)
    _hand(axes, {name.removeprefix(prefix): pose for name, pose in poses.items()}, opacity, layer)


def _hand(axes: Axes3D, poses: Mapping[str, NDArray[np.float64]], opacity: float, layer: int) -> None:
    hand, fingers = poses["hand"], (poses["leftfinger"], poses["rightfinger"])
    palm = np.stack([(hand @ [0.0, y, 0.045, 1.0])[:3] for y in (-0.085, 0.085)])
    tips = [np.stack([(finger @ [0.0, 0.01, z, 1.0])[:3] for z in (0.0, 0.05)]) for finger in fingers]
    for widen, colour in ((2.0, _INK), (0.0, _LIGHT)):
        _lines(axes, [palm], [10.0 + widen], colour, opacity, layer)
    _lines(axes, tips, [5.0, 5.0], _DARK, opacity, layer)


def _lines(axes: Axes3D, lines: list[NDArray[np.float64]], widths: list[float], colour: str, opacity: float, layer: int) -> None:
    axes.add_collection3d(Line3DCollection(lines, colors=colour, linewidths=widths, capstyle="round", alpha=opacity, zorder=layer))
