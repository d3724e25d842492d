"""``mechanic-rl doctor``: what is installed, what is missing and how to get it; with ``--live``, why nothing moves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mechanic_rl_ros.cli.checks import Check, State, run_checks
from mechanic_rl_ros.cli.console import loading, out
from mechanic_rl_ros.cli.live import Finding, Health, cause, judge, listen
from mechanic_rl_ros.cli.options import Embodiment
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.ros_domain import LARGEST_DOMAIN

_STYLES = {State.OK: "[green]ok[/]", State.OPTIONAL: "[yellow]optional[/]", State.MISSING: "[bold red]missing[/]"}
_LIVE_STYLES = {Health.OK: "[green]ok[/]", Health.NOTE: "[yellow]note[/]", Health.WRONG: "[bold red]wrong[/]"}


def doctor(
    run_directory: Annotated[Path, typer.Option(help="Folder in which runs are to be written.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Listen to a running graph and say why nothing moves; exit status 0 when all moves.")] = False,
    domain: Annotated[int | None, typer.Option(min=0, max=LARGEST_DOMAIN, help="With --live: ROS domain; ROS_DOMAIN_ID, or 0.", show_default=False)] = None,
    namespace: Annotated[str, typer.Option(help="With --live: ROS namespace of the robot.")] = "",
    embodiment: Embodiment = "fr3",
    seconds: Annotated[float, typer.Option(min=2.0, max=60.0, help="With --live: how long to listen.")] = 5.0,
) -> None:
    """Say what is installed, what is missing and how to get it. Exit status 1 when something required is missing.

    \b
    Examples:
        mechanic-rl doctor
        mechanic-rl doctor --json
        mechanic-rl doctor --live
    """
    if live:
        _live(_domain() if domain is None else domain, namespace, embodiment, seconds, as_json)
        return
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


def _domain() -> int:
    text = os.environ.get("ROS_DOMAIN_ID", "") or "0"
    if not text.isdigit() or int(text) > LARGEST_DOMAIN:
        raise UserError(f"ROS_DOMAIN_ID is {text!r}: set it to a number, or give --domain")
    return int(text)


def _live(domain: int, namespace: str, embodiment: str, seconds: float, as_json: bool) -> None:
    described = load_embodiment(embodiment)
    with loading(f"listening in domain {domain}"):
        findings = judge(listen(domain, namespace, embodiment, seconds), domain, namespace, described)
    reason = cause(findings)
    if as_json:
        print(json.dumps({"findings": [finding.to_dict() for finding in findings], "cause": reason.to_dict() if reason else None}, indent=1))
    else:
        _print_live(findings, reason)
    if reason is not None:
        raise typer.Exit(1)


def _print_live(findings: list[Finding], reason: Finding | None) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold", max_width=72)
    table.add_column("what to do", overflow="fold")
    for finding in findings:
        table.add_row(_LIVE_STYLES[finding.health], escape(finding.what), escape(finding.found), "" if finding.health is Health.OK else escape(finding.remedy))
    out.print(table)
    if reason is None:
        out.print("[green]all moves[/]")
    else:
        remedy = f": {reason.remedy}" if reason.remedy else ""
        out.print(f"[bold red]most likely cause:[/] {escape(f'{reason.what}: {reason.found}{remedy}')}", soft_wrap=True)
