"""Where the tool has been in this episode."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LONGEST = 128  # points: drawn again and again, so a long episode is drawn more coarsely
NEAREST = 0.002  # m between two points


class ExecutedPath:
    """Points with the time at which the tool was there."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Forgets the last episode."""
        self._points: list[NDArray[np.float64]] = []
        self._stamps_ns: list[int] = []

    def add(self, stamp_ns: int, position: NDArray[np.float64]) -> None:
        """The tool was at ``position`` (3,), m; what is hardly anywhere else is left out."""
        if self._points and np.linalg.norm(position - self._points[-1]) < NEAREST:
            return
        self._points.append(np.array(position))
        self._stamps_ns.append(stamp_ns)
        if len(self._points) > LONGEST:
            self._points, self._stamps_ns = self._points[::2], self._stamps_ns[::2]

    @property
    def points(self) -> NDArray[np.float64]:
        """(N, 3), m."""
        return np.array(self._points).reshape(-1, 3)

    @property
    def stamps_ns(self) -> NDArray[np.int64]:
        """(N,)."""
        return np.array(self._stamps_ns, np.int64)
