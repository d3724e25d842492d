"""Decides, 100 times a second, what the arm does next. Its default is to hold still.

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
from mechanic_rl_ros.latency import CHUNK_AGE_S
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.action_space import ActionSpace
from mechanic_rl_ros.safety.chunk_player import ChunkPlayer
from mechanic_rl_ros.safety.command import Command
from mechanic_rl_ros.safety.compiled_motion import make_motion
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.safety.reading import JointReading
from mechanic_rl_ros.sim.trajectory import State, Trajectory

DRIFT = 0.2  # rad between command and measurement that calls for a resynchronisation; a reading 60 ms old lags by less
ALIGN_S = 0.2  # s that a resynchronisation takes at least
ALIGN_SPEED = 0.5  # rad/s, at most, while resynchronising
ALIGN_ACCELERATION = 2.0  # rad/s^2, at most, while resynchronising: below every deceleration that the FR3's velocity bound assumes
OVERRIDE_AGE_NS = 300_000_000  # an operator's command older than this stops the arm
FUTURE_NS = 50_000_000  # stamps may be this far ahead of the clock
RANGE_TOLERANCE = 0.01  # rad beyond the position limits that a measurement may show
BLEND_NS = 20_000_000  # over which one action turns into the next
JUMP = 0.1  # rad by which a joint may seem to have moved further between two measurements than its highest speed allows
STEADY = 5  # measurements without a jump before the arm is led to one: with two robots on one topic there are never so many
HOME_GAIN = 2.0  # 1/s
HOME_SPEED = 0.5  # rad/s of the fastest joint on the way home
AT_HOME = 0.005  # rad from home that count as there
RESYNCHRONISING, ALIGNING = "resynchronising", "resynchronising, moving to the measured position"
NO_ACTION = "no action for now"
JUMPED = "joint states jumped away from where the arm was sent: stop all but one publisher of them; the next episode may begin"
HOMING, EMERGENCY = "going home", "emergency stop"
STANDING_TICKS = 2  # ticks without progress of the clock after which it counts as having stood still
LONGEST_GAP = 10  # periods between two ticks beyond which the clock counts as having jumped


@dataclass(frozen=True)
class _Intent:
    """What should happen in this period."""

    holding: str
    action: NDArray[np.float32] | None = None
    source: Source = Source.HOLD
    policy_version: int = 0
    best_of_n: bool = False
    stamp_ns: int = 0
    clipped: bool = False


class Commander:
    """Plays action chunks within the limits of robot and workspace; watches over everything that arrives."""

    def __init__(self, embodiment: Embodiment, period_s: float = 0.01, bounds: SafetyLimits | None = None, chunk_age_s: float = CHUNK_AGE_S) -> None:
        """Makes one that holds until ``start``.

        Args:
            embodiment: The robot.
            period_s: Nominal seconds between two calls of ``tick``.
            bounds: Limits, beside the workspace of the embodiment; those of config/limits/fr3.yaml when left out.
            chunk_age_s: Seconds after its observation for which a chunk is followed.
        """
        self._dim, self._home = len(embodiment.action), np.array(embodiment.joints.home)
        self._max_age_ns, self._chunk_age_ns = round(embodiment.joints.max_age * 1e9), round(chunk_age_s * 1e9)
        self._bounds = bounds or SafetyLimits.load()
        self._player = ChunkPlayer(self._dim, BLEND_NS)
        self._actions = ActionSpace(embodiment)
        self._motion = make_motion(embodiment, self._bounds, period_s)
        self._longest_gap_ns = round(LONGEST_GAP * period_s * 1e9)
        self._reading: JointReading | None = None
        self._emergency, self._homing, self._obstructed = False, False, ""
        self._override: tuple[NDArray[np.float64], int] | None = None
        self._stopped = "not started"
        self._synchronised = False
        self._steady, self._jumped = 0, False
        self._settled_at_ns = 0
        self._aligned_at_ns = 0
        self._last_tick_ns: int | None = None
        self._standing = 0
        self._not_before_ns = 0

    @property
    def refused_chunks(self) -> int:
        """Chunks that were malformed, out of order or from another clock."""
        return self._player.refused_chunks

    def set_joints(self, reading: JointReading) -> str:
        """Takes a measurement over, or says in one line why not; one that is older than the last, or than the start, is ignored."""
        last = self._reading
        if reading.stamp_ns < self._not_before_ns or (last is not None and reading.stamp_ns < last.stamp_ns):
            return ""
        q = np.asarray(reading.positions, dtype=np.float64)
        if q.shape != (7,) or not np.isfinite(q).all():
            return "joint state is not seven finite positions: check the sensors of the robot"
        beyond = np.maximum(limits.POSITION_LOWER - q, q - limits.POSITION_UPPER)
        if beyond.max() > RANGE_TOLERANCE:
            return f"joint state has joint {beyond.argmax() + 1} {beyond.max():.3f} rad beyond its limits: check that it comes from an FR3, or free the arm"
        self._reading = reading
        return "" if last is None else self._watch_jumps(last, reading)

    def _watch_jumps(self, last: JointReading, reading: JointReading) -> str:
        """No arm goes faster than its limits: where joint states do, they are not of one arm, or somebody put it elsewhere."""
        elapsed_s = (reading.stamp_ns - last.stamp_ns) * 1e-9
        moved = np.abs(reading.positions - last.positions)
        excess = moved - limits.VELOCITY * elapsed_s
        if excess.max() <= JUMP:
            self._steady += elapsed_s > 0.0
            return ""
        self._steady = 0
        if self._stopped and not self._homing:
            return ""  # a reset, for example
        self._jumped = True
        joint = int(excess.argmax())
        return f"joint state has joint {joint + 1} move {moved[joint]:.2f} rad in {elapsed_s:.3f} s: check that one robot alone publishes joint states"

    def set_chunk(self, chunk: ActionChunk) -> None:
        """Takes a chunk over: it replaces the old one from its first action on that is not late."""
        self._player.add(chunk)

    def set_override(self, action: ArrayLike | None, stamp_ns: int) -> None:
        """Lets an operator's ``action`` (A,), normalised, take precedence from now on; None gives control back to the policy. Ends a way home."""
        if action is not None:
            self._homing = False
        self._override = None if action is None else (np.asarray(action, dtype=np.float64), stamp_ns)

    def start(self, not_before_ns: int = 0, placed: bool = False) -> None:
        """Lets the arm move, from where it is measured to be, unless an emergency stop is in force; chunks from before are forgotten.

        Args:
            not_before_ns: Measurements stamped earlier do not count: give the time at which the arm was last moved by someone else, a reset for example.
            placed: Whether somebody put the arm somewhere and its controller with it, as the reset of a simulation does. Else the controller still
                desires what it was last told, and the arm goes from there to where it is measured, slowly.
        """
        if self._emergency:
            return
        self._stopped, self._homing = "", False
        self._steady, self._jumped = 0, False
        self._not_before_ns, self._reading = max(self._not_before_ns, not_before_ns), None  # what came before does not count, however it is stamped
        self._player.clear()
        self._synchronised = False
        controller = self._motion.controller
        if placed and controller is not None and self._last_tick_ns is not None and self._last_tick_ns >= max(controller.end_ns, self._settled_at_ns):
            self._motion.controller = None

    def stop(self, reason: str) -> None:
        """Stops the arm smoothly and holds it until ``start``; ``reason`` is told in every command. An operator who wants the arm says so anew."""
        self._stopped = EMERGENCY if self._emergency else reason or "stopped"
        self._override, self._homing = None, False
        self._player.clear()

    def go_home(self) -> bool:
        """While stopped: moves the arm to its home posture and opens the hand. False where it is not stopped, or by an emergency, or may not move."""
        if not self._stopped or self._emergency or self._obstructed:
            return False
        self._homing, self._synchronised = True, False
        self._steady, self._jumped = 0, False
        return True

    def set_obstacle(self, reason: str) -> None:
        """Stops the arm and holds it while ``reason`` is not empty, as where the robot is in a reflex; then follows the measurement anew. Ends a way home: nobody asked for it to go on."""
        if reason:
            self._homing = False
        elif self._obstructed:
            self._synchronised = False
        self._obstructed = reason

    @property
    def moving(self) -> bool:
        """Whether the arm was on its way at the last tick, as far as we know."""
        controller, now_ns = self._motion.controller, self._last_tick_ns
        return controller is not None and now_ns is not None and now_ns < controller.end_ns

    @property
    def emergency(self) -> bool:
        """Whether an emergency stop is in force."""
        return self._emergency

    def emergency_stop(self) -> None:
        """Stops the arm as ``stop`` does; it stays so, whatever is asked for, until ``reset_emergency_stop``."""
        self._emergency = True
        self.stop(EMERGENCY)

    def reset_emergency_stop(self) -> None:
        """Allows the next ``start``. By itself it moves nothing."""
        self._emergency = False
        self.stop("the emergency stop was reset, the next episode may begin")

    def tick(self, now_ns: int) -> Command:
        """What to send at ``now_ns``. Never raises for anything that arrived."""
        self._watch_clock(now_ns)
        reading = self._fresh_reading(now_ns)
        state = None if self._motion.controller is None else self._motion.controller.state(now_ns)
        due = self._player.due(now_ns)  # also while holding, so that late actions are counted
        obstacle = self._obstacle(now_ns, state, reading)
        if obstacle:
            self._player.clear()  # when nothing is in the way any more, only what was planned since then counts
        intent = _Intent(obstacle) if obstacle else _Intent(HOMING) if self._homing else self._choose(now_ns, due)
        if obstacle == RESYNCHRONISING and reading is not None and self._steady >= STEADY and (state is None or not state[1].any()):
            return self._command(intent, self._align(now_ns, state, reading), [])
        trajectory, limited = self._move(now_ns, state, intent)
        return self._command(intent, trajectory, limited)

    def _watch_clock(self, now_ns: int) -> None:
        """After a jump of the clock, nobody knows how far the arm's controller is: let it come to rest, then follow the measurement."""
        last_ns, self._last_tick_ns = self._last_tick_ns, now_ns
        if last_ns is None:
            return
        elapsed_ns = now_ns - last_ns
        stood = self._standing >= STANDING_TICKS
        self._standing = self._standing + 1 if elapsed_ns == 0 else 0
        if elapsed_ns < 0:
            self._forget()
        if elapsed_ns < 0 or elapsed_ns > self._longest_gap_ns or (stood and elapsed_ns > 0):
            self._synchronised = False
            self._aligned_at_ns = now_ns
            if self._motion.controller is not None:
                self._settled_at_ns = now_ns + max(self._motion.controller.end_ns - last_ns, self._settled_at_ns - last_ns, 0)
                self._motion.controller.hold(self._motion.controller.final)

    def _forget(self) -> None:
        """Drops all that carries a stamp of before the clock went back. An operator keeps the arm: his last command is only stale."""
        self._reading, self._not_before_ns = None, 0
        if self._override is not None:
            self._override = (self._override[0], -OVERRIDE_AGE_NS - 1)
        self._player.clear()

    def _fresh_reading(self, now_ns: int) -> JointReading | None:
        reading = self._reading
        if reading is not None and reading.stamp_ns < self._not_before_ns:
            return None
        if reading is None or -FUTURE_NS <= now_ns - reading.stamp_ns <= self._max_age_ns:
            return reading
        if reading.stamp_ns - now_ns > FUTURE_NS:
            self._reading = None  # from another clock: it must not keep newer ones out
        return None

    def _obstacle(self, now_ns: int, state: State | None, reading: JointReading | None) -> str:
        """Why nothing may be followed now, or ""."""
        if self._stopped and not self._homing:
            return self._stopped
        if self._obstructed:
            return self._obstructed
        if reading is None:
            return "joint state is stale or missing"
        if now_ns < self._settled_at_ns:
            return "clock jumped"
        if self._standing:
            return "clock stands still"
        if now_ns < self._aligned_at_ns:
            return ALIGNING
        drifted = state is not None and bool(np.abs(state[0] - reading.positions).max() > DRIFT)
        self._jumped &= drifted or self._steady < STEADY
        if self._jumped or drifted:
            self._synchronised = False  # what was sent ends at rest; a stop sent now could tear an arm back that was put elsewhere
        if self._jumped:
            return JUMPED
        return "" if self._synchronised else RESYNCHRONISING

    def _choose(self, now_ns: int, due: tuple[ActionChunk, NDArray[np.float32]] | None) -> _Intent:
        if self._override is not None:
            action, stamp_ns = self._override
            if not -FUTURE_NS <= now_ns - stamp_ns <= OVERRIDE_AGE_NS:
                return _Intent("operator's command is stale")
            if action.shape != (self._dim,) or not np.isfinite(action).all():
                return _Intent("operator's command is malformed")
            return _Intent("", _clip(action), Source.HUMAN, stamp_ns=stamp_ns, clipped=_beyond(action))
        if due is None:
            return _Intent(NO_ACTION)
        chunk, planned = due
        if now_ns - chunk.stamp_ns > self._chunk_age_ns:
            return _Intent("no fresh chunk")
        if not np.isfinite(planned).all():
            return _Intent("action is not finite")
        return _Intent("", _clip(planned), chunk.source, chunk.policy_version, chunk.best_of_n, chunk.stamp_ns, _beyond(planned))

    def _move(self, now_ns: int, state: State | None, intent: _Intent) -> tuple[Trajectory | None, list[str]]:
        """Trajectory towards what is intended; without an action, towards rest."""
        if state is None or self._standing or not self._synchronised or now_ns < self._aligned_at_ns:
            # Where the arm's controller is, is not certain; what was sent before ends at rest by itself. On the slow way to the measured position that
            # holds for a stop as well: the arm is there already, and what its controller desires comes to it; to break that off could pull the arm away.
            return None, []
        if intent.holding == HOMING:
            return self._motion.go_on(now_ns, state, self._towards_home)
        action = intent.action
        if action is None:
            return self._motion.stop(now_ns, state), []
        return self._motion.go_on(now_ns, state, lambda q: self._actions.joint_velocity(q, action))

    def _towards_home(self, q: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
        way = self._home - q
        if np.abs(way).max() < AT_HOME:
            self._homing = False
        wish = HOME_GAIN * way
        return wish * min(1.0, HOME_SPEED / max(float(np.abs(wish).max()), 1e-9)), []

    def _align(self, now_ns: int, state: State | None, reading: JointReading) -> Trajectory:
        """From rest at the last command to rest at the measured positions, slowly."""
        if state is None:
            start = goal = np.clip(reading.positions, limits.POSITION_LOWER, limits.POSITION_UPPER)
        else:
            margin = self._bounds.position_margin
            start, goal = state[0], np.clip(reading.positions, limits.POSITION_LOWER + margin, limits.POSITION_UPPER - margin)
        distance = float(np.abs(goal - start).max())
        # A cubic from rest to rest peaks at a speed of 1.5 distance / duration and at an acceleration of 6 distance / duration^2.
        duration = max(ALIGN_S, 1.5 * distance / ALIGN_SPEED, float(np.sqrt(6.0 * distance / ALIGN_ACCELERATION)))
        trajectory = Trajectory(np.array([duration, duration + ALIGN_S]), np.stack([goal, goal]), np.zeros((2, 7)))
        self._motion.begin(start, trajectory, now_ns)
        self._synchronised = True
        self._aligned_at_ns = now_ns + round(duration * 1e9)
        return trajectory

    def _command(self, intent: _Intent, trajectory: Trajectory | None, limited: list[str]) -> Command:
        action = np.zeros(self._dim, dtype=np.float32) if intent.action is None else intent.action
        finger, narrowed = self._finger(intent)
        limited += [name for name, acts in (("action", intent.clipped), ("grip_width", narrowed)) if acts]
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

    def _finger(self, intent: _Intent) -> tuple[float | None, bool]:
        """Per-finger position, m, within the width that is allowed, and whether that width changed it."""
        widest = 0.5 * self._bounds.grip_width
        if intent.holding == HOMING:
            return widest, False
        if intent.action is None:
            return None, False
        wish = self._actions.finger(intent.action)
        return min(wish, widest), wish > widest


def _clip(action: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.minimum(np.maximum(action, -1.0), 1.0).astype(np.float32)


def _beyond(action: NDArray[np.floating]) -> bool:
    return bool((np.abs(action) > 1.0).any())
