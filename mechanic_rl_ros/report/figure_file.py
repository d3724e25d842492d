"""Writing a matplotlib figure."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def write_figure(figure: Figure, path: Path) -> None:
    """Draws ``figure``, then writes it as PNG to whatever ``path`` is; needs no display.

    Raises:
        OSError: It cannot be written.
    """
    FigureCanvasAgg(figure)
    picture = BytesIO()
    figure.savefig(picture, format="png")
    try:
        path.write_bytes(picture.getvalue())
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error  # a failed write, unlike a failed open, does not say which file
