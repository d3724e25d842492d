"""Joins what was seen, done and rewarded into an episode, by stamps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import NO_TRACE, Episode, Observation, Outcome, stack_traces
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety.executed import Executed

LONGEST = 10_000  # steps of an episode: what claims more comes from a clock that jumped
FILLED_SHARE = 0.1  # of an episode's frames that may be missing


class Recording:
    """An episode under way."""

    def __init__(self, id: str, task: str, seed: int, start_ns: int, embodiment: Embodiment) -> None:
        """``start_ns``: stamp of the first observation, where the grid of steps begins."""
        self.id, self.task, self.seed = id, task, seed
        self._start_ns, self._embodiment = start_ns, embodiment
        self._observations: dict[int, Observation] = {}
        self._executed: dict[int, Executed] = {}
        self._rewards: dict[int, float] = {}
        self._traces: dict[int, NDArray[np.float32]] = {}

    def observe(self, observation: Observation) -> None:
        """Takes a frame of this episode; older ones belong to the last."""
        index = self._index(observation.stamp_ns)
        if 0 <= index <= LONGEST:
            self._observations.setdefault(index, observation)

    def execute(self, executed: Executed) -> None:
        """Takes what was done in one interval. The first word on it counts: a command node that was restarted knows nothing of what it did before."""
        index = self._index(executed.stamp_ns)
        if 0 <= index < LONGEST:
            self._executed.setdefault(index, executed)

    def reward(self, stamp_ns: int, reward: float) -> None:
        """Takes the reward of the step that ended at ``stamp_ns``."""
        index = self._index(stamp_ns) - 1
        if 0 <= index < LONGEST:
            self._rewards[index] = reward

    def trace(self, stamp_ns: int, trace: NDArray[np.float32]) -> None:
        """Takes how the chunk for the observation at ``stamp_ns`` was drawn. All of an episode are of one policy, so of one size."""
        index = self._index(stamp_ns)
        if 0 <= index < LONGEST and all(len(other) == len(trace) for other in self._traces.values()):
            self._traces[index] = trace

    def complete(self, end_ns: int) -> bool:
        """Whether everything up to the last observation at ``end_ns`` is there."""
        last = self._index(end_ns)
        return all(index in self._observations for index in range(last + 1)) and all(index in self._executed for index in range(last))

    def finish(self, end_ns: int, outcome: Outcome) -> tuple[Episode | None, str]:
        """The episode, or why there is none: what is missing is filled with what came before, as long as it is little."""
        steps = self._index(end_ns)
        if steps > LONGEST:
            return None, f"it claims {steps} steps: the clock has jumped"
        if steps < 1 or 0 not in self._observations:
            return None, "it has no complete step"
        missing = sum(index not in self._observations for index in range(steps + 1)) + sum(index not in self._executed for index in range(steps))
        if missing > FILLED_SHARE * (2 * steps + 1):
            return None, f"{missing} of {2 * steps + 1} frames and actions are missing"
        frames = [self._observations[0]]
        actions: list[Executed] = []
        for index in range(steps):
            actions.append(self._executed.get(index) or self._hold(index, actions))
            frames.append(self._observations.get(index + 1, frames[-1]))
        episode = Episode(
            id=self.id,
            task=self.task,
            seed=self.seed,
            outcome=outcome,
            stamps_ns=self._start_ns + np.arange(steps + 1, dtype=np.int64) * self._embodiment.period_ns,
            images={key: np.stack([frame.images[key] for frame in frames]) for key in self._embodiment.cameras},
            states=np.stack([frame.state for frame in frames]).astype(np.float32),
            actions=np.stack([executed.action for executed in actions]).astype(np.float32),
            rewards=np.array([self._rewards.get(index, 0.0) for index in range(steps)], dtype=np.float32),
            policy_versions=np.array([executed.policy_version for executed in actions], dtype=np.int64),
            sources=np.array([int(executed.source) for executed in actions], dtype=np.uint8),
            best_of_n=any(executed.best_of_n for executed in actions),
            embodiment=self._embodiment,
            traces=stack_traces([self._traces.get(index, NO_TRACE) for index in range(steps)]),
        )
        return episode, ""

    def _hold(self, index: int, before: list[Executed]) -> Executed:
        if before:
            return before[-1]
        later = next((self._executed[key] for key in sorted(self._executed) if key > index), None)
        return later or Executed(self._start_ns, np.zeros(len(self._embodiment.action), np.float32), 0, False, 0)  # type: ignore[arg-type]

    def _index(self, stamp_ns: int) -> int:
        return round((stamp_ns - self._start_ns) / self._embodiment.period_ns)
