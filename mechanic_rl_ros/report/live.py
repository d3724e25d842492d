"""The live table of a run: one row of facts, renewed in place on a terminal, printed as plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mechanic_rl_ros.metrics import Record


class LiveTable:
    """Shows the newest records. Use it as a context and feed it with ``update``.

    On a terminal it is a table with a progress bar below; elsewhere one plain line follows each episode, so that logs stay readable.
    """

    def __init__(self, episodes: int, console: Console | None = None) -> None:
        """``episodes`` is how many the run will have."""
        self._console = console or Console()
        self._latest: dict[str, Record] = {}
        self._reason = ""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("episodes"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task("starting the nodes", total=episodes)
        self._live = Live(self, console=self._console, refresh_per_second=4, transient=False) if self._console.is_terminal else None

    def __enter__(self) -> LiveTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, records: Iterable[Record]) -> None:
        """Takes new records."""
        before = self._reason
        for record in records:
            self._latest[record["kind"]] = record
            if record["kind"] in ("run", "waiting"):
                self._reason = record.get("reason", "")
            if record["kind"] == "episode":
                self._progress.update(self._task, advance=record["outcome"] != "aborted", description="practising")  # aborted ones are made up for
                if self._live is None:
                    self._console.print("  ".join(f"{name} {value}" for name, value in self.cells().items()), highlight=False, soft_wrap=True)
        if self._live is None and self._reason not in ("", before):
            self._console.print(self._reason, highlight=False, markup=False, soft_wrap=True)

    def cells(self) -> dict[str, str]:
        """What the table shows, by the name of the column."""
        return {
            "episode": self._text("episode", "number"),
            "outcome": self._text("episode", "outcome"),
            "success (last 20)": self._text("episode", "success_20", ".2f"),
            "policy version": self._text("policy", "version") if "policy" in self._latest else self._text("episode", "policy_version"),
            "actor scale": self._text("learner", "actor_scale", ".2e"),
            "critic scale": self._text("learner", "critic_scale", ".2e"),
            "control p99 (ms)": self._text("command", "period_p99_ms", ".1f"),
            "real-time factor": self._text("sim", "real_time_factor", ".2f"),
        }

    def __rich__(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        cells = self.cells()
        for name in cells:
            table.add_column(name.replace(" ", "\n", 1), justify="right", min_width=7, no_wrap=True)  # in two lines all fit 80 columns
        table.add_row(*(_coloured(value) for value in cells.values()))
        outer = Table.grid()
        outer.add_row(table)
        outer.add_row(self._progress)
        if self._reason:
            outer.add_row(Text(self._reason, style="yellow"))
        return outer

    def _text(self, kind: str, field: str, form: str = "") -> str:
        value: Any = self._latest.get(kind, {}).get(field)
        return "-" if value is None else format(value, form)


def _coloured(value: str) -> str:
    return {"success": "[green]success[/]", "failure": "[red]failure[/]", "timeout": "[red]timeout[/]", "aborted": "[yellow]aborted[/]"}.get(value, value)
