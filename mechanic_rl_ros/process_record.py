"""What is known about a supervised process: how it is, how long its lives were, what it said last."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_SHORT_LIFE_S = 5.0
_SHORT_LIVES = 5
_TAIL_BYTES = 4096
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class NodeState:
    """How a process is.

    Attributes:
        state: As supervisord calls it: STARTING, RUNNING, BACKOFF, STOPPING, STOPPED, EXITED or FATAL.
        pid: Process id; ``None`` when it does not run.
        exit_status: Of a process that has ended by itself; -1 when a signal ended it, ``None`` while it runs.
        restarts: How often it was started again.
    """

    state: str
    pid: int | None
    exit_status: int | None
    restarts: int


class ProcessRecord:
    """History of one process.

    Args:
        log: File that gets what it prints.
    """

    def __init__(self, log: Path) -> None:
        self.restarts = 0
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._short_lives = 0
        self._pid: int | None = None
        self._started_s = 0.0

    def see(self, pid: int | None, now_s: float) -> None:
        """Takes note of the process id (``None``: not running) at a monotonic time."""
        short = now_s - self._started_s < _SHORT_LIFE_S
        if pid is None or pid == self._pid:
            self._short_lives = self._short_lives if short else 0
            return
        if self._pid is not None:
            self.restarts += 1
            self._short_lives = self._short_lives + 1 if short else 0
        self._pid, self._started_s = pid, now_s

    @property
    def keeps_dying(self) -> bool:
        """Whether it died soon after its start several times in a row."""
        return self._short_lives >= _SHORT_LIVES

    def last_line(self) -> str:
        """The last line that it has printed in this run; empty when there is none."""
        try:
            with open(self._log, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                start = self._log_start if self._log_start <= size else 0  # the file was rotated
                file.seek(max(start, size - _TAIL_BYTES))
                text = _COLOUR.sub("", file.read().decode(errors="replace"))
        except OSError:
            return ""
        return next((line.strip() for line in reversed(text.split("\n")) if line.strip()), "")
