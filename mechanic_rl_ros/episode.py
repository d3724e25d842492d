"""The episode state machine: when the policy may act, when an episode is over, and how."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mechanic_rl_ros.data import Outcome

IDLE = "neither policy nor operator moves the arm"


class Phase(IntEnum):
    """States, numbered as in EpisodeState.msg."""

    WAITING = 0
    RESETTING = 1
    READY = 2
    RUNNING = 3
    ENDED = 4
    FINISHED = 5


@dataclass(frozen=True)
class EpisodeConfig:
    """What an episode is.

    Attributes:
        episodes: How many to complete, aborted and discarded ones left out; 0: until stopped.
        seed_first: Scene seed of episode 1; later ones count up.
        step_limit: Steps until a timeout.
        period_ns: Length of a step.
        ready_ns: How long the arm gets to synchronise and the cameras to see the new scene.
        pause_ns: Between two episodes.
        notice_ns: How long before its first frame an episode is announced.
        lost_ns: Age of the last frame from which on a running episode is aborted.
        idle_ns: So long nobody may have moved the arm until the episode is aborted: what follows would say nothing about the policy.
        held_ns: So long nobody may have moved the arm when the step limit comes, beside the last step, of which nobody has told yet: else it is no timeout.
    """

    episodes: int
    seed_first: int
    step_limit: int
    period_ns: int
    ready_ns: int = 300_000_000
    pause_ns: int = 200_000_000
    notice_ns: int = 50_000_000
    lost_ns: int = 1_000_000_000
    idle_ns: int = 1_500_000_000
    held_ns: int = 800_000_000


@dataclass(frozen=True)
class Frame:
    """One look at the task: ``success`` at ``stamp_ns``, in the scene of reset ``reset_count``."""

    stamp_ns: int
    success: bool
    reset_count: int = 0


class EpisodeMachine:
    """Advanced by ``tick`` (time passes), ``frame`` (the task is seen), ``reset_done`` and ``label``.

    Attributes:
        phase: Where it stands.
        since_ns: When it entered that phase; of ENDED the stamp of the last observation.
        number: Episode, from 1; aborted and discarded ones count, so that no number and no scene comes twice.
        outcome: How the last one ended.
        return_value: Sum of rewards so far.
        reason: For people.
    """

    def __init__(self, config: EpisodeConfig, number: int = 0, completed: int = 0) -> None:
        """``number``, ``completed``: where an earlier life of the run stopped."""
        self.config = config
        self.phase, self.since_ns, self.number = Phase.WAITING, 0, number
        self._completed_before, self._completed = completed, set[int]()  # of an earlier life; numbers of this one
        self.outcome: Outcome | None = None
        self.return_value, self.reason = 0.0, "starting"
        self._reset_count = -1
        self._failed_resets = 0
        self._last_frame_ns = 0
        self._acted_ns = 0

    @property
    def seed(self) -> int:
        """Scene seed of this episode."""
        return self.config.seed_first + max(0, self.number - 1)

    @property
    def completed(self) -> int:
        """Episodes that were neither aborted nor discarded."""
        return self._completed_before + len(self._completed)

    def tick(self, now_ns: int, missing: str) -> bool:
        """Lets time pass; ``missing`` names what is not ready. True when the phase changed."""
        if now_ns < self.since_ns - self.config.lost_ns and self.phase != Phase.RUNNING:
            self.since_ns = now_ns  # the clock was set back: wait anew instead of for ever
        if self.phase == Phase.WAITING:
            return self._wait(now_ns, missing)
        if self.phase == Phase.READY and now_ns - self.since_ns >= self.config.ready_ns:
            # On the grid of the cameras, so that steps and frames coincide.
            return self._enter(Phase.RUNNING, self._next_frame(now_ns))
        if self.phase == Phase.RUNNING:
            return self._watch(now_ns, missing)
        if self.phase == Phase.ENDED and now_ns - self.since_ns >= self.config.pause_ns:
            return self._enter(Phase.FINISHED if self._all_done() else Phase.WAITING, now_ns)
        return False

    def frame(self, frame: Frame) -> tuple[float, bool] | None:
        """Takes a look at the task over: reward and whether it ends the episode, or None outside of an episode."""
        self._last_frame_ns = max(self._last_frame_ns, frame.stamp_ns) if frame.stamp_ns > self._last_frame_ns - 10**9 else frame.stamp_ns
        if self.phase != Phase.RUNNING or frame.stamp_ns <= self.since_ns or frame.reset_count != self._reset_count:
            return None
        reward = float(frame.success)
        self.return_value += reward
        steps = round((frame.stamp_ns - self.since_ns) / self.config.period_ns)
        if frame.success:
            self._end(Outcome.SUCCESS, frame.stamp_ns)
        elif steps >= self.config.step_limit:
            if self._acted_ns > max(self.since_ns, frame.stamp_ns - self.config.period_ns - self.config.held_ns):
                self._end(Outcome.TIMEOUT, frame.stamp_ns)
            else:
                self._end(Outcome.ABORTED, frame.stamp_ns, IDLE)
        return reward, frame.success

    def acted(self, until_ns: int) -> None:
        """Policy or operator moved the arm until then."""
        self._acted_ns = max(self._acted_ns, until_ns)

    def reset_done(self, success: bool, reset_count: int, now_ns: int, message: str = "") -> bool:
        """The reset that was asked for on entering RESETTING is over."""
        if self.phase != Phase.RESETTING:
            return False
        if success:
            self._reset_count, self._failed_resets = reset_count, 0
            return self._enter(Phase.READY, now_ns)
        self._failed_resets += 1
        self.number -= 1
        self.reason = f"reset failed {self._failed_resets} times: {message}"
        return self._enter(Phase.WAITING, now_ns, self.reason)

    def label(self, success: bool, now_ns: int) -> bool:
        """An operator judges the running episode."""
        if self.phase != Phase.RUNNING:
            return False
        self.return_value += float(success)
        return self._end(Outcome.SUCCESS if success else Outcome.FAILURE, max(now_ns, self.since_ns))

    def abort(self, reason: str, now_ns: int) -> bool:
        """Ends the running episode without a judgement: it is no failure of the policy."""
        return self.phase == Phase.RUNNING and self._end(Outcome.ABORTED, now_ns, reason)

    def discarded(self, number: int, now_ns: int) -> bool:
        """Nothing was kept of episode ``number``: another one makes up for it. True when the phase changed."""
        self._completed.discard(number)
        return self.phase == Phase.FINISHED and not self._all_done() and self._enter(Phase.WAITING, now_ns)

    def say(self, reason: str) -> bool:
        """Tells people why it waits; True when that is news."""
        changed, self.reason = self.reason != reason, reason
        return changed

    def _wait(self, now_ns: int, missing: str) -> bool:
        if self._all_done():
            return self._enter(Phase.FINISHED, now_ns)  # a run that was complete is started again
        if missing:
            return self.say(f"waiting for {missing}")
        if self._failed_resets and now_ns - self.since_ns < self._failed_resets * 10**9:
            return False  # a reset that fails is tried again, ever more slowly
        self.number += 1
        self.outcome, self.return_value, self._acted_ns = None, 0.0, 0
        return self._enter(Phase.RESETTING, now_ns)

    def _watch(self, now_ns: int, missing: str) -> bool:
        if missing:
            return self._end(Outcome.ABORTED, now_ns, f"lost {missing}")
        if now_ns - max(self._last_frame_ns, self.since_ns) > self.config.lost_ns:
            return self._end(Outcome.ABORTED, now_ns, "lost sight of the task")
        if now_ns < self.since_ns - self.config.lost_ns:
            return self._end(Outcome.ABORTED, now_ns, "the clock was set back")
        if now_ns - max(self._acted_ns, self.since_ns) > self.config.idle_ns:
            return self._end(Outcome.ABORTED, now_ns, IDLE)
        return False

    def _next_frame(self, now_ns: int) -> int:
        period = self.config.period_ns
        if not self._last_frame_ns:
            return now_ns
        # Early enough that everybody knows of the episode before its first frame arrives.
        ahead = max(0, now_ns + self.config.notice_ns - self._last_frame_ns)
        return self._last_frame_ns + (ahead // period + 1) * period

    def _all_done(self) -> bool:
        return bool(self.config.episodes) and self.completed >= self.config.episodes

    def _end(self, outcome: Outcome, now_ns: int, reason: str = "") -> bool:
        self.outcome = outcome
        if outcome is not Outcome.ABORTED:
            self._completed.add(self.number)
        return self._enter(Phase.ENDED, now_ns, reason)

    def _enter(self, phase: Phase, now_ns: int, reason: str = "") -> bool:
        self.phase, self.since_ns, self.reason = phase, now_ns, reason
        return True
