"""Services and actions asked without blocking: one at a time, or several one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from action_msgs.msg import GoalStatus

Ended = Callable[[str], None]  # why it failed, "" when it did not

_ENDINGS = {GoalStatus.STATUS_SUCCEEDED: "", GoalStatus.STATUS_CANCELED: "cancelled", GoalStatus.STATUS_ABORTED: "aborted"}


class Step(NamedTuple):
    """One call of a procedure."""

    text: str  # what it does, for people
    server: str  # who does it, for people
    is_ready: Callable[[], bool]
    begin: Callable[[Ended], None]

    def missing(self) -> str:
        """Why it cannot begin, "" where it can: nodes that start together find each other one after the other."""
        return "" if self.is_ready() else f"{self.server} is not there"


def service_step(text: str, client: Any, request: Any, judge: Callable[[Any], str]) -> Step:
    """Calls a service; ``judge`` says why its response is a failure, or ""."""

    def begin(ended: Ended) -> None:
        client.call_async(request).add_done_callback(lambda future: ended(judge(future.result())))

    return Step(text, f"service {client.srv_name}", client.service_is_ready, begin)


def action_step(text: str, name: str, client: Any, goal: Any, judge: Callable[[Any], str]) -> Step:
    """Sends a goal to the action ``name``; ``judge`` as in ``send_goal``."""
    return Step(text, f"action {name}", client.server_is_ready, lambda ended: send_goal(client, goal, judge, ended))


def send_goal(client: Any, goal: Any, judge: Callable[[Any], str], ended: Ended) -> None:
    """Sends a goal to an action server; ``judge`` says why its result is a failure, or ""."""

    def finished(future: Any) -> None:
        answer = future.result()
        ended(judge(answer.result) or _ENDINGS.get(answer.status, "ended in an unknown way"))

    def answered(future: Any) -> None:
        handle = future.result()
        if handle.accepted:
            handle.get_result_async().add_done_callback(finished)
        else:
            ended("the goal was refused")

    client.send_goal_async(goal).add_done_callback(answered)


class Procedure:
    """Steps, one after the other; the first that fails, or is silent for too long, ends it."""

    def __init__(self, patience_s: float) -> None:
        """``patience_s``: what one step may take."""
        self._patience_s = patience_s
        self._steps: Sequence[Step] = ()
        self._index, self._turn, self._since = 0, 0, 0.0
        self._done: Ended = lambda why: None
        self.text = ""
        """What is being done now, for people; "" when nothing is."""

    def start(self, steps: Sequence[Step], done: Ended) -> None:
        """Begins with the first step; ``done`` hears how it went."""
        self._steps, self._done, self._index = steps, done, 0
        self._go()

    def tick(self) -> None:
        """Gives a step up that takes too long."""
        if self.text and time.monotonic() - self._since > self._patience_s:
            self._ended(self._turn, f"no answer within {self._patience_s:g} s")

    def _go(self) -> None:
        self._turn += 1  # an answer that comes after its step was given up must not count for another one
        turn = self._turn
        if self._index == len(self._steps):
            self.text = ""
            self._done("")
            return
        step = self._steps[self._index]
        self.text, self._since = step.text, time.monotonic()
        missing = step.missing()
        if missing:
            self._ended(turn, missing)
        else:
            step.begin(lambda why: self._ended(turn, why))

    def _ended(self, turn: int, why: str) -> None:
        if turn != self._turn:
            return
        if why:
            text, self.text = self.text, ""
            self._turn += 1
            self._done(f"{text}: {why}")
            return
        self._index += 1
        self._go()
