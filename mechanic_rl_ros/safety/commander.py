"""Decides, 50 times a second, what the arm does next. Its default is to hold still.

Everything is judged by stamps. The commander integrates from its own last command, because measurements are delayed; it
follows the measurement again (resynchronises) when it starts, when the clock went back and when both have drifted apart.
Every trajectory it sends ends at rest, so that silence stops the arm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechanic_rl_ros.data import ActionChunk, Source
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.chunk_player import ChunkPlayer
from mechanic_rl_ros.safety.limiter import STOP_S, JointLimiter
from mechanic_rl_ros.safety.reading import JointReading
from mechanic_rl_ros.safety.servo import Servo
from mechanic_rl_ros.sim.trajectory import Trajectory, TrajectoryController

DRIFT = 0.2  # rad between command and measurement that calls for a resynchronisation; a reading 60 ms old lags by less
ALIGN_S = 0.2  # s that a resynchronisation takes at least
ALIGN_SPEED = 1.0  # rad/s, at most, while resynchronising
OVERRIDE_AGE_NS = 300_000_000  # an operator's command older than this stops the arm
FUTURE_NS = 50_000_000  # stamps may be this far ahead of the clock
RANGE_TOLERANCE = 0.01  # rad beyond the position limits that a measurement may show


@dataclass(frozen=True)
class Command:
    """What to send now.

    Attributes:
        trajectory: For the trajectory controller, times from now on; None: send nothing, what was sent before ends at rest.
        finger: Per-finger position, m; None: leave the hand alone.
        action: float32 (A,), the action of this interval clipped to [-1, 1]; zeros while holding.
        source: Who chose it; ``Source.HOLD`` while holding.
        policy_version: Of the chunk that is played.
        best_of_n: Of the chunk that is played.
        chunk_stamp_ns: Of the chunk that is played, or of the operator's command.
        holding: Why the arm holds or stops, "" while it follows an action.
        late_actions: Actions dropped so far because their interval had passed.
        limited: Names of the limits that changed the command: workspace, joint_limits, acceleration.
    """

    trajectory: Trajectory | None
    finger: float | None
    action: NDArray[np.float32]
    source: Source
    policy_version: int
    best_of_n: bool
    chunk_stamp_ns: int
    holding: str
    late_actions: int
    limited: tuple[str, ...]


@dataclass(frozen=True)
class _Intent:
    """What should happen in this period."""

    holding: str = ""
    action: NDArray[np.float32] | None = None
    source: Source = Source.HOLD
    policy_version: int = 0
    best_of_n: bool = False
    stamp_ns: int = 0


class Commander:
    """Plays action chunks within the limits of robot and workspace; watches over everything that arrives."""

    def __init__(self, embodiment: Embodiment, period_s: float = 0.02) -> None:
        """``period_s``: nominal seconds between two calls of ``tick``."""
        self._scales = np.array([channel.scale for channel in embodiment.action])
        self._max_age_ns = round(embodiment.joints.max_age * 1e9)
        self._player = ChunkPlayer(len(embodiment.action))
        self._servo = Servo(embodiment)
        self._limiter = JointLimiter(period_s)
        self._settle_ns = round((2.0 * period_s + STOP_S) * 1e9)
        self._reading: JointReading | None = None
        self._motion: TrajectoryController | None = None  # what the arm's trajectory controller desires, as far as we know
        self._override: tuple[NDArray[np.float64], int] | None = None
        self._stopped = "not started"
        self._synchronised = False
        self._wait_until_ns = 0
        self._last_tick_ns: int | None = None

    @property
    def refused_chunks(self) -> int:
        """Chunks that were malformed, out of order or from another clock."""
        return self._player.refused_chunks

    def set_joints(self, reading: JointReading) -> None:
        """Takes a measurement over; one that is not finite, out of range or older than the last is ignored."""
        if self._reading is not None and reading.stamp_ns < self._reading.stamp_ns:
            return
        q = np.asarray(reading.positions, dtype=np.float64)
        if q.shape != (7,) or not np.isfinite(q).all():
            return
        if (q < limits.POSITION_LOWER - RANGE_TOLERANCE).any() or (q > limits.POSITION_UPPER + RANGE_TOLERANCE).any():
            return
        self._reading = reading

    def set_chunk(self, chunk: ActionChunk) -> None:
        """Takes a chunk over: it replaces the old one from its first action on that is not late."""
        self._player.add(chunk)

    def set_override(self, action: ArrayLike | None, stamp_ns: int) -> None:
        """Lets an operator's ``action`` (A,), normalised, take precedence from now on; None gives control back to the policy."""
        self._override = None if action is None else (np.asarray(action, dtype=np.float64), stamp_ns)

    def start(self) -> None:
        """Lets the arm move, from where it is measured to be; chunks from before are forgotten."""
        self._stopped = ""
        self._synchronised = False
        self._player.clear()
        if self._last_tick_ns is None or self._motion is None or self._at_rest(self._last_tick_ns):
            self._motion = None  # whoever moved the arm meanwhile, its controller now desires what is measured

    def stop(self, reason: str) -> None:
        """Stops the arm smoothly and holds it until ``start``; ``reason`` is told in every command."""
        self._stopped = reason or "stopped"
        self._player.clear()

    def tick(self, now_ns: int) -> Command:
        """What to send at ``now_ns``. Never raises for anything that arrived."""
        self._watch_clock(now_ns)
        reading = self._fresh_reading(now_ns)
        intent = self._intent(now_ns, reading)
        trajectory, limited = self._move(now_ns, intent, reading)
        return self._command(intent, trajectory, limited)

    def _watch_clock(self, now_ns: int) -> None:
        if self._last_tick_ns is not None and now_ns < self._last_tick_ns:
            self._reading, self._override = None, None
            self._player.clear()
            self._synchronised = False
            self._wait_until_ns = now_ns + self._settle_ns  # the arm's controller is still bringing it to rest
            if self._motion is not None:
                self._motion.hold(self._motion.final)
        self._last_tick_ns = now_ns

    def _fresh_reading(self, now_ns: int) -> JointReading | None:
        reading = self._reading
        if reading is not None and -FUTURE_NS <= now_ns - reading.stamp_ns <= self._max_age_ns:
            return reading
        if reading is not None and reading.stamp_ns - now_ns > FUTURE_NS:
            self._reading = None  # from another clock: it must not keep newer ones out
        return None

    def _intent(self, now_ns: int, reading: JointReading | None) -> _Intent:
        due = self._player.due(now_ns)
        if self._stopped:
            return _Intent(holding=self._stopped)
        if reading is None:
            return _Intent(holding="joint state is stale or missing")
        if now_ns < self._wait_until_ns or not self._follow(now_ns, reading):
            return _Intent(holding="resynchronising")
        if self._override is not None:
            return self._override_intent(now_ns, *self._override)
        if due is None:
            return _Intent(holding="no action for now")
        chunk, action = due
        if not np.isfinite(action).all():
            return _Intent(holding="action is not finite")
        return _Intent("", np.clip(action, -1.0, 1.0).astype(np.float32), chunk.source, chunk.policy_version, chunk.best_of_n, chunk.stamp_ns)

    def _override_intent(self, now_ns: int, action: NDArray[np.float64], stamp_ns: int) -> _Intent:
        if not -FUTURE_NS <= now_ns - stamp_ns <= OVERRIDE_AGE_NS:
            return _Intent(holding="operator's command is stale")
        if action.shape != self._scales.shape or not np.isfinite(action).all():
            return _Intent(holding="operator's command is malformed")
        return _Intent("", np.clip(action, -1.0, 1.0).astype(np.float32), Source.HUMAN, stamp_ns=stamp_ns)

    def _follow(self, now_ns: int, reading: JointReading) -> bool:
        """Whether the own command agrees with the measurement; marks it for resynchronisation when it does not."""
        if self._synchronised and self._motion is not None:
            position, _ = self._motion.sample(now_ns)
            self._synchronised = bool(np.abs(position - reading.positions).max() <= DRIFT)
        return self._synchronised

    def _move(self, now_ns: int, intent: _Intent, reading: JointReading | None) -> tuple[Trajectory | None, list[str]]:
        if not self._stopped and reading is not None and not self._synchronised and now_ns >= self._wait_until_ns and self._at_rest(now_ns):
            return self._align(now_ns, reading), []
        if self._motion is None or (now_ns < self._wait_until_ns):
            return None, []
        q, v = self._motion.sample(now_ns)
        if intent.action is None and not v.any():
            return None, []
        wish, limited = np.zeros(7), []
        if intent.action is not None:
            wish, limited = self._servo.joint_velocity(q, self._scales[:3] * intent.action[:3])
        next_v, held_back = self._limiter.next_velocity(q, v, wish)
        trajectory = self._limiter.trajectory(q, v, next_v)
        self._motion.set_trajectory(trajectory, now_ns)
        return trajectory, limited + held_back

    def _at_rest(self, now_ns: int) -> bool:
        return self._motion is None or not self._motion.sample(now_ns)[1].any()

    def _align(self, now_ns: int, reading: JointReading) -> Trajectory:
        """Trajectory that brings the arm's controller to the measured positions, and back within the limits if they are beyond."""
        goal = np.clip(reading.positions, limits.POSITION_LOWER, limits.POSITION_UPPER)
        if self._motion is None:
            self._motion = TrajectoryController(goal)
        distance = float(np.abs(goal - self._motion.sample(now_ns)[0]).max())
        # A cubic from rest to rest peaks at 1.5 times its mean speed and at 6 distance / duration^2.
        duration = max(ALIGN_S, 1.5 * distance / ALIGN_SPEED, np.sqrt(6.0 * distance / (0.9 * limits.ACCELERATION)))
        trajectory = Trajectory(np.array([duration / 2.0, duration]), np.stack([goal, goal]), np.zeros((2, 7)))
        trajectory.positions[0] = 0.5 * (self._motion.sample(now_ns)[0] + goal)
        trajectory.velocities[0] = 1.5 * (goal - self._motion.sample(now_ns)[0]) / duration
        self._motion.set_trajectory(trajectory, now_ns)
        self._synchronised = True
        self._wait_until_ns = now_ns + round(duration * 1e9)
        return trajectory

    def _command(self, intent: _Intent, trajectory: Trajectory | None, limited: list[str]) -> Command:
        action = np.zeros(len(self._scales), dtype=np.float32) if intent.action is None else intent.action
        finger = None if intent.action is None else (0.0 if action[-1] > 0.0 else float(self._scales[-1]))
        return Command(
            trajectory=trajectory,
            finger=finger,
            action=action,
            source=intent.source,
            policy_version=intent.policy_version,
            best_of_n=intent.best_of_n,
            chunk_stamp_ns=intent.stamp_ns,
            holding=intent.holding,
            late_actions=self._player.late_actions,
            limited=tuple(limited),
        )
