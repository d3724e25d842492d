"""Processes of a launch that are stopped in order: what could move the arm first, what the arm is moved by last.

`launch` interrupts all its processes at once. Those here are asked to stop when all of lower orders have ended. They are in
sessions of their own, because Ctrl-C in a terminal interrupts every process of the launch's session as well.
"""

from __future__ import annotations

from typing import Any

from launch.actions import ExecuteProcess
from launch.launch_context import LaunchContext
from launch_ros.actions import Node

SESSION = "setsid"
"""Prefix of a command that must not hear Ctrl-C of the terminal."""


class StopOrder:
    """The processes of one launch."""

    def __init__(self) -> None:
        self._processes: list[OrderedProcess | OrderedNode] = []

    def add(self, process: OrderedProcess | OrderedNode) -> None:
        """Takes a process that is about to be started."""
        self._processes.append(process)

    def turn_of(self, order: int) -> bool:
        """Whether no process of a lower order is left."""
        return not any(process.lives for process in self._processes if process.stop_order < order)

    def go_on(self, context: LaunchContext) -> list[Any]:
        """To be called in a launch that shuts down when a process has ended: the actions that stop those whose turn has come."""
        if not context.is_shutdown:
            return []
        return [action for process in self._processes for action in process.stop(context) or []]


class _Ordered:
    """What both kinds of process have in common; stands before the launch action in the order of bases."""

    stopping: StopOrder
    stop_order: int
    _begun = False

    @property
    def lives(self) -> bool:
        """Whether it runs or is about to."""
        return self._begun and self.return_code is None  # type: ignore[attr-defined]

    def execute(self, context: LaunchContext) -> Any:
        """Starts it."""
        if not context.is_shutdown and not self._begun:
            self._begun = True
            self.stopping.add(self)  # type: ignore[arg-type]
        return super().execute(context)  # type: ignore[misc]

    def stop(self, context: LaunchContext) -> Any:
        """Actions that stop it, if it is its turn."""
        # One that waits for its next life must be told at once, or it would begin it.
        if self.lives and not self.stopping.turn_of(self.stop_order):
            return None
        return super()._shutdown_process(context, send_sigint=True)  # type: ignore[misc]

    def _shutdown_process(self, context: LaunchContext, *, send_sigint: bool) -> Any:
        """What launch calls when it shuts down."""
        return self.stop(context)


class OrderedProcess(_Ordered, ExecuteProcess):
    """A command."""

    def __init__(self, stopping: StopOrder, stop_order: int, cmd: list[str], **options: Any) -> None:
        """``options``: of ExecuteProcess."""
        super().__init__(cmd=[SESSION, *cmd], **options)
        self.stopping, self.stop_order = stopping, stop_order


class OrderedNode(_Ordered, Node):
    """A node."""

    def __init__(self, stopping: StopOrder, stop_order: int, prefix: str = "", **options: Any) -> None:
        """``prefix``: of the command; ``options``: of Node."""
        super().__init__(prefix=f"{SESSION} {prefix}".strip(), **options)
        self.stopping, self.stop_order = stopping, stop_order
