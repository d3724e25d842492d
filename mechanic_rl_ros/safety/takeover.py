"""When an operator has the arm, and what he does with it. Whatever is not certain gives the arm to nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import Source
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety.joystick import Joystick, way

MAX_AGE_NS = 300_000_000  # an older word of the operator does not count; command_node holds after as long
FUTURE_NS = 50_000_000  # stamps may be this far ahead: simulated time comes in steps
PERIOD_NS = 20_000_000  # between two actions that are sent on
RECENT_NS = 500_000_000  # so long what the hand was told last says where it goes, longer than its controller is told anew
OPEN = 0.9  # part of its full opening from which on a hand counts as open: one that holds something is not
LET_GO = "let go of the joystick first: it was in use when it was heard for the first time, or after a pause"


@dataclass(frozen=True)
class Word:
    """What one message of the joystick says.

    Attributes:
        action: float64 (A,), normalised, to be sent now; None: nothing.
        gives_back: The operator does not have the arm: say so now.
        pressed: Buttons, by their meaning, that were pressed just now.
    """

    action: NDArray[np.float64] | None = None
    gives_back: bool = False
    pressed: frozenset[str] = frozenset()


class Takeover:
    """Turns what a joystick sends into an operator's actions. All times are those of stamps.

    Attributes:
        active: The operator has the arm.
        problem: Why the operator cannot have it, "" if he can.
    """

    def __init__(self, joystick: Joystick, embodiment: Embodiment) -> None:
        """``joystick`` moves the arm of ``embodiment``; raises UserError where it cannot."""
        self._joystick, self._opening = joystick, embodiment.action[-1].scale
        self._matrix = joystick.matrix(embodiment)
        self._buttons = 1 + max([*joystick.buttons.values(), -1 if joystick.dead_man is None else joystick.dead_man])
        self._finger: float | None = None
        self._told: tuple[int, bool] | None = None  # when the hand was last told, and whether to close
        self.active, self.problem = False, "the joystick has not been heard yet"
        self._closed = False
        self._ready = False  # it was seen at rest: what it says from then on is meant
        self._held: frozenset[str] = frozenset()
        self._last_ns: int | None = None
        self._moved_ns = self._sent_ns = 0

    def set_finger(self, finger: float) -> None:
        """Measured per-finger position, m."""
        self._finger = finger

    def set_executed(self, stamp_ns: int, source: int, gripper: float) -> None:
        """What the arm was told, by whom; ``gripper``: the last channel of the action."""
        if source != Source.HOLD:
            self._told = stamp_ns, gripper > 0.0

    def hear(self, axes: Sequence[float], buttons: Sequence[int], stamp_ns: int, now_ns: int) -> Word:
        """Takes a message of the joystick.

        The emergency stop counts however old or broken the rest of the message is.

        Args:
            axes: In [-1, 1].
            buttons: 1 where pressed.
            stamp_ns: Stamp of the message.
            now_ns: Time of this node.
        """
        pressed = self._press(buttons)
        problem = self._fault(axes, buttons, stamp_ns, now_ns)
        if problem:
            self._lose(problem)
            return Word(pressed=pressed & {"emergency_stop"})
        self._last_ns = stamp_ns
        moves = self._matrix @ way(np.asarray(axes, dtype=np.float64)[: self._matrix.shape[1]], self._joystick.dead_zone)
        wanted = self._wanted(bool(moves.any()), pressed, buttons, stamp_ns)
        if not self._ready:
            self._ready, self.problem = not wanted, LET_GO if wanted else ""
            return Word(gives_back=self._ready, pressed=pressed)
        if not wanted:
            gives_back, self.active = self.active, False
            self.problem = ""
            return Word(gives_back=gives_back, pressed=pressed)
        return Word(self._act(moves, pressed, stamp_ns, now_ns), pressed=pressed)

    def watch(self, now_ns: int) -> None:
        """Lets time pass: a joystick that falls silent has the arm no more."""
        if self._ready and self._last_ns is not None and now_ns - self._last_ns > MAX_AGE_NS:
            self._lose("the joystick has fallen silent: look at its cable and its driver")

    def _act(self, moves: NDArray[np.float64], pressed: frozenset[str], stamp_ns: int, now_ns: int) -> NDArray[np.float64] | None:
        """The action to send, if one is due."""
        if not self.active:
            closed = self._hand_is_closed(now_ns)
            if closed is None:
                self.problem = "nothing is known of the hand: nobody can take over without joint states"
                return None
            self.active, self._closed, self.problem, self._sent_ns = True, closed, "", 0
        before, self._closed = self._closed, self._grip(pressed)
        if self._closed == before and 0 <= stamp_ns - self._sent_ns < PERIOD_NS:
            return None
        self._sent_ns = stamp_ns
        action = np.clip(moves, -1.0, 1.0)
        action[-1] = 1.0 if self._closed else -1.0
        return action

    def _grip(self, pressed: frozenset[str]) -> bool:
        if "toggle_gripper" in pressed:
            return not self._closed
        return "close_gripper" in pressed or (self._closed and "open_gripper" not in pressed)

    def _hand_is_closed(self, now_ns: int) -> bool | None:
        """Where the hand goes, or is; None if nobody knows."""
        if self._told is not None and 0 <= now_ns - self._told[0] <= RECENT_NS:
            return self._told[1]
        return None if self._finger is None else self._finger < OPEN * self._opening

    def _wanted(self, moves: bool, pressed: frozenset[str], buttons: Sequence[int], stamp_ns: int) -> bool:
        """Whether the operator wants the arm."""
        if self._joystick.dead_man is not None:
            return _is_pressed(buttons, self._joystick.dead_man)
        if moves or any(name.endswith("_gripper") for name in pressed):
            self._moved_ns = stamp_ns
            return True
        return self.active and 0 <= stamp_ns - self._moved_ns < round(self._joystick.rest * 1e9)

    def _press(self, buttons: Sequence[int]) -> frozenset[str]:
        """Buttons that are pressed and were not; those that were held when it was first heard are not, but for the emergency stop."""
        held = frozenset(name for name, number in self._joystick.buttons.items() if _is_pressed(buttons, number))
        before, self._held = self._held, held
        return held - before if self._last_ns is not None else (held - before) & {"emergency_stop"}

    def _fault(self, axes: Sequence[float], buttons: Sequence[int], stamp_ns: int, now_ns: int) -> str:
        needed, given = self._matrix.shape[1], len(axes)
        if given < needed or (len(buttons) < self._buttons and not self._joystick.sparse_buttons):
            return f"the joystick has {given} axes and {len(buttons)} buttons, not {needed} and {self._buttons}: choose the file of config/joystick/ for it"
        if not np.isfinite(np.asarray(axes, dtype=np.float64)).all():
            return "the joystick says what is no number: look at its driver"
        if not -FUTURE_NS <= now_ns - stamp_ns <= MAX_AGE_NS:
            return f"the joystick's stamps are {(now_ns - stamp_ns) * 1e-9:+.1f} s old: let its driver use the clock of this graph"
        if self._last_ns is not None and stamp_ns < self._last_ns:
            self._last_ns = None if self._last_ns - now_ns > FUTURE_NS else self._last_ns  # the clock was set back
            return "the joystick's stamps go back: look at its driver"
        return ""

    def _lose(self, problem: str) -> None:
        """From now on nobody has the arm, until the joystick was seen at rest: command_node stops it when it hears nothing more."""
        self.active, self._ready, self.problem = False, False, problem


def _is_pressed(buttons: Sequence[int], number: int) -> bool:
    return number < len(buttons) and bool(buttons[number])
