"""Shapes of a scene as plain data. ``nodes/markers.py`` makes RViz markers of them, ``picture.py`` draws them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float, float]
"""Red, green, blue and opacity, 0 to 1."""

FOREVER = 0.0
"""Lifetime of what stays until it is deleted."""

LIVE_S = 5.0
"""Lifetime of what changes, s: it goes by itself where nobody is left who would delete it."""


class Kind(Enum):
    """What a shape is."""

    LINE_STRIP = auto()
    LINE_LIST = auto()  # every two points are one line
    BOX = auto()
    SPHERE = auto()
    TEXT = auto()  # faces the viewer


@dataclass(frozen=True, eq=False)
class Shape:
    """One thing to draw. A namespace is what a viewer can switch off; ``(namespace, id)`` is unique.

    Attributes:
        kind: What it is.
        namespace: What it belongs to.
        id: Number within the namespace.
        frame: Frame that positions are in.
        colour: Of all of it, unless ``colours`` says more.
        position: Centre of a box, sphere or text, m.
        size: Full sizes of a box or sphere, m; of lines the first is their width, of text the last its height.
        points: Of lines, (N, 3), m.
        colours: One for every point, (N, 4); empty: ``colour`` for all.
        text: Of text, lines separated by newlines.
        lifetime_s: s of ROS time until a viewer lets it go; ``FOREVER``: until it is deleted.
    """

    kind: Kind
    namespace: str
    id: int
    frame: str
    colour: Colour
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    colours: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    text: str = ""
    lifetime_s: float = LIVE_S

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from other shapes."""
        return self.namespace, self.id


class Board:
    """What a viewer was told to show: finds what must be sent now, and what must go."""

    def __init__(self, repeat: int) -> None:
        """``repeat``: updates after which what stays is sent again, for viewers that joined late."""
        self._repeat, self._updates = repeat, 0
        self._shown: set[tuple[str, int]] = set()

    def update(self, shapes: Iterable[Shape]) -> tuple[list[Shape], list[tuple[str, int]]]:
        """Shapes to send, and keys of those to delete, so that exactly ``shapes`` are seen."""
        wanted = {shape.key: shape for shape in shapes}
        all_again = self._updates % self._repeat == 0
        send = [shape for key, shape in wanted.items() if all_again or shape.lifetime_s != FOREVER or key not in self._shown]
        gone = sorted(self._shown - wanted.keys())
        self._shown, self._updates = set(wanted), self._updates + 1
        return send, gone
