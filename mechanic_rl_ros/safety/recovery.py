"""When a robot is brought out of a reflex: by itself only a few times, ever more slowly, then only on a person's word."""

from __future__ import annotations

CALM_S = 60.0  # without a reflex until the tries are forgotten
GROWTH = 2.0  # of the pause, from try to try


class Recovery:
    """Counts tries. Times are seconds of a monotonic clock."""

    def __init__(self, tries: int, pause_s: float) -> None:
        """``tries``: without a person, 0 for none; ``pause_s``: before the first one."""
        self._allowed, self._pause_s = tries, pause_s
        self._tried, self._asked, self._running = 0, False, False
        self._since: float | None = None  # since when it is needed and has not been tried
        self._over_at: float | None = None
        self._why = ""

    @property
    def tried(self) -> int:
        """Tries since the last minute without a reflex, or since a person asked."""
        return self._tried

    def ask(self) -> None:
        """A person has looked at the arm and wants it back."""
        self._asked, self._tried = True, 0

    def begin(self, needed: bool, resting: bool, at: float, held: bool = False) -> bool:
        """Whether to try now.

        Args:
            needed: Whether the robot says that it is in a reflex.
            resting: Whether the arm is at rest.
            at: Now, s.
            held: Whether nothing may begin by itself: the pause begins anew afterwards.
        """
        if self._running:
            return False
        if self._asked and resting:
            self._asked = False
            return self._start()
        if not needed:
            if self._tried and at - (self._over_at or at) > CALM_S:
                self._tried = 0
            self._since = None
            return False
        if held or self._since is None:
            self._since = at
        if not resting or self._tried >= self._allowed or at - self._since < self._pause_s * GROWTH**self._tried:
            return False
        return self._start()

    def ended(self, why: str, at: float) -> None:
        """The try is over; ``why`` it failed, "" when it did not."""
        self._running, self._since, self._over_at, self._why = False, None, at, why

    def text(self, needed: bool) -> str:
        """What is being done, for people; "" where there is nothing to say."""
        if self._running:
            return "recovering"
        failed = f" ({self._why})" if self._why else ""
        if needed and self._tried >= self._allowed:
            return f"tried {self._tried} times{failed}: look at the arm, then call the service recover"
        if needed:
            return f"recovery {self._tried + 1} of {self._allowed} begins when the arm rests{failed}"
        return f"recovery failed{failed}" if self._why else ""

    def _start(self) -> bool:
        self._tried += 1
        self._running, self._since = True, None
        return True
