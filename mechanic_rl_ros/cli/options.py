"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Task = Annotated[str, typer.Option(help="Task: lift, push or reach.")]
Embodiment = Annotated[str, typer.Option(help="Name from config/embodiment/, or a YAML file.")]
Workers = Annotated[int, typer.Option(min=1, max=256, help="Processes; the result does not depend on it.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of everything random.")]
