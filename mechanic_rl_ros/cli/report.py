"""``mechanic-rl report``: the picture of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mechanic_rl_ros.cli.console import out
from mechanic_rl_ros.errors import UserError


def report(
    run: Annotated[Path | None, typer.Argument(help="Folder of the run; the newest in runs/ when left out.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to put the picture; report.png in the run folder when left out.", show_default=False)
    ] = None,
) -> None:
    """Draw success, return, tuner scales and timing of a run, also of one that is still going.

    \b
    Examples:
        mechanic-rl report
        mechanic-rl report runs/2026-05-01_14-30-00 --output success.png
    """
    from mechanic_rl_ros.report.run_data import RunData

    data = RunData.load(run or newest_run(Path("runs")))

    from mechanic_rl_ros.report.picture import draw_report  # slow to import: cheap mistakes are found before

    out.print(str(draw_report(data, output)), soft_wrap=True)


def newest_run(folder: Path) -> Path:
    """The run in ``folder`` that was written to last.

    Raises:
        UserError: There is none.
    """
    from mechanic_rl_ros.metrics import FILE

    runs = sorted(folder.glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise UserError(f"there is no run in {folder}/: give the folder of a run, or make one with `mechanic-rl finetune`")
    return runs[-1].parent
