"""A steady beat on the arm's clock, which may run faster or slower than the processor's, or stand still."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np

STILL_S = 0.5  # wall seconds without a clock message after which simulated time counts as standing still
SMOOTHING = 0.02  # share of a new measurement in the estimated rate
HIGHEST_RATE = 20.0  # arm seconds per wall second that are believed
SLEW = 0.01  # part of passing time by which a small step of the system's clock is made up for
JUMP_NS = 100_000_000  # a clock message this far from what was expected is a jump, not jitter


class ArmClock:
    """Estimates the arm's time between two clock messages on the processor's monotonic clock.

    On a robot (``simulated=False``) it is system time. In simulation it follows /clock: rate and offset are smoothed, so
    that the jitter of single messages does not reach the control loop.
    """

    def __init__(self, simulated: bool) -> None:
        self._simulated = simulated
        self._lock = threading.Lock()
        self._rate = 1.0
        self._anchor: tuple[float, float] | None = None  # monotonic s, arm ns
        self._first: tuple[float, float] | None = None
        self._heard, self._said = 0.0, 0

    @property
    def rate(self) -> float:
        """Arm seconds per wall second, as estimated."""
        return self._rate

    def add(self, arm_ns: int, monotonic_s: float | None = None) -> None:
        """Takes a clock message over."""
        at = time.monotonic() if monotonic_s is None else monotonic_s
        with self._lock:
            if self._anchor is None or at - self._heard > STILL_S:
                self._anchor = self._first = (at, float(arm_ns))
            elif abs(self._expected(at) - arm_ns) > JUMP_NS * max(1.0, self._rate):
                self._suspect_rate(at, arm_ns)
                self._anchor = self._first = (at, float(arm_ns))
            elif self._first is not None and at > self._first[0]:
                self._correct(at, arm_ns)
            self._heard, self._said = at, arm_ns

    def now_ns(self, monotonic_s: float | None = None) -> int | None:
        """The arm's time; None while it is unknown or stands still."""
        at = time.monotonic() if monotonic_s is None else monotonic_s
        if not self._simulated:
            return self._system_time(at)
        with self._lock:
            if self._anchor is None or at - self._heard > STILL_S:
                return None
            return int(self._expected(at))

    def wall_until(self, arm_ns: int, monotonic_s: float) -> float:
        """Wall seconds from ``monotonic_s`` until the arm's clock shows ``arm_ns``."""
        now_ns = self.now_ns(monotonic_s)
        return 0.0 if now_ns is None else (arm_ns - now_ns) * 1e-9 / max(self._rate, 1e-3)

    def _system_time(self, at: float) -> int:
        """System time without its small steps: it is followed slowly, so that a correction by a time server does not reach the control loop."""
        system_ns = float(time.time_ns() - round((time.monotonic() - at) * 1e9))
        with self._lock:
            missing = 0.0 if self._anchor is None else system_ns - self._expected(at)
            if self._anchor is None or abs(missing) > JUMP_NS:
                self._anchor = (at, system_ns)
            elif at > self._anchor[0]:
                most = SLEW * (at - self._anchor[0]) * 1e9
                self._anchor = (at, self._expected(at) + min(max(missing, -most), most))
            return int(self._expected(at))

    def _expected(self, at: float) -> float:
        assert self._anchor is not None
        return self._anchor[1] + (at - self._anchor[0]) * self._rate * 1e9

    def _suspect_rate(self, at: float, arm_ns: int) -> None:
        # What looks like jump after jump is a clock much slower or faster than believed.
        measured = (arm_ns - self._said) * 1e-9 / max(at - self._heard, 1e-3)
        if 0.0 < measured <= HIGHEST_RATE:
            self._rate += 0.2 * (measured - self._rate)

    def _correct(self, at: float, arm_ns: int) -> None:
        # Messages come late, never early: follow early ones faster than late ones, as clock filters of time servers do.
        assert self._anchor is not None
        assert self._first is not None
        error = arm_ns - self._expected(at)
        span = at - self._first[0]
        if span > 0.2:
            measured = (arm_ns - self._first[1]) * 1e-9 / span
            self._rate += SMOOTHING * (measured - self._rate) if span > 1.0 else 0.2 * (measured - self._rate)
        if span > 20.0:
            self._first = (at, float(arm_ns)) if span > 40.0 else self._first
        self._anchor = (at, self._expected(at) + error * (0.2 if error > 0 else 0.02))


class BeatStatistics:
    """Periods and latencies of a control loop since the last ``take``."""

    def __init__(self, period_s: float, keep: int = 4096) -> None:
        self._period_s = period_s
        self._beats: deque[tuple[float, float, float]] = deque(maxlen=keep)  # arm s, wall s, rate
        self._latencies: deque[float] = deque(maxlen=keep)
        self._reactions: deque[float] = deque(maxlen=keep)

    def beat(self, arm_ns: int, monotonic_s: float, rate: float) -> None:
        """Notes one beat."""
        self._beats.append((arm_ns * 1e-9, monotonic_s, rate))

    def skip(self) -> None:
        """Forgets the last beat: what follows a pause is no period."""
        if self._beats and self._beats[-1][0] >= 0:
            self._beats.append((-1.0, 0.0, 1.0))

    def latency(self, seconds: float) -> None:
        """Notes the age of an observation at the first command that came of it."""
        self._latencies.append(seconds)

    def reaction(self, seconds: float) -> None:
        """Notes the wall time from a chunk's arrival to the first command that came of it."""
        self._reactions.append(seconds)

    def take(self) -> dict[str, Any]:
        """Figures since the last call: see CommandStatus.msg for the names."""
        beats = [pair for pair in zip(self._beats, list(self._beats)[1:], strict=False) if pair[0][0] >= 0 and pair[1][0] >= 0]
        wall = np.array([(b[1] - a[1]) * b[2] for a, b in beats])  # wall periods in seconds of the arm
        ages = {"latencies": list(self._latencies), "reactions": list(self._reactions)}
        last = self._beats[-1] if self._beats else None
        self._beats.clear()
        self._latencies.clear()
        self._reactions.clear()
        if last is not None:
            self._beats.append(last)
        if len(wall) == 0:
            return {"period_count": 0, "period_mean_error": 0.0, "period_deviation": 0.0, "period_p99": 0.0, **ages}
        return {
            "period_count": len(wall),
            "period_mean_error": float(wall.mean() / self._period_s - 1.0),
            "period_deviation": float(wall.std() / self._period_s),
            "period_p99": float(np.quantile(wall, 0.99)),
            **ages,
        }
