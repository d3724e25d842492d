"""The tasks that the simulation offers."""

from __future__ import annotations

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.sim.tasks.lift import Lift
from mechanic_rl_ros.sim.tasks.push import Push
from mechanic_rl_ros.sim.tasks.reach import Reach
from mechanic_rl_ros.sim.tasks.task import REGIONS, Task, TaskReading

__all__ = ["REGIONS", "TASKS", "Task", "TaskReading", "load_task"]

TASKS: dict[str, type[Task]] = {task.name: task for task in (Lift, Push, Reach)}


def load_task(name: str) -> type[Task]:
    """The task called ``name``.

    Raises:
        UserError: There is no such task.
    """
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}: use one of {', '.join(sorted(TASKS))}")
    return TASKS[name]
