"""``mechanic-rl doctor``: what is installed, what is missing and how to get it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mechanic_rl_ros.cli.checks import Check, State, run_checks
from mechanic_rl_ros.cli.console import loading, out

_STYLES = {State.OK: "[green]ok[/]", State.OPTIONAL: "[yellow]optional[/]", State.MISSING: "[bold red]missing[/]"}


def doctor(
    run_directory: Annotated[Path, typer.Option(help="Folder in which runs are to be written.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is installed, what is missing and how to get it. Exit status 1 when something required is missing.

    \b
    Examples:
        mechanic-rl doctor
        mechanic-rl doctor --json
    """
    with loading("looking around"):
        checks = run_checks(run_directory)
    if as_json:
        print(json.dumps([check.to_dict() for check in checks], indent=1))
    else:
        _print(checks)
    if any(check.state is State.MISSING for check in checks):
        raise typer.Exit(1)


def _print(checks: list[Check]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold", max_width=48)
    table.add_column("how to get it", overflow="fold")
    for check in checks:
        table.add_row(_STYLES[check.state], check.name, check.found, "" if check.state is State.OK else check.remedy)
    out.print(table)
    missing = [check for check in checks if check.state is State.MISSING]
    out.print(f"[bold red]{len(missing)} required missing[/]" if missing else "[green]everything required is here[/]")
