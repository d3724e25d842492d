"""What is said about the episode, in RViz, in the overlay and in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Words:
    """How things stand.

    Attributes:
        number: Of the episode; 0 before the first.
        state: What it does, e.g. ``running``, or how it ended.
        reason: Why it waits or was aborted.
        recent: Outcomes of the last episodes, oldest first: solved or not.
        version: Of the policy that acts.
        scales: Step scales that the tuner has found, by network.
        holding: Why the arm holds still.
        limited: Names of the limits that act.
    """

    number: int = 0
    state: str = ""
    reason: str = ""
    recent: Sequence[bool] = ()
    version: int = 0
    scales: Mapping[str, float] = field(default_factory=dict)
    holding: str = ""
    limited: Sequence[str] = ()

    def headline(self) -> str:
        """Episode and how it stands."""
        return f"episode {self.number}: {self.state}" if self.number else self.state

    def lines(self) -> list[str]:
        """Everything but the limits, the most important first; what is not known is left out."""
        scales = ", ".join(f"{name} {scale:.2g}" for name, scale in self.scales.items())
        solved = f"{sum(self.recent)} of the last {len(self.recent)} solved" if self.recent else ""
        said = [self.headline(), self.reason, solved, f"policy version {self.version}", scales and f"tuner: {scales}"]
        if self.holding and self.holding != self.reason:
            said.append(f"arm holds: {self.holding}")
        return [line for line in said if line]

    def warning(self) -> str:
        """The limits that act; empty where none does."""
        return f"limits: {', '.join(self.limited)}" if self.limited else ""
