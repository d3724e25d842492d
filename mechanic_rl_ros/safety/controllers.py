"""Whether the controllers that move the robot are active, in one line for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def inactive(states: Mapping[str, str], wanted: Iterable[str]) -> str:
    """Names the first of ``wanted`` that is not active, and what to do; "" when all are.

    Args:
        states: Of every loaded controller by its name: unconfigured, inactive, active or finalized.
        wanted: Controllers that must be active.
    """
    for name in wanted:
        state = states.get(name)
        if state is None:
            return f"controller {name} is not loaded: start it with 'ros2 run controller_manager spawner {name}'"
        if state != "active":
            return f"controller {name} is {state}: start it with 'ros2 control switch_controllers --activate {name}'"
    return ""
