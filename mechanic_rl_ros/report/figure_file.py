"""Writing a matplotlib figure: whole, or not at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mechanic_rl_ros.replay.atomic import write_atomically


def write_figure(figure: Figure, path: Path) -> None:
    """Draws ``figure`` and writes it as PNG; needs no display.

    Raises:
        OSError: It cannot be written; a picture that was there is as it was.
    """
    FigureCanvasAgg(figure)
    picture = BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(path, picture.getvalue())
