"""How long a run may wait for the same thing before it is given up."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.metrics import Record

LEARNER_FACTOR = 5
"""Times as long for the learner: after a restart it reads all episodes of the run first."""


class Patience:
    """Watches the records of a run.

    Args:
        seconds: Wall time for which a run may wait for the same reason, and for which nothing at all may be recorded.
        folder: Of the run.
        now_s: Monotonic time at which it starts.
    """

    def __init__(self, seconds: float, folder: Path, now_s: float) -> None:
        self._seconds, self._folder = seconds, folder
        self._heard_s = self._since_s = now_s
        self._reason = ""

    def see(self, records: Iterable[Record], now_s: float) -> None:
        """Takes the records, perhaps none, that were written until a monotonic time.

        Raises:
            UserError: The run has waited for too long.
        """
        for record in records:
            self._heard_s = now_s
            if record["kind"] in ("run", "waiting") and record.get("reason", "") != self._reason:
                self._reason, self._since_s = record.get("reason", ""), now_s
        waited_s, silent_s = now_s - self._since_s, now_s - self._heard_s
        if self._reason and waited_s > self._seconds * (LEARNER_FACTOR if "learner_node" in self._reason else 1):
            raise UserError(f"practice stood still for {waited_s:.0f} s, {self._reason}: mend that, and start the run again to go on with it")
        if silent_s > self._seconds:
            raise UserError(f"nothing was recorded for {silent_s:.0f} s: {self._suspect()}")

    def _suspect(self) -> str:
        free = shutil.disk_usage(self._folder).free / 2**20
        return f"there are {free:.0f} MB free in {self._folder}, and what the nodes said is in {self._folder / 'logs'}"
