"""The plain data that travels between the parts: observation, action chunk, episode. Times are integer nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment

NO_TRACE = np.zeros(0, np.float32)


class Outcome(str, Enum):
    """How an episode ended. A timeout is not a terminal state: learners bootstrap through it."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    ABORTED = "aborted"


class Source(IntEnum):
    """Who chose an action."""

    HOLD = 0
    POLICY = 1
    HUMAN = 2
    EXPERT = 3


@dataclass
class Observation:
    """What the policy sees at one step.

    Attributes:
        stamp_ns: When the images were taken.
        images: Camera key -> uint8 array (height, width, 3), RGB.
        state: float32 array (state_dim,), in the units of the embodiment.
    """

    stamp_ns: int
    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]


@dataclass
class ActionChunk:
    """Actions for consecutive intervals: ``actions[k]`` is meant for [stamp + k period, stamp + (k + 1) period).

    Attributes:
        stamp_ns: Stamp of the newest observation that the chunk was computed from; when it was ready, where the arm waited for it.
        period_ns: Length of one interval.
        actions: float32 array (up to prediction_horizon, action_dim), normalised to [-1, 1].
        policy_version: Version of the weights that chose it.
        best_of_n: Whether the critics chose among several samples.
        episode_id: Episode that it belongs to.
        source: Who chose it.
        trace: float32 (D,), how it was drawn; see ``Episode.traces``.
    """

    stamp_ns: int
    period_ns: int
    actions: NDArray[np.float32]
    policy_version: int = 0
    best_of_n: bool = False
    episode_id: str = ""
    source: Source = Source.POLICY
    trace: NDArray[np.float32] = field(default_factory=lambda: NO_TRACE)


@dataclass
class Episode:
    """One recorded episode of T steps. Observations have T + 1 entries: the last one is what the last action led to.

    Attributes:
        id: Unique name, safe as a file name.
        task: Task name.
        seed: Scene seed.
        outcome: How it ended.
        stamps_ns: int64 (T + 1,), when each observation was taken.
        images: Camera key -> uint8 (T + 1, height, width, 3), RGB.
        states: float32 (T + 1, state_dim).
        actions: float32 (T, action_dim), as executed, normalised.
        rewards: float32 (T,), reward of the step that starts at observation t.
        policy_versions: int64 (T,).
        sources: uint8 (T,), values of ``Source``.
        best_of_n: Whether the critics chose among several samples in this episode.
        embodiment: The embodiment it was recorded with.
        traces: float32 (T, D), how the chunk that begins with each step was drawn; rows of NaN where none begins. (0, 0) where no learner asks for it.
    """

    id: str
    task: str
    seed: int
    outcome: Outcome
    stamps_ns: NDArray[np.int64]
    images: dict[str, NDArray[np.uint8]]
    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    policy_versions: NDArray[np.int64]
    sources: NDArray[np.uint8]
    best_of_n: bool
    embodiment: Embodiment = field(repr=False)
    traces: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32), repr=False)

    @property
    def steps(self) -> int:
        """Number of actions, T."""
        return len(self.actions)

    @property
    def success(self) -> bool:
        """Whether the task was solved."""
        return self.outcome is Outcome.SUCCESS


def stack_traces(traces: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Traces of T steps, empty where no chunk begins, as ``Episode.traces`` holds them.

    Raises:
        ValueError: They are of different lengths.
    """
    sizes = {len(trace) for trace in traces if len(trace)}
    if not sizes:
        return np.zeros((0, 0), np.float32)
    if len(sizes) > 1:
        raise ValueError(f"traces of {sorted(sizes)} numbers do not belong to one policy")
    none = np.full(sizes.pop(), np.nan, np.float32)
    return np.stack([trace if len(trace) else none for trace in traces]).astype(np.float32)
