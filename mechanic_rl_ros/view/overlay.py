"""The task overlay: what a camera sees, with what is meant to happen drawn over it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.view import colours

SMALLEST = 240  # rows and columns at least: what a policy sees is often too small to be drawn on
_FONT_SCALE, _LINE_PX = 0.42, 16
_LINE_MARGIN = 4  # pixels around a piece of the path that its width may touch
_SHIFT = 4  # fractional bits of coordinates, for smooth lines


class Overlay:
    """Draws on images. OpenCV is loaded by the first one that is made: nobody else needs it."""

    def __init__(self) -> None:
        import cv2

        self._cv: Any = cv2

    def draw(
        self, image: NDArray[np.uint8], lines: list[str], warning: str = "", path: NDArray[np.float64] | None = None, shades: NDArray[np.float64] | None = None
    ) -> NDArray[np.uint8]:
        """``with_path`` and what is said below it.

        Args:
            image: As the policy gets it.
            lines: Below the image.
            warning: Below them, in red; its place is kept where it is empty, so that the size does not change.
            path: See ``with_path``.
            shades: See ``with_path``.
        """
        canvas = self.with_path(image, path, shades)
        strip = np.zeros((_LINE_PX * (len(lines) + 1) + 4, canvas.shape[1], 3), np.uint8)
        for number, (line, colour) in enumerate([*((line, colours.TEXT) for line in lines), (warning, colours.LIMIT)], start=1):
            self._write(strip, line, number * _LINE_PX - 3, colour)
        return np.concatenate([canvas, strip])

    def with_path(self, image: NDArray[np.uint8], path: NDArray[np.float64] | None, shades: NDArray[np.float64] | None) -> NDArray[np.uint8]:
        """A larger copy of an image.

        Args:
            image: RGB, (H, W, 3).
            path: Pixels (N, 2) of the planned path, column and row in ``image``.
            shades: Colours (N, 4) of its points.
        """
        factor = max(1, -(-SMALLEST // min(image.shape[:2])))
        canvas = np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))
        if path is not None and shades is not None:
            self._path(canvas, factor * path, shades)
        return canvas

    def _path(self, canvas: NDArray[np.uint8], path: NDArray[np.float64], shades: NDArray[np.float64]) -> None:
        """The furthest first, so that what comes next lies on top; opacity as blending with what is there, around each piece."""
        for start, end, shade in list(zip(path[:-1], path[1:], shades[1:], strict=True))[::-1]:
            left, top = np.maximum(np.minimum(start, end).astype(int) - _LINE_MARGIN, 0).tolist()
            right, bottom = np.maximum(np.maximum(start, end).astype(int) + _LINE_MARGIN, 0).tolist()
            around = canvas[top:bottom, left:right]
            if around.size:
                drawn = around.copy()
                a, b = ((np.round((point - (left, top)) * 2**_SHIFT)).astype(int).tolist() for point in (start, end))
                self._cv.line(drawn, a, b, (255.0 * shade[:3]).tolist(), 2, self._cv.LINE_AA, _SHIFT)
                self._cv.addWeighted(drawn, float(shade[3]), around, 1.0 - float(shade[3]), 0.0, around)

    def _write(self, canvas: NDArray[np.uint8], text: str, row: int, colour: colours.Colour) -> None:
        plain = text.encode("ascii", "replace").decode()
        shade = [255.0 * value for value in colour[:3]]
        self._cv.putText(canvas, plain, (5, row), self._cv.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, shade, 1, self._cv.LINE_AA)
