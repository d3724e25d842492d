"""How a scene is put back where no simulation can: the arm drives home, a person arranges things and says so, all comes to rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

AT_REST = 0.02  # rad/s of the fastest joint
FRESH_S = 0.5  # age of joint positions that still tell where the arm is


@dataclass(frozen=True)
class SceneResetConfig:
    """What a reset waits for, and how long.

    Attributes:
        home: Joint positions (J,), rad.
        tolerance: Of every joint, rad.
        home_patience: s until the arm must be at home.
        confirm: Whether a person must say that the scene is ready.
        confirm_patience: s that a person may take.
        settle: s at home, after the person's word, until the scene counts as at rest.
    """

    home: tuple[float, ...]
    tolerance: float = 0.05
    home_patience: float = 30.0
    confirm: bool = True
    confirm_patience: float = 600.0
    settle: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """How a reset ended; ``message`` says why it failed."""

    success: bool
    message: str = ""


class SceneReset:
    """One reset after the other. Times are seconds of a monotonic clock."""

    def __init__(self, config: SceneResetConfig) -> None:
        """Starts with no reset under way."""
        self._config, self._home = config, np.array(config.home)
        self._phase, self._since = "", 0.0
        self._joints: tuple[NDArray[np.float64], NDArray[np.float64], float] | None = None  # positions, speeds, when

    def begin(self, at: float) -> None:
        """A reset is asked for: whoever moves the arm has to be told to drive home."""
        self._enter("asking", at)

    def began(self, at: float) -> None:
        """The arm has begun to drive home."""
        if self._phase == "asking":
            self._enter("driving", at)

    def refused(self, why: str) -> Verdict:
        """The arm will not drive home."""
        self._phase = ""
        return Verdict(False, f"the arm does not drive home: {why}")

    def joints(self, positions: ArrayLike, speeds: ArrayLike, at: float) -> None:
        """Takes joint positions (J,), rad, and speeds (J,), rad/s, over."""
        self._joints = np.asarray(positions, dtype=np.float64), np.asarray(speeds, dtype=np.float64), at

    def ready(self, at: float) -> str:
        """A person says that the scene is ready: "", or why that is not heard now."""
        if self._phase != "waiting":
            return {"": "no reset waits for it", "driving": "the arm is not at home yet: arrange the scene and say it then"}.get(
                self._phase, "it was said already"
            )
        self._enter("settling", at)
        return ""

    def tick(self, at: float) -> Verdict | None:
        """Lets time pass: how the reset ended, None while it goes on or where there is none."""
        if not self._phase:
            return None
        away, waited = self._away(at), at - self._since
        if self._phase == "asking":
            if waited > self._config.home_patience:
                return self._end(Verdict(False, "the service go_home does not answer: see that command_node runs"))
            return None
        if self._phase == "driving":
            if not away:
                self._enter("waiting" if self._config.confirm else "settling", at)
            elif waited > self._config.home_patience:
                return self._end(Verdict(False, f"the arm is not at home after {self._config.home_patience:g} s: {away}"))
            return None
        if away:
            return self._end(Verdict(False, f"the arm has left home: {away}"))
        if self._phase == "waiting" and waited > self._config.confirm_patience:
            return self._end(Verdict(False, f"nobody has said within {self._config.confirm_patience:g} s that the scene is ready"))
        if self._phase == "settling" and waited >= self._config.settle:
            return self._end(Verdict(True))
        return None

    @property
    def text(self) -> str:
        """What it waits for, for people; "" while there is no reset."""
        return {
            "": "",
            "asking": "the service go_home is waited for",
            "driving": "the arm drives home",
            "waiting": "arrange the scene, then call the service scene_ready or press its button",
            "settling": "the scene comes to rest",
        }[self._phase]

    @property
    def waits_for_person(self) -> bool:
        """Whether a person must do something."""
        return self._phase == "waiting"

    def _away(self, at: float) -> str:
        """Why the arm is not at rest at home, or ""."""
        if self._joints is None or at - self._joints[2] > FRESH_S:
            return "there are no joint states"
        positions, speeds, _ = self._joints
        distance = float(np.abs(positions - self._home).max())
        if not distance <= self._config.tolerance:
            return f"a joint is {distance:.2f} rad away"
        return "" if float(np.abs(speeds).max()) <= AT_REST else "it moves"

    def _enter(self, phase: str, at: float) -> None:
        self._phase, self._since = phase, at

    def _end(self, verdict: Verdict) -> Verdict:
        self._phase = ""
        return verdict
